// The gated delta rule token by token, for f32 and for widths without a tensor core kernel; and the last step of every backward whose dq and dk are sums.
//
//   S' = exp(g) S     d = beta (v - S'^T k)     S = S' + k d^T     o = S^T q
//   dS += q do^T      dq = S do      e = dS^T k      dv = beta e      dbeta = e . (v - S'^T k)
//   dk = dS d - beta S' e            dS' = dS - beta k e^T            dg = <S', dS'>     dS <- exp(g) dS'
//
// shapes    q, k [N, Kl, dk], v, o, do, dv [N, Hv, dv], rows `stride` apart; g, beta [N, Hv] f32; states f32;
//           by part of 32 columns of dv: dq, dk of the unit lengths [parts, N, Hv, dk], dg, dbeta [parts, N, Hv] f32
// launch    forward grid B Hv parts, backward any grid, which goes round; block 256: a warp takes every eighth row of the state, a lane one column
// traffic   not meant to be fast: three barriers a token
// numerics  f32 throughout; any dk whose 32 columns of two states fit in shared memory
// compare   src/ops/gated_delta/reference.rs
#include "gated_delta.cuh"

namespace gated_delta {

constexpr int LANES = 32, WARPS = 8;

// q times scale and k of one token at unit length, in shared memory. Begins and ends with a barrier.
template <typename T> __device__ void unit_rows(const T* q, const T* k, float* sq, float* sk, int width, float scale) {
    __syncthreads();  // the rows of the token before may still be read
    float qq = 0.f, kk = 0.f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float x = to_float(q[i]), y = to_float(k[i]);
        sq[i] = x, sk[i] = y;
        qq += x * x, kk += y * y;
    }
    const float rq = rsqrtf(block_sum(qq) + 1e-6f) * scale;
    const float rk = rsqrtf(block_sum(kk) + 1e-6f);
    for (int i = threadIdx.x; i < width; i += blockDim.x) sq[i] *= rq, sk[i] *= rk;
    __syncthreads();
}

// The sum over the warps of one value a column, in every thread of that column. Ends with no barrier: `turn` alternates between calls.
__device__ __forceinline__ float column_sum(float value, float (*partial)[WARPS][LANES], int turn) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    partial[turn][warp][lane] = value;
    __syncthreads();
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += partial[turn][w][lane];
    return sum;
}

template <typename T>
__device__ void plain_forward(const T* q, const T* k, const T* v, const float* g, const float* beta, const float* initial, const uint32_t* table, T* o,
                              float* final_state, float* states, int64_t stride_q, int64_t stride_k, int64_t stride_v, int64_t sequences, int64_t n,
                              int64_t key_heads, int64_t value_heads, int64_t dk, int64_t dv) {
    extern __shared__ float shared[];
    __shared__ float partial[2][WARPS][LANES];
    float *s = shared, *sq = s + dk * LANES, *sk = sq + dk;
    const Chunks chunks(table, sequences, n);
    const int64_t parts = (dv + LANES - 1) / LANES, pair = blockIdx.x / parts, head = pair % value_heads, sequence = pair / value_heads;
    const int64_t key_head = head * key_heads / value_heads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    const int64_t column = blockIdx.x % parts * LANES + lane;
    const bool valid = column < dv;
    const float scale = rsqrtf(float(dk));
    for (int r = warp; r < dk; r += WARPS) s[r * LANES + lane] = initial && valid ? initial[(pair * dk + r) * dv + column] : 0.f;
    for (int64_t chunk = chunks.first[sequence]; chunk < chunks.first[sequence + 1]; chunk++) {
        if (states && valid)
            for (int r = warp; r < dk; r += WARPS) states[((chunk * value_heads + head) * dk + r) * dv + column] = s[r * LANES + lane];
        const int64_t start = chunks.start[chunk];
        for (int64_t token = start; token < start + chunks.length[chunk]; token++) {
            unit_rows(q + token * stride_q + key_head * dk, k + token * stride_k + key_head * dk, sq, sk, dk, scale);
            const float decay = expf(g[token * value_heads + head]), b = beta[token * value_heads + head];
            float read = 0.f;
            for (int r = warp; r < dk; r += WARPS) {
                const float x = s[r * LANES + lane] * decay;
                s[r * LANES + lane] = x;
                read += x * sk[r];
            }
            read = column_sum(read, partial, 0);
            const float d = valid ? b * (to_float(v[token * stride_v + head * dv + column]) - read) : 0.f;
            float out = 0.f;
            for (int r = warp; r < dk; r += WARPS) {
                const float x = s[r * LANES + lane] + sk[r] * d;
                s[r * LANES + lane] = x;
                out += x * sq[r];
            }
            out = column_sum(out, partial, 1);
            if (o && valid && warp == 0) o[(token * value_heads + head) * dv + column] = from_float<T>(out);
        }
    }
    if (final_state && valid)
        for (int r = warp; r < dk; r += WARPS) final_state[(pair * dk + r) * dv + column] = s[r * LANES + lane];
}

