// RMSNorm with a zero-centred gain, forward and backward, alone or fused with the residual add in front of it.
//
//   h = x + residual                               without a residual h = x
//   y[n,d] = h[n,d] * r[n] * (1 + w[d])            r[n] = rsqrt(mean_d h[n,d]^2 + eps)
//   g = dy * (1 + w)
//   dx[n,d] = r[n] * (g[n,d] - h[n,d] * r[n]^2 * mean_d(g * h)) + dh[n,d]
//   dw[d]  += sum_n dy[n,d] * h[n,d] * r[n]
//
// shapes    x, residual, h, y, dy, dh, dx [N, D] bf16 or f32, contiguous; w [D] of the same type; dw partials [R, D] f32
// launch    forward: block 256, a warp a row, any D
//           backward: R blocks of 256 with a run of rows each; `warp`: a warp a row, 8 D floats of shared memory; `block`: the block
//           a row, D floats. The sums of a block go to its row of the partials, which reduce.cu adds up in order
// traffic   forward 2 N D elements (4 with the residual), backward 3 N D (4 with dh): memory-bound; rows up to 128 vectors of 16
//           bytes stay in registers between the two passes, longer ones hit the cache
// numerics  sums in f32 in a fixed order, one rounding at the store; the norm is of the rounded h; the backward computes r again
// compare   src/ops/rms_norm/reference.rs
#include "block.cuh"

constexpr int CACHED = 4;  // vectors of a row that a thread keeps in registers

template <int W, typename T>
__device__ __forceinline__ void forward_row(const T* x, const T* residual, const T* w, T* h, T* y, int64_t row, int64_t D, float eps) {
    const int lane = threadIdx.x % 32;
    const int64_t packs = D / W;
    float kept[CACHED][W];
    float sum = 0.f;
    const auto read = [&](int64_t d, float(&v)[W]) {
        load(x + row + d, v);
        if (residual) {
            float other[W];
            load(residual + row + d, other);
#pragma unroll
            for (int k = 0; k < W; k++) v[k] = to_float(from_float<T>(v[k] + other[k]));
        }
    };
#pragma unroll
    for (int p = 0; p < CACHED; p++)
        if (lane + 32 * p < packs) read((lane + 32 * p) * W, kept[p]);
#pragma unroll
    for (int p = 0; p < CACHED; p++)
        if (lane + 32 * p < packs) {
#pragma unroll
            for (int k = 0; k < W; k++) sum += kept[p][k] * kept[p][k];
        }
    for (int64_t pack = lane + 32 * CACHED; pack < packs; pack += 32) {
        float v[W];
        read(pack * W, v);
#pragma unroll
        for (int k = 0; k < W; k++) sum += v[k] * v[k];
    }
    const float r = rsqrtf(warp_sum(sum) / D + eps);
    const auto write = [&](int64_t d, float(&v)[W]) {
        float gain[W];
        load(w + d, gain);
        if (h) store(h + row + d, v);
#pragma unroll
        for (int k = 0; k < W; k++) v[k] *= r * (1.f + gain[k]);
        store(y + row + d, v);
    };
#pragma unroll
    for (int p = 0; p < CACHED; p++)
        if (lane + 32 * p < packs) write((lane + 32 * p) * W, kept[p]);
    for (int64_t pack = lane + 32 * CACHED; pack < packs; pack += 32) {
        float v[W];
        read(pack * W, v);
        write(pack * W, v);
    }
}

template <typename T>
__device__ __forceinline__ void forward(const T* x, const T* residual, const T* w, T* h, T* y, int64_t N, int64_t D, float eps) {
    const int64_t n = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (n >= N) return;
    const bool vector = D % WIDTH<T> == 0 && aligned(x, residual, w) && aligned(h, y);
    if (vector) forward_row<WIDTH<T>>(x, residual, w, h, y, n * D, D, eps);
    else forward_row<1>(x, residual, w, h, y, n * D, D, eps);
}

