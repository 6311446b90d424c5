// What every kernel file needs once: the bf16 type, conversions, vector loads and stores, sums over a warp or a block.
#pragma once
#include <cuda_bf16.h>
#include <cstdint>

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// How many values of T fill the widest access, 16 bytes.
template <typename T> constexpr int WIDTH = 16 / sizeof(T);

// A number of values as a type, so that a lambda can be called for vectors and for single values.
template <int W> struct Width { static constexpr int value = W; };

// `W` values from `p` on, in accesses of 16 (or 8) bytes; `p` is aligned to them unless W is 1.
template <int W, typename T> __device__ __forceinline__ void load(const T* p, float (&v)[W]) {
    constexpr int bytes = W * sizeof(T);
    if constexpr (W == 1) {
        v[0] = to_float(*p);
    } else {
        static_assert(bytes == 8 || bytes % 16 == 0, "no access of this width");
        alignas(16) T raw[W];
        if constexpr (bytes == 8) {
            *reinterpret_cast<uint2*>(raw) = *reinterpret_cast<const uint2*>(p);
        } else {
#pragma unroll
            for (int i = 0; i < bytes / 16; i++) reinterpret_cast<uint4*>(raw)[i] = reinterpret_cast<const uint4*>(p)[i];
        }
#pragma unroll
        for (int k = 0; k < W; k++) v[k] = to_float(raw[k]);
    }
}

// The inverse of `load`, with one rounding.
template <int W, typename T> __device__ __forceinline__ void store(T* p, const float (&v)[W]) {
    constexpr int bytes = W * sizeof(T);
    if constexpr (W == 1) {
        *p = from_float<T>(v[0]);
    } else {
        static_assert(bytes == 8 || bytes % 16 == 0, "no access of this width");
        alignas(16) T raw[W];
#pragma unroll
        for (int k = 0; k < W; k++) raw[k] = from_float<T>(v[k]);
        if constexpr (bytes == 8) {
            *reinterpret_cast<uint2*>(p) = *reinterpret_cast<uint2*>(raw);
        } else {
#pragma unroll
            for (int i = 0; i < bytes / 16; i++) reinterpret_cast<uint4*>(p)[i] = reinterpret_cast<uint4*>(raw)[i];
        }
    }
}

// Whether all pointers allow accesses of 16 bytes: views into an arena need not.
template <typename... P> __device__ __forceinline__ bool aligned(P... p) { return ((reinterpret_cast<uintptr_t>(p) | ...) & 15) == 0; }

// Calls `f(width, i)` for the values [i, i + width) of this thread, which together make all of [0, n): whole vectors where
// `vector` allows it, else one by one. Launch with ceil(n / (blockDim.x * WIDTH<T>)) blocks.
template <typename T, typename F> __device__ __forceinline__ void elementwise(int64_t n, bool vector, F f) {
    constexpr int W = WIDTH<T>;
    int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    if (vector && i + W <= n) {
        f(Width<W>{}, i);
    } else {
        for (const int64_t end = i + W < n ? i + W : n; i < end; i++) f(Width<1>{}, i);
    }
}

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

// The sum of `value` over the warp, in every lane. Same order in every run.
template <typename V> __device__ __forceinline__ V warp_sum(V value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

// The sum of `value` over the block, in every thread. Same order in every run. blockDim.x is a multiple of 32, at most 1024.
template <typename V> __device__ __forceinline__ V block_sum(V value) {
    __shared__ V partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = warp_sum(value);
    __syncthreads();  // an earlier call may still be read
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    return warp_sum(lane < warps ? partial[lane] : V(0));
}

// The sum over the threads that share a row: a warp, or all warps of the block.
template <int WARPS> __device__ __forceinline__ float row_sum(float value) {
    if constexpr (WARPS == 1) return warp_sum(value);
    else return block_sum(value);
}
