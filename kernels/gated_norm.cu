// The gated RMSNorm of the gated delta net, forward and backward: norm first, gate after, plain gain.
//
//   y[n,d] = w[d] * x[n,d] * r[n] * silu(z[n,d])            r[n] = rsqrt(mean_d x[n,d]^2 + eps)
//   u = x r, g = dy w silu(z):  dx = r (g - u mean_d(g u)),  dz = dy w u silu'(z),  dw[d] += sum_n dy u silu(z)
//
// shapes    x, z, y, dy, dx, dz [N, D] bf16 or f32, contiguous; w [D] of the same type; dw partials [R, D] f32
// launch    block 256, a warp a row; forward grid ceil(N / 8), any D; backward R blocks with a run of rows each and 8 D floats of
//           shared memory, whose sums reduce.cu adds up in order
// traffic   forward 3 N D elements, backward 5 N D: memory-bound; the second pass over a row hits the cache
// numerics  sums in f32 in a fixed order, one rounding at the store; the backward computes r again
// compare   src/ops/gated_norm/reference.rs
#include "block.cuh"

template <int W, typename T> __device__ __forceinline__ float inverse_rms(const T* x, int64_t packs, int64_t D, float eps) {
    float sum = 0.f;
    for (int64_t pack = threadIdx.x % 32; pack < packs; pack += 32) {
        float v[W];
        load(x + pack * W, v);
#pragma unroll
        for (int k = 0; k < W; k++) sum += v[k] * v[k];
    }
    return rsqrtf(warp_sum(sum) / D + eps);
}

template <int W, typename T>
__device__ __forceinline__ void forward_row(const T* x, const T* z, const T* w, T* y, int64_t D, float eps) {
    const int64_t packs = D / W;
    const float r = inverse_rms<W>(x, packs, D, eps);
    for (int64_t pack = threadIdx.x % 32; pack < packs; pack += 32) {
        float v[W], gate[W], gain[W];
        load(x + pack * W, v);
        load(z + pack * W, gate);
        load(w + pack * W, gain);
#pragma unroll
        for (int k = 0; k < W; k++) v[k] = gain[k] * (v[k] * r) * (gate[k] * sigmoid(gate[k]));
        store(y + pack * W, v);
    }
}

template <typename T> __device__ __forceinline__ void forward(const T* x, const T* z, const T* w, T* y, int64_t N, int64_t D, float eps) {
    const int64_t n = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (n >= N) return;
    const int64_t row = n * D;
    if (D % WIDTH<T> == 0 && aligned(x, z, w) && aligned(y)) forward_row<WIDTH<T>>(x + row, z + row, w, y + row, D, eps);
    else forward_row<1>(x + row, z + row, w, y + row, D, eps);
}

template <int W, typename T>
__device__ __forceinline__ void backward_rows(const T* dy, const T* x, const T* z, const T* w, T* dx, T* dz, float* partial, int64_t first,
                                              int64_t last, int64_t D, float eps) {
    extern __shared__ float sums[];  // [warps, W, packs], so that neighbours in a warp meet different banks
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int64_t packs = D / W;
    float* mine = sums + warp * D;  // a thread touches its own columns alone
    for (int64_t pack = lane; pack < packs; pack += 32)
#pragma unroll
        for (int k = 0; k < W; k++) mine[k * packs + pack] = 0.f;
    for (int64_t n = first + warp; n < last; n += warps) {
        const int64_t row = n * D;
        const float r = inverse_rms<W>(x + row, packs, D, eps);
        float dot = 0.f;  // of g and u
        for (int64_t pack = lane; pack < packs; pack += 32) {
            float d[W], v[W], gate[W], gain[W];
            load(dy + row + pack * W, d);
            load(x + row + pack * W, v);
            load(z + row + pack * W, gate);
            load(w + pack * W, gain);
#pragma unroll
            for (int k = 0; k < W; k++) {
                const float s = sigmoid(gate[k]), u = v[k] * r, silu = gate[k] * s;
                mine[k * packs + pack] += d[k] * u * silu;
                dot += d[k] * gain[k] * silu * u;
                gate[k] = d[k] * gain[k] * u * (s * (1.f + gate[k] * (1.f - s)));
            }
            store(dz + row + pack * W, gate);
        }
        const float mean = warp_sum(dot) / D;
        for (int64_t pack = lane; pack < packs; pack += 32) {
            float d[W], v[W], gate[W], gain[W];
            load(dy + row + pack * W, d);
            load(x + row + pack * W, v);
            load(z + row + pack * W, gate);
            load(w + pack * W, gain);
#pragma unroll
            for (int k = 0; k < W; k++) d[k] = r * (d[k] * gain[k] * (gate[k] * sigmoid(gate[k])) - v[k] * r * mean);
            store(dx + row + pack * W, d);
        }
    }
    __syncthreads();
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x) {
        float sum = 0.f;
        for (int g = 0; g < warps; g++) sum += sums[g * D + d % W * packs + d / W];
        partial[blockIdx.x * D + d] = sum;
    }
}

template <typename T>
__device__ __forceinline__ void backward(const T* dy, const T* x, const T* z, const T* w, T* dx, T* dz, float* partial, int64_t N,
                                         int64_t D, int64_t rows, float eps) {
    const int64_t first = blockIdx.x * rows, last = first + rows < N ? first + rows : N;
    if (D % WIDTH<T> == 0 && aligned(dy, x, z) && aligned(w, dx, dz))
        backward_rows<WIDTH<T>>(dy, x, z, w, dx, dz, partial, first, last, D, eps);
    else backward_rows<1>(dy, x, z, w, dx, dz, partial, first, last, D, eps);
}

#define GATED_NORM(T, SUFFIX)                                                                                                        \
    extern "C" __global__ void gated_norm_forward_##SUFFIX(const T* x, const T* z, const T* w, T* y, int64_t N, int64_t D,           \
                                                           float eps) {                                                              \
        forward<T>(x, z, w, y, N, D, eps);                                                                                           \
    }                                                                                                                                \
    extern "C" __global__ void gated_norm_backward_##SUFFIX(const T* dy, const T* x, const T* z, const T* w, T* dx, T* dz,           \
                                                            float* partial, int64_t N, int64_t D, int64_t rows, float eps) {         \
        backward<T>(dy, x, z, w, dx, dz, partial, N, D, rows, eps);                                                                  \
    }

GATED_NORM(bf16, bf16)
GATED_NORM(float, f32)