// Rows [first, last) of this block; `WARPS` warps share a row, so 8 / WARPS rows are under way at once.
template <int WARPS, int W, typename T>
__device__ __forceinline__ void backward_rows(const T* dy, const T* h, const T* w, const T* dh, T* dx, float* partial, int64_t first,
                                              int64_t last, int64_t D, float eps) {
    extern __shared__ float sums[];  // [groups, W, packs], so that neighbours in a warp meet different banks
    constexpr int THREADS = 32 * WARPS;
    const int lane = threadIdx.x % THREADS, group = threadIdx.x / THREADS, groups = blockDim.x / THREADS;
    const int64_t packs = D / W;
    float* mine = sums + (int64_t)group * D;  // a thread touches its own columns alone
    for (int64_t pack = lane; pack < packs; pack += THREADS)
#pragma unroll
        for (int k = 0; k < W; k++) mine[k * packs + pack] = 0.f;
    for (int64_t n = first + group; n < last; n += groups) {
        const int64_t row = n * D;
        float kept_x[CACHED][W], kept_g[CACHED][W];
        float squares = 0.f, dot = 0.f;
        const auto add = [&](int64_t pack, const float(&x)[W], const float(&d)[W]) {
            float gain[W];
            load(w + pack * W, gain);
#pragma unroll
            for (int k = 0; k < W; k++) {
                squares += x[k] * x[k];
                dot += d[k] * (1.f + gain[k]) * x[k];
            }
        };
#pragma unroll
        for (int p = 0; p < CACHED; p++)
            if (const int64_t pack = lane + THREADS * p; pack < packs) {
                load(h + row + pack * W, kept_x[p]);
                load(dy + row + pack * W, kept_g[p]);
            }
#pragma unroll
        for (int p = 0; p < CACHED; p++)
            if (const int64_t pack = lane + THREADS * p; pack < packs) add(pack, kept_x[p], kept_g[p]);
        for (int64_t pack = lane + THREADS * CACHED; pack < packs; pack += THREADS) {
            float x[W], d[W];
            load(h + row + pack * W, x);
            load(dy + row + pack * W, d);
            add(pack, x, d);
        }
        const float r = rsqrtf(row_sum<WARPS>(squares) / D + eps);
        const float scale = r * r * row_sum<WARPS>(dot) / D;
        const auto write = [&](int64_t pack, float(&x)[W], float(&d)[W]) {
            float gain[W];
            load(w + pack * W, gain);
#pragma unroll
            for (int k = 0; k < W; k++) {
                mine[k * packs + pack] += d[k] * x[k] * r;
                d[k] = r * (d[k] * (1.f + gain[k]) - x[k] * scale);
            }
            if (dh) {
                load(dh + row + pack * W, x);
#pragma unroll
                for (int k = 0; k < W; k++) d[k] += x[k];
            }
            store(dx + row + pack * W, d);
        };
#pragma unroll
        for (int p = 0; p < CACHED; p++)
            if (const int64_t pack = lane + THREADS * p; pack < packs) write(pack, kept_x[p], kept_g[p]);
        for (int64_t pack = lane + THREADS * CACHED; pack < packs; pack += THREADS) {
            float x[W], d[W];
            load(h + row + pack * W, x);
            load(dy + row + pack * W, d);
            write(pack, x, d);
        }
    }
    __syncthreads();
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x) {
        float sum = 0.f;
        for (int g = 0; g < groups; g++) sum += sums[g * D + d % W * packs + d / W];
        partial[blockIdx.x * D + d] = sum;
    }
}

template <int WARPS, typename T>
__device__ __forceinline__ void backward(const T* dy, const T* h, const T* w, const T* dh, T* dx, float* partial, int64_t N, int64_t D,
                                         int64_t rows, float eps) {
    const int64_t first = blockIdx.x * rows, last = first + rows < N ? first + rows : N;
    const bool vector = D % WIDTH<T> == 0 && aligned(dy, h, w) && aligned(dh, dx);
    if (vector) backward_rows<WARPS, WIDTH<T>>(dy, h, w, dh, dx, partial, first, last, D, eps);
    else backward_rows<WARPS, 1>(dy, h, w, dh, dx, partial, first, last, D, eps);
}

#define RMS_NORM(T, SUFFIX)                                                                                                          \
    extern "C" __global__ void rms_norm_forward_##SUFFIX(const T* x, const T* residual, const T* w, T* h, T* y, int64_t N,           \
                                                         int64_t D, float eps) {                                                     \
        forward<T>(x, residual, w, h, y, N, D, eps);                                                                                 \
    }                                                                                                                                \
    extern "C" __global__ void rms_norm_backward_warp_##SUFFIX(const T* dy, const T* h, const T* w, const T* dh, T* dx,              \
                                                               float* partial, int64_t N, int64_t D, int64_t rows, float eps) {      \
        backward<1, T>(dy, h, w, dh, dx, partial, N, D, rows, eps);                                                                  \
    }                                                                                                                                \
    extern "C" __global__ void rms_norm_backward_block_##SUFFIX(const T* dy, const T* h, const T* w, const T* dh, T* dx,             \
                                                                float* partial, int64_t N, int64_t D, int64_t rows, float eps) {     \
        backward<8, T>(dy, h, w, dh, dx, partial, N, D, rows, eps);                                                                  \
    }

RMS_NORM(bf16, bf16)
RMS_NORM(float, f32)
