// Cross entropy of rows of logits, its gradient in place of them, and its sums.
//
//   lse = ln sum_v exp(x[v])        ce = lse - x[label]  (0 for weight 0)        argmax = the lowest of the likeliest ids
//   x[v] = scale weight (exp(x[v] - lse) - (v == label))      when there is a gradient; all 0 for weight 0
//   sums = (sum_n weight[n] ce[n], how many n of nonzero weight have argmax[n] == label[n])
//
// shapes    x [R, stride] bf16 or f32 of which V columns count, rows 16-byte aligned; label, argmax [R] u32; weight, ce, lse [R] f32;
//           scale [1] f32, or null: no gradient; sums [2] f64
// launch    cluster: 8 blocks of 512 a row, each with its part of the row in shared memory (sm_90; ceil(V / 8) values must fit)
//           block: 1 block of 1024 a row, which reads it twice         sums: 1 block of 1024
// traffic   cluster: each row read once and written once, so memory-bound; block: one read more, from the L2 cache if it is there
// numerics  f32, each thread with a maximum of its own that its sum refers to; one rounding at the store. bf16 takes the fast
//           exponential, two roundings off the exact one; f32 does not. NaN is passed over as argmax, and makes lse NaN
// compare   src/ops/cross_entropy/reference.rs
#include "block.cuh"
#include <cooperative_groups.h>
#include <math_constants.h>

namespace cg = cooperative_groups;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr int CLUSTER = 8;
#define ROW_CLUSTER __cluster_dims__(CLUSTER, 1, 1)
#else
#define ROW_CLUSTER
#endif
constexpr float LOG2E = 1.4426950408889634f;

// What a block knows of its part of a row.
struct Part {
    float max;
    float sum;  // of exp(x - max)
    float target;
    uint32_t argmax;
};

struct Row {
    const uint32_t* label;
    const float* weight;
    float* ce;
    float* lse;
    uint32_t* argmax;
};

template <typename T> __device__ __forceinline__ float exponential(float x);
template <> __device__ __forceinline__ float exponential<float>(float x) { return expf(x); }
template <> __device__ __forceinline__ float exponential<bf16>(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * LOG2E));
    return y;
}

// The values of vector `i` of the row, minus infinity beyond the last of V.
template <typename T> __device__ __forceinline__ void values(const uint4* x, int64_t i, int64_t base, int64_t V, float (&v)[WIDTH<T>]) {
    load(reinterpret_cast<const T*>(x + i), v);
    const int64_t first = (base + i) * WIDTH<T>;
    if (first + WIDTH<T> > V) {
#pragma unroll
        for (int k = 0; k < WIDTH<T>; k++)
            if (first + k >= V) v[k] = -CUDART_INF_F;
    }
}

__device__ __forceinline__ float block_max(float value) {
    __shared__ float partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    __syncthreads();
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    value = lane < warps ? partial[lane] : -CUDART_INF_F;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

__device__ __forceinline__ uint32_t block_min(uint32_t value) {
    __shared__ uint32_t partial[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = __reduce_min_sync(0xffffffffu, value);
    __syncthreads();
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    return __reduce_min_sync(0xffffffffu, lane < warps ? partial[lane] : 0xffffffffu);
}

// Maximum, sum and argmax over the `count` vectors of this block, which begin at vector `base` of the row.
template <typename T> __device__ __forceinline__ Part look(const uint4* x, int64_t count, int64_t base, int64_t V) {
    constexpr int W = WIDTH<T>;
    float max = -CUDART_INF_F, sum = 0.f;
    int64_t at = -1;  // the vector that holds the first maximum of this thread
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
        float v[W];
        values<T>(x, i, base, V, v);
        float here = v[0];
#pragma unroll
        for (int k = 1; k < W; k++) here = fmaxf(here, v[k]);
        if (here > max) {
            sum *= exponential<T>(max - here);
            max = here;
            at = i;
        }
#pragma unroll
        for (int k = 0; k < W; k++) sum += exponential<T>(v[k] - max);
    }
    const float highest = block_max(max);
    uint32_t argmax = 0xffffffffu;
    if (max == highest && at >= 0) {
        float v[W];
        values<T>(x, at, base, V, v);
#pragma unroll
        for (int k = W - 1; k >= 0; k--)
            if (v[k] == highest) argmax = (uint32_t)((base + at) * W + k);
    }
    sum = count > threadIdx.x ? sum * exponential<T>(max - highest) : 0.f;
    return {highest, block_sum(sum), 0.f, block_min(argmax)};
}

// The gradient of the vectors of this block, from `x` into `out`, which may be the same.
template <typename T>
__device__ __forceinline__ void differentiate(const uint4* x, uint4* out, int64_t count, int64_t base, int64_t V, float max, float sum,
                                              float factor, int64_t label) {
    constexpr int W = WIDTH<T>;
    const float each = factor / sum;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
        float v[W];
        if (factor == 0.f) {
#pragma unroll
            for (int k = 0; k < W; k++) v[k] = 0.f;
        } else {
            values<T>(x, i, base, V, v);
            const int64_t first = (base + i) * W;
#pragma unroll
            for (int k = 0; k < W; k++) v[k] = exponential<T>(v[k] - max) * each;
            const uint64_t at = (uint64_t)(label - first);
            if (at < W) {
#pragma unroll
                for (int k = 0; k < W; k++) v[k] -= at == k ? factor : 0.f;
            }
        }
        store(reinterpret_cast<T*>(out + i), v);
    }
}

