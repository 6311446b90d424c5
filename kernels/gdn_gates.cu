// The gates of the gated delta net, forward and backward.
//
//   g = -exp(A_log) softplus(a + dt_bias)            beta = sigmoid(b)
//   da = -dg exp(A_log) sigmoid(a + dt_bias)         db = dbeta beta (1 - beta)
//   dA_log[h] += sum_n dg g                          ddt_bias[h] += sum_n da
//
// shapes    a, b, da, db [N, H] bf16 or f32, rows `*_row` elements apart; g, beta, dg, dbeta [N, H], A_log, dt_bias [H] f32; partials
//           [2, R, H] f32: of A_log, then of dt_bias
// launch    block (X, 256 / X) with X a power of two up to 32: X heads, 256 / X tokens at once; grid R runs of tokens. H above X loops
// traffic   a few bytes a token and head: bound by the launch
// numerics  f32 in a fixed order, one rounding at the store of da and db; reduce.cu adds up the partials in order
// compare   src/ops/gdn_gates/reference.rs
#include "block.cuh"

__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.f) + log1pf(expf(-fabsf(x))); }

template <typename T>
__device__ __forceinline__ void forward(const T* a, const T* b, const float* a_log, const float* dt_bias, float* g, float* beta, int64_t N,
                                        int64_t H, int64_t a_row, int64_t b_row, int64_t run) {
    const int64_t first = blockIdx.x * run, last = first + run < N ? first + run : N;
    for (int64_t h = threadIdx.x; h < H; h += blockDim.x) {
        const float rate = -expf(a_log[h]), bias = dt_bias[h];
#pragma unroll 4
        for (int64_t n = first + threadIdx.y; n < last; n += blockDim.y) {
            g[n * H + h] = rate * softplus(to_float(a[n * a_row + h]) + bias);
            beta[n * H + h] = sigmoid(to_float(b[n * b_row + h]));
        }
    }
}

template <typename T>
__device__ __forceinline__ void backward(const float* dg, const float* dbeta, const T* a, const T* b, const float* a_log,
                                         const float* dt_bias, T* da, T* db, float* partial, int64_t N, int64_t H, int64_t a_row,
                                         int64_t b_row, int64_t da_row, int64_t db_row, int64_t run) {
    __shared__ float sums[2][256];
    const int64_t first = blockIdx.x * run, last = first + run < N ? first + run : N;
    const int64_t heads = (H + blockDim.x - 1) / blockDim.x * blockDim.x;  // all threads meet at the barriers
    for (int64_t h = threadIdx.x; h < heads; h += blockDim.x) {
        float log_sum = 0.f, bias_sum = 0.f;
        if (h < H) {
            const float rate = -expf(a_log[h]), bias = dt_bias[h];
#pragma unroll 4
            for (int64_t n = first + threadIdx.y; n < last; n += blockDim.y) {
                const float x = to_float(a[n * a_row + h]) + bias, up = dg[n * H + h] * rate, step = up * sigmoid(x);
                const float s = sigmoid(to_float(b[n * b_row + h]));
                log_sum += up * softplus(x);
                bias_sum += step;
                da[n * da_row + h] = from_float<T>(step);
                db[n * db_row + h] = from_float<T>(dbeta[n * H + h] * s * (1.f - s));
            }
        }
        const int me = threadIdx.y * blockDim.x + threadIdx.x;
        __syncthreads();  // the sums of earlier heads may still be read
        sums[0][me] = log_sum, sums[1][me] = bias_sum;
        __syncthreads();
        if (threadIdx.y < 2 && h < H) {
            float sum = 0.f;
            for (int y = 0; y < blockDim.y; y++) sum += sums[threadIdx.y][y * blockDim.x + threadIdx.x];
            partial[(threadIdx.y * (int64_t)gridDim.x + blockIdx.x) * H + h] = sum;
        }
    }
}

#define GDN_GATES(T, SUFFIX)                                                                                                         \
    extern "C" __global__ void gdn_gates_forward_##SUFFIX(const T* a, const T* b, const float* a_log, const float* dt_bias, float* g, \
                                                          float* beta, int64_t N, int64_t H, int64_t a_row, int64_t b_row,           \
                                                          int64_t run) {                                                             \
        forward<T>(a, b, a_log, dt_bias, g, beta, N, H, a_row, b_row, run);                                                          \
    }                                                                                                                                \
    extern "C" __global__ void gdn_gates_backward_##SUFFIX(const float* dg, const float* dbeta, const T* a, const T* b,              \
                                                           const float* a_log, const float* dt_bias, T* da, T* db, float* partial,   \
                                                           int64_t N, int64_t H, int64_t a_row, int64_t b_row, int64_t da_row,       \
                                                           int64_t db_row, int64_t run) {                                            \
        backward<T>(dg, dbeta, a, b, a_log, dt_bias, da, db, partial, N, H, a_row, b_row, da_row, db_row, run);                      \
    }

GDN_GATES(bf16, bf16)
GDN_GATES(float, f32)
