// Sums and multiples of whole tensors.
//
//   add: y = a + b          add_assign: a += b          scale: a *= factor
//
// shapes    all [n] bf16 or f32, contiguous
// launch    block 256, 16 bytes of each tensor a thread
// traffic   add and add_assign 3 n elements, scale 2 n: memory-bound
// numerics  f32, one rounding at the store
// compare   src/ops/arithmetic.rs
#include "block.cuh"

template <typename T> __device__ __forceinline__ void add(const T* a, const T* b, T* y, int64_t n) {
    elementwise<T>(n, aligned(a, b, y), [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        float left[W], right[W];
        load(a + i, left);
        load(b + i, right);
#pragma unroll
        for (int k = 0; k < W; k++) left[k] += right[k];
        store(y + i, left);
    });
}

template <typename T> __device__ __forceinline__ void scale(T* a, int64_t n, float factor) {
    elementwise<T>(n, aligned(a), [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        float v[W];
        load(a + i, v);
#pragma unroll
        for (int k = 0; k < W; k++) v[k] *= factor;
        store(a + i, v);
    });
}

#define ARITHMETIC(T, SUFFIX)                                                                                              \
    extern "C" __global__ void add_##SUFFIX(const T* a, const T* b, T* y, int64_t n) { add<T>(a, b, y, n); }               \
    extern "C" __global__ void scale_##SUFFIX(T* a, int64_t n, float factor) { scale<T>(a, n, factor); }

ARITHMETIC(bf16, bf16)
ARITHMETIC(float, f32)
