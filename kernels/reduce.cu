// Sums over the rows of partial results, and numbers about a whole arena.
//
//   add_rows: out[m] += sum_r partial[r,m]
//   squares: out = sum x^2          non_finite: out = how many x are NaN or infinite
//
// shapes    partial [R, M], out [M] f32; x [n] bf16 or f32, partials [blocks] f64, out [1] f64
// launch    add_rows: grid ceil(M / 32), block (32, 32): 32 columns a block, 32 row lanes joined in shared memory
//           squares, non_finite: `blocks` blocks of 256 with a run of x each, then sum: 1 block of 256
// traffic   add_rows R M floats; the others n elements
// numerics  f32 lanes in add_rows, f64 in the others; the partition depends on the shapes alone, no atomics
// compare   src/ops/reduce/reference.rs
#include "block.cuh"

extern "C" __global__ void reduce_add_rows_f32(const float* partial, float* out, int64_t R, int64_t M) {
    __shared__ float lanes[32][33];
    const int64_t m = (int64_t)blockIdx.x * 32 + threadIdx.x;
    float sum = 0.f;
    if (m < M) {
#pragma unroll 8
        for (int64_t r = threadIdx.y; r < R; r += 32) sum += partial[r * M + m];
    }
    lanes[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = warp_sum(lanes[threadIdx.x][threadIdx.y]);  // warp y sums column y
    const int64_t column = (int64_t)blockIdx.x * 32 + threadIdx.y;
    if (threadIdx.x == 0 && column < M) out[column] += sum;
}

template <typename T, typename F> __device__ __forceinline__ void total(const T* x, double* partial, int64_t n, int64_t run, F f) {
    constexpr int W = WIDTH<T>;
    const int64_t first = blockIdx.x * run, last = first + run < n ? first + run : n;  // a run is a multiple of W
    const bool vector = aligned(x);
    double sum = 0.0;
#pragma unroll 4
    for (int64_t i = first + threadIdx.x * W; i < last; i += blockDim.x * W) {
        if (vector && i + W <= last) {
            float v[W];
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < W; k++) sum += f(v[k]);
        } else {
            for (int64_t j = i; j < i + W && j < last; j++) sum += f(to_float(x[j]));
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

#define REDUCE(T, SUFFIX)                                                                                               \
    extern "C" __global__ void reduce_squares_##SUFFIX(const T* x, double* partial, int64_t n, int64_t run) {           \
        total(x, partial, n, run, [](float v) { return (double)v * v; });                                               \
    }                                                                                                                   \
    extern "C" __global__ void reduce_non_finite_##SUFFIX(const T* x, double* partial, int64_t n, int64_t run) {        \
        total(x, partial, n, run, [](float v) { return isfinite(v) ? 0.0 : 1.0; });                                     \
    }                                                                                                                   \
    extern "C" __global__ void reduce_sum_##SUFFIX(const double* partial, double* out, int64_t n) {                     \
        double sum = 0.0;                                                                                               \
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += partial[i];                                        \
        sum = block_sum(sum);                                                                                           \
        if (threadIdx.x == 0) *out = sum;                                                                               \
    }

REDUCE(bf16, bf16)
REDUCE(float, f32)