template <typename T>
__device__ void plain_backward(const T* q, const T* k, const T* v, const T* d_o, const float* g, const float* beta, const float* states, const float* d_final,
                               const uint32_t* table, float* scratch, T* dv_out, float* dq_units, float* dk_units, float* dg, float* dbeta, float* d_initial,
                               int64_t stride_q, int64_t stride_k, int64_t stride_v, int64_t stride_do, int64_t stride_dv, int64_t sequences, int64_t n,
                               int64_t tokens, int64_t key_heads, int64_t value_heads, int64_t dk, int64_t dv) {
    extern __shared__ float shared[];
    __shared__ float partial[2][WARPS][LANES];
    float *s = shared, *ds = s + dk * LANES, *sq = ds + dk * LANES, *sk = sq + dk;
    const Chunks chunks(table, sequences, n);
    const int64_t parts = (dv + LANES - 1) / LANES;
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    const float scale = rsqrtf(float(dk));
    float* before = scratch + blockIdx.x * C * dk * LANES;  // S' of every token of the chunk
    for (int64_t block = blockIdx.x; block < sequences * value_heads * parts; block += gridDim.x) {
        const int64_t part = block % parts, pair = block / parts, head = pair % value_heads, sequence = pair / value_heads;
        const int64_t key_head = head * key_heads / value_heads, column = part * LANES + lane;
        const bool valid = column < dv;
        for (int r = warp; r < dk; r += WARPS) ds[r * LANES + lane] = d_final && valid ? d_final[(pair * dk + r) * dv + column] : 0.f;
        for (int64_t chunk = int64_t(chunks.first[sequence + 1]) - 1; chunk >= int64_t(chunks.first[sequence]); chunk--) {
            const int64_t start = chunks.start[chunk], length = chunks.length[chunk];
            for (int r = warp; r < dk; r += WARPS) s[r * LANES + lane] = valid ? states[((chunk * value_heads + head) * dk + r) * dv + column] : 0.f;
            for (int64_t i = 0; i < length; i++) {
                const int64_t token = start + i;
                unit_rows(q + token * stride_q + key_head * dk, k + token * stride_k + key_head * dk, sq, sk, dk, scale);
                const float decay = expf(g[token * value_heads + head]), b = beta[token * value_heads + head];
                float read = 0.f;
                for (int r = warp; r < dk; r += WARPS) {
                    const float x = s[r * LANES + lane] * decay;
                    s[r * LANES + lane] = x;
                    before[(i * dk + r) * LANES + lane] = x;
                    read += x * sk[r];
                }
                read = column_sum(read, partial, i & 1);
                const float d = valid ? b * (to_float(v[token * stride_v + head * dv + column]) - read) : 0.f;
                for (int r = warp; r < dk; r += WARPS) s[r * LANES + lane] += sk[r] * d;
            }
            for (int64_t i = length - 1; i >= 0; i--) {
                const int64_t token = start + i, at = (part * tokens + token) * value_heads + head;
                unit_rows(q + token * stride_q + key_head * dk, k + token * stride_k + key_head * dk, sq, sk, dk, scale);
                const float decay = expf(g[token * value_heads + head]), b = beta[token * value_heads + head];
                const float out = valid ? to_float(d_o[token * stride_do + head * dv + column]) : 0.f;
                float read = 0.f, e = 0.f;
                for (int r = warp; r < dk; r += WARPS) {
                    const float x = before[(i * dk + r) * LANES + lane], y = ds[r * LANES + lane] + sq[r] * out;
                    ds[r * LANES + lane] = y;
                    read += x * sk[r];
                    e += y * sk[r];
                }
                read = column_sum(read, partial, 0);
                e = column_sum(e, partial, 1);
                const float rest = valid ? to_float(v[token * stride_v + head * dv + column]) - read : 0.f, d = b * rest;
                float inner = 0.f;
                for (int r = warp; r < dk; r += WARPS) {
                    const float x = before[(i * dk + r) * LANES + lane], y = ds[r * LANES + lane], z = y - b * sk[r] * e;
                    const float to_q = warp_sum((x + sk[r] * d) * out), to_k = warp_sum(y * d - b * x * e);
                    if (lane == 0) {
                        dq_units[at * dk + r] = scale * to_q;
                        dk_units[at * dk + r] = to_k;
                    }
                    inner += x * z;
                    ds[r * LANES + lane] = decay * z;
                }
                inner = block_sum(inner);
                const float to_beta = warp_sum(e * rest);
                if (threadIdx.x == 0) dg[at] = inner, dbeta[at] = to_beta;
                if (valid && warp == 0) dv_out[token * stride_dv + head * dv + column] = from_float<T>(b * e);
            }
        }
        if (d_initial && valid)
            for (int r = warp; r < dk; r += WARPS) d_initial[(pair * dk + r) * dv + column] = ds[r * LANES + lane];
    }
}