__device__ __forceinline__ void finish(const Row& row, int64_t n, const Part& whole, float weight) {
    const float log_sum = logf(whole.sum);
    row.lse[n] = whole.max + log_sum;
    row.ce[n] = weight == 0.f ? 0.f : log_sum + (whole.max - whole.target);
    row.argmax[n] = whole.argmax == 0xffffffffu ? 0 : whole.argmax;
}

// The logit of the label when it lies in this block's vectors, else 0.
template <typename T> __device__ __forceinline__ float target(const uint4* x, int64_t count, int64_t base, int64_t label) {
    const int64_t here = label - base * WIDTH<T>;
    return label >= 0 && here >= 0 && here < count * WIDTH<T> ? to_float(reinterpret_cast<const T*>(x)[here]) : 0.f;
}

template <typename T> __device__ __forceinline__ void by_block(T* x, Row row, int64_t V, int64_t stride, const float* scale) {
    const int64_t n = blockIdx.x, count = (V + WIDTH<T> - 1) / WIDTH<T>;
    uint4* vectors = reinterpret_cast<uint4*>(x + n * stride);
    const float weight = row.weight[n], factor = scale ? *scale * weight : 0.f;
    const int64_t label = weight == 0.f ? -1 : (int64_t)row.label[n];
    Part whole = look<T>(vectors, count, 0, V);
    whole.target = target<T>(vectors, count, 0, label);
    if (threadIdx.x == 0) finish(row, n, whole, weight);
    __syncthreads();  // the label's logit is read before it is overwritten
    if (scale) differentiate<T>(vectors, vectors, count, 0, V, whole.max, whole.sum, factor, label);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <typename T> __device__ __forceinline__ void by_cluster(T* x, Row row, int64_t V, int64_t stride, const float* scale) {
    extern __shared__ uint4 part[];
    __shared__ Part mine;
    cg::cluster_group cluster = cg::this_cluster();
    const int rank = cluster.block_rank();
    const int64_t n = blockIdx.x / CLUSTER, all = (V + WIDTH<T> - 1) / WIDTH<T>, each = (all + CLUSTER - 1) / CLUSTER;
    const int64_t base = rank * each, count = base + each < all ? each : (all > base ? all - base : 0);
    uint4* vectors = reinterpret_cast<uint4*>(x + n * stride) + base;
    const uint32_t shared = (uint32_t)__cvta_generic_to_shared(part);
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared + (uint32_t)i * 16), "l"(vectors + i) : "memory");
    const float weight = row.weight[n], factor = scale ? *scale * weight : 0.f;
    const int64_t label = weight == 0.f ? -1 : (int64_t)row.label[n];
    asm volatile("cp.async.wait_all;" ::: "memory");
    Part found = look<T>(part, count, base, V);  // each thread reads what it copied, and others after a barrier
    if (threadIdx.x == 0) {
        found.target = target<T>(part, count, base, label);
        mine = found;
    }
    cluster.sync();
    Part whole = *cluster.map_shared_rank(&mine, 0);
    Part parts[CLUSTER];
#pragma unroll
    for (int r = 0; r < CLUSTER; r++) {
        parts[r] = *cluster.map_shared_rank(&mine, r);
        if (r > 0 && parts[r].max > whole.max) whole.max = parts[r].max, whole.argmax = parts[r].argmax;
    }
    whole.sum = whole.target = 0.f;
#pragma unroll
    for (int r = 0; r < CLUSTER; r++) {
        whole.sum += parts[r].sum == 0.f ? 0.f : parts[r].sum * exponential<T>(parts[r].max - whole.max);
        whole.target += parts[r].target;
    }
    asm volatile("barrier.cluster.arrive;" ::: "memory");  // done with the parts of others
    if (rank == 0 && threadIdx.x == 0) finish(row, n, whole, weight);
    if (scale) differentiate<T>(part, vectors, count, base, V, whole.max, whole.sum, factor, label);
    asm volatile("barrier.cluster.wait;" ::: "memory");  // others are done with mine
}
#endif

extern "C" __global__ void cross_entropy_sums_f32(const float* ce, const uint32_t* argmax, const uint32_t* label, const float* weight,
                                                  double* sums, int64_t N) {
    double loss = 0.0, correct = 0.0;
    for (int64_t n = threadIdx.x; n < N; n += blockDim.x) {
        if (weight[n] != 0.f) {
            loss += (double)weight[n] * ce[n];
            correct += argmax[n] == label[n] ? 1.0 : 0.0;
        }
    }
    loss = block_sum(loss);
    correct = block_sum(correct);
    if (threadIdx.x == 0) sums[0] = loss, sums[1] = correct;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define BY_CLUSTER(T) by_cluster<T>(x, {label, weight, ce, lse, argmax}, V, stride, scale);
#else
#define BY_CLUSTER(T)
#endif
#define CROSS_ENTROPY(T, SUFFIX)                                                                                                      \
    extern "C" __global__ void __launch_bounds__(1024)                                                                                \
        cross_entropy_block_##SUFFIX(T* x, const uint32_t* label, const float* weight, float* ce, float* lse, uint32_t* argmax,       \
                                     int64_t V, int64_t stride, const float* scale) {                                                 \
        by_block<T>(x, {label, weight, ce, lse, argmax}, V, stride, scale);                                                           \
    }                                                                                                                                 \
    extern "C" __global__ void ROW_CLUSTER __launch_bounds__(512)                                                                     \
        cross_entropy_cluster_##SUFFIX(T* x, const uint32_t* label, const float* weight, float* ce, float* lse, uint32_t* argmax,     \
                                       int64_t V, int64_t stride, const float* scale) {                                               \
        BY_CLUSTER(T)                                                                                                                 \
    }

CROSS_ENTROPY(bf16, bf16)
CROSS_ENTROPY(float, f32)
