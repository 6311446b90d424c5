// RMSNorm with a zero-centred gain, forward and backward.
//
//   y[n,d] = x[n,d] * r[n] * (1 + w[d])            r[n] = rsqrt(mean_d x[n,d]^2 + eps)
//   g = dy * (1 + w)
//   dx[n,d] = r[n] * (g[n,d] - x[n,d] * r[n]^2 * mean_d(g * x))
//   dw[d]  += sum_n dy[n,d] * x[n,d] * r[n]
//
// shapes    x, y, dy, dx [N, D] bf16 or f32, contiguous; w [D] of the same type; r [N] f32; dw [D] f32
// launch    forward and dx: grid N, block 256, one row a block, any D
//           dw: grid ceil(D / 32), block (32, 8): 32 columns a block, 8 row lanes that stride over N, joined in shared memory
// traffic   forward 2 N D elements, dx 3 N D, dw 2 N D: all memory-bound
// numerics  sums in f32 in a fixed order, one rounding at the store; dw is added to what is there, no atomics
// compare   src/ops/rms_norm/reference.rs
#include "block.cuh"

template <typename T>
__device__ __forceinline__ void forward(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, int64_t D, float eps) {
    const int64_t row = (int64_t)blockIdx.x * D;  // 64-bit: N * D passes 2^31 on long batches
    float sum = 0.f;
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x) {
        const float v = to_float(x[row + d]);
        sum += v * v;
    }
    const float r = rsqrtf(block_sum(sum) / D + eps);
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x)
        y[row + d] = from_float<T>(to_float(x[row + d]) * r * (1.f + to_float(w[d])));
}

template <typename T>
__device__ __forceinline__ void backward_input(const T* __restrict__ dy, const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ dx,
                                               float* __restrict__ r_out, int64_t D, float eps) {
    const int64_t row = (int64_t)blockIdx.x * D;
    float squares = 0.f, dot = 0.f;
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x) {
        const float v = to_float(x[row + d]);
        squares += v * v;
        dot += to_float(dy[row + d]) * (1.f + to_float(w[d])) * v;
    }
    const float r = rsqrtf(block_sum(squares) / D + eps);
    const float scale = r * r * block_sum(dot) / D;
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x) {
        const float g = to_float(dy[row + d]) * (1.f + to_float(w[d]));
        dx[row + d] = from_float<T>(r * (g - to_float(x[row + d]) * scale));
    }
    if (threadIdx.x == 0) r_out[blockIdx.x] = r;
}

template <typename T>
__device__ __forceinline__ void backward_weight(const T* __restrict__ dy, const T* __restrict__ x, const float* __restrict__ r,
                                                float* __restrict__ dw, int64_t N, int64_t D) {
    __shared__ float lanes[8][33];
    const int64_t d = (int64_t)blockIdx.x * 32 + threadIdx.x;
    float sum = 0.f;
    if (d < D)
        for (int64_t n = threadIdx.y; n < N; n += 8) sum += to_float(dy[n * D + d]) * to_float(x[n * D + d]) * r[n];
    lanes[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && d < D) {
        for (int lane = 1; lane < 8; lane++) sum += lanes[lane][threadIdx.x];
        dw[d] += sum;
    }
}

#define RMS_NORM(T, SUFFIX)                                                                                                      \
    extern "C" __global__ void rms_norm_forward_##SUFFIX(const T* x, const T* w, T* y, int64_t D, float eps) {                   \
        forward<T>(x, w, y, D, eps);                                                                                             \
    }                                                                                                                            \
    extern "C" __global__ void rms_norm_backward_input_##SUFFIX(const T* dy, const T* x, const T* w, T* dx, float* r, int64_t D, \
                                                                float eps) {                                                     \
        backward_input<T>(dy, x, w, dx, r, D, eps);                                                                              \
    }                                                                                                                            \
    extern "C" __global__ void rms_norm_backward_weight_##SUFFIX(const T* dy, const T* x, const float* r, float* dw, int64_t N,  \
                                                                 int64_t D) {                                                    \
        backward_weight<T>(dy, x, r, dw, N, D);                                                                                  \
    }

RMS_NORM(bf16, bf16)
RMS_NORM(float, f32)