// dx = r (du - u (u . du)), u = x r, for the sum du over the parts and over the value heads of a key head, in their order. A warp a row.
template <typename T> __device__ void lengths(const T* x, const float* units, T* dx, int64_t stride_x, int64_t stride_dx, int64_t tokens, int64_t key_heads,
                                              int64_t value_heads, int64_t width, int64_t parts) {
    const int lane = threadIdx.x & 31;
    const int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, shared = value_heads / key_heads;
    if (row >= tokens * key_heads) return;
    const int64_t token = row / key_heads, head = row % key_heads;
    const T* from = x + token * stride_x + head * width;
    const auto gradient = [&](int64_t i) {
        float sum = 0.f;
        for (int64_t part = 0; part < parts; part++)
            for (int64_t member = 0; member < shared; member++) sum += units[((part * tokens + token) * value_heads + head * shared + member) * width + i];
        return sum;
    };
    float squares = 0.f, along = 0.f;
    for (int64_t i = lane; i < width; i += 32) {
        const float y = to_float(from[i]);
        squares += y * y;
        along += y * gradient(i);
    }
    const float r = rsqrtf(warp_sum(squares) + 1e-6f);
    along = warp_sum(along) * r * r;
    for (int64_t i = lane; i < width; i += 32) dx[token * stride_dx + head * width + i] = from_float<T>(r * (gradient(i) - to_float(from[i]) * along));
}

}  // namespace gated_delta

#define GATED_DELTA_PLAIN(T, SUFFIX)                                                                                                                           \
    extern "C" __global__ void __launch_bounds__(256) gated_delta_plain_forward_##SUFFIX(                                                                      \
        const T* q, const T* k, const T* v, const float* g, const float* beta, const float* initial, const uint32_t* table, T* o, float* final_state,          \
        float* states, int64_t stride_q, int64_t stride_k, int64_t stride_v, int64_t sequences, int64_t n, int64_t key_heads, int64_t value_heads, int64_t dk, \
        int64_t dv) {                                                                                                                                          \
        gated_delta::plain_forward<T>(q, k, v, g, beta, initial, table, o, final_state, states, stride_q, stride_k, stride_v, sequences, n, key_heads,         \
                                      value_heads, dk, dv);                                                                                                    \
    }                                                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) gated_delta_plain_backward_##SUFFIX(                                                                     \
        const T* q, const T* k, const T* v, const T* d_o, const float* g, const float* beta, const float* states, const float* d_final, const uint32_t* table, \
        float* scratch, T* dv_out, float* dq_units, float* dk_units, float* dg, float* dbeta, float* d_initial, int64_t stride_q, int64_t stride_k,            \
        int64_t stride_v, int64_t stride_do, int64_t stride_dv, int64_t sequences, int64_t n, int64_t tokens, int64_t key_heads, int64_t value_heads,          \
        int64_t dk, int64_t dv) {                                                                                                                              \
        gated_delta::plain_backward<T>(q, k, v, d_o, g, beta, states, d_final, table, scratch, dv_out, dq_units, dk_units, dg, dbeta, d_initial, stride_q,     \
                                       stride_k, stride_v, stride_do, stride_dv, sequences, n, tokens, key_heads, value_heads, dk, dv);                        \
    }                                                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) gated_delta_lengths_##SUFFIX(const T* x, const float* units, T* dx, int64_t stride_x, int64_t stride_dx, \
                                                                                   int64_t tokens, int64_t key_heads, int64_t value_heads, int64_t width,      \
                                                                                   int64_t parts) {                                                            \
        gated_delta::lengths<T>(x, units, dx, stride_x, stride_dx, tokens, key_heads, value_heads, width, parts);                                              \
    }
GATED_DELTA_PLAIN(float, f32)
GATED_DELTA_PLAIN(bf16, bf16)

// sum[i] = the sum of the parts [parts, n] at i, in their order.
extern "C" __global__ void gated_delta_parts_f32(const float* parts, float* sum, int64_t count, int64_t n) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float total = 0.f;
    for (int64_t part = 0; part < count; part++) total += parts[part * n + i];
    sum[i] = total;
}
