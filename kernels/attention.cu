// Causal softmax attention with grouped key-value heads over packed documents: the form for any type and width, and delta.
//
//   S = scale q k^T for keys up to the query    P = softmax(S)    o = P v    lse = ln sum exp S
//   delta = sum_d do o    dv = P^T do    dS = P (do v^T - delta)    dq = scale dS k    dk = scale dS^T q
//
// shapes    q, o, do, dq [N, H, D], k, dk [N, K, D] contiguous; v, dv [N, K, D] with a row stride; bf16 or f32; D at most 256;
//           lse, delta [N, H] f32; table [blocks, 3] u32: first and last + 1 token of the document, first token of the block
// launch    a block of 256 for 32 rows of a head, (blocks, H) or for dk, dv (blocks, K): a warp has four rows, a lane every 32nd column
//           of them; shared memory 3 tiles of 32 rows in f32. The suffix 64, 128, 256 is the widest D
// numerics  f32 throughout; dk and dv add the query heads of their group one after the other, so all sums have a fixed order
// compare   src/ops/attention/reference.rs; attention_wgmma.cu is the fast form for bf16, D = 256 on sm_90a
#include "block.cuh"

constexpr int ROWS = 32;  // of a tile: as many as lanes, so that a lane can have a score of each of its warp's rows
constexpr int MINE = 4;   // rows of a warp

// Rows [first, first + 32) of a matrix with `stride`, zeros from `end` on.
template <typename T>
__device__ __forceinline__ void read_tile(float* tile, int pitch, const T* x, int64_t stride, int64_t first, int64_t end, int D) {
    for (int i = threadIdx.x; i < ROWS * D; i += blockDim.x) {
        const int row = i / D, d = i % D;
        tile[row * pitch + d] = first + row < end ? to_float(x[(first + row) * stride + d]) : 0.f;
    }
}

// dot[r] = own row r of the warp times the row of the lane.
__device__ __forceinline__ void dots(float (&dot)[MINE], const float* own, const float* other, int D) {
    const float* theirs = other + (threadIdx.x % 32) * (D + 1);
    const float* mine = own + threadIdx.x / 32 * MINE * D;
#pragma unroll
    for (int r = 0; r < MINE; r++) dot[r] = 0.f;
    for (int d = 0; d < D; d++)
#pragma unroll
        for (int r = 0; r < MINE; r++) dot[r] += mine[r * D + d] * theirs[d];
}

// sum[r] += sum over the rows of the tile of weight[r] of that row's lane times the row.
template <int COLUMNS>
__device__ __forceinline__ void accumulate(float (&sum)[MINE][COLUMNS], const float (&weight)[MINE], const float* tile, int D) {
    const int lane = threadIdx.x % 32;
    for (int row = 0; row < ROWS; row++) {
        float w[MINE];
#pragma unroll
        for (int r = 0; r < MINE; r++) w[r] = __shfl_sync(0xffffffffu, weight[r], row);
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const float x = lane + 32 * c < D ? tile[row * (D + 1) + lane + 32 * c] : 0.f;
#pragma unroll
            for (int r = 0; r < MINE; r++) sum[r][c] += w[r] * x;
        }
    }
}

template <int COLUMNS, typename T>
__device__ __forceinline__ void write_rows(const float (&sum)[MINE][COLUMNS], const float (&factor)[MINE], T* y, int64_t stride,
                                           int64_t first, int64_t end, int D) {
    const int lane = threadIdx.x % 32;
    const int64_t row = first + threadIdx.x / 32 * MINE;
#pragma unroll
    for (int r = 0; r < MINE; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            if (row + r < end && lane + 32 * c < D) y[(row + r) * stride + lane + 32 * c] = from_float<T>(sum[r][c] * factor[r]);
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

template <int COLUMNS, typename T>
__device__ __forceinline__ void forward(const T* q, const T* k, const T* v, T* o, float* lse, const uint32_t* table, int64_t H,
                                        int64_t K, int64_t D, int64_t v_stride, float scale) {
    extern __shared__ float tiles[];
    float *own = tiles, *other = tiles + ROWS * D;
    const int64_t start = table[3 * blockIdx.x], end = table[3 * blockIdx.x + 1], first = table[3 * blockIdx.x + 2];
    const int64_t head = blockIdx.y, kv_head = head / (H / K);
    const int lane = threadIdx.x % 32;
    const int64_t row = first + threadIdx.x / 32 * MINE;
    float sum[MINE][COLUMNS] = {}, highest[MINE], total[MINE] = {};
#pragma unroll
    for (int r = 0; r < MINE; r++) highest[r] = -INFINITY;
    read_tile(own, D, q + head * D, H * D, first, end, D);
    for (int64_t key = start; key < end && key < first + ROWS; key += ROWS) {
        __syncthreads();
        read_tile(other, D + 1, k + kv_head * D, K * D, key, end, D);
        __syncthreads();
        float p[MINE];
        dots(p, own, other, D);
#pragma unroll
        for (int r = 0; r < MINE; r++) {
            const float s = key + lane <= row + r ? p[r] * scale : -INFINITY;
            const float top = fmaxf(highest[r], warp_max(s));  // finite: the first key is visible to every query
            const float factor = expf(highest[r] - top);
            p[r] = expf(s - top);
            total[r] = total[r] * factor + warp_sum(p[r]);
            highest[r] = top;
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sum[r][c] *= factor;
        }
        __syncthreads();
        read_tile(other, D + 1, v + kv_head * D, v_stride, key, end, D);
        __syncthreads();
        accumulate(sum, p, other, D);
    }
    float factor[MINE];
#pragma unroll
    for (int r = 0; r < MINE; r++) {
        factor[r] = 1.f / total[r];
        if (lane == 0 && row + r < end) lse[(row + r) * H + head] = highest[r] + logf(total[r]);
    }
    write_rows(sum, factor, o + head * D, H * D, first, end, D);
}

// The gradient of the queries of a block.
template <int COLUMNS, typename T>
__device__ __forceinline__ void backward_query(const T* d_o, const T* q, const T* k, const T* v, const float* lse, const float* delta,
                                               T* dq, const uint32_t* table, int64_t H, int64_t K, int64_t D, int64_t v_stride,
                                               float scale) {
    extern __shared__ float tiles[];
    float *own_q = tiles, *own_do = tiles + ROWS * D, *other = tiles + 2 * ROWS * D;
    const int64_t start = table[3 * blockIdx.x], end = table[3 * blockIdx.x + 1], first = table[3 * blockIdx.x + 2];
    const int64_t head = blockIdx.y, kv_head = head / (H / K);
    const int lane = threadIdx.x % 32;
    const int64_t row = first + threadIdx.x / 32 * MINE;
    float sum[MINE][COLUMNS] = {}, l[MINE], del[MINE], factor[MINE];
#pragma unroll
    for (int r = 0; r < MINE; r++) {
        l[r] = row + r < end ? lse[(row + r) * H + head] : 0.f;
        del[r] = row + r < end ? delta[(row + r) * H + head] : 0.f;
        factor[r] = scale;
    }
    read_tile(own_q, D, q + head * D, H * D, first, end, D);
    read_tile(own_do, D, d_o + head * D, H * D, first, end, D);
    for (int64_t key = start; key < end && key < first + ROWS; key += ROWS) {
        float s[MINE], ds[MINE];
        __syncthreads();
        read_tile(other, D + 1, v + kv_head * D, v_stride, key, end, D);
        __syncthreads();
        dots(ds, own_do, other, D);
        __syncthreads();
        read_tile(other, D + 1, k + kv_head * D, K * D, key, end, D);
        __syncthreads();
        dots(s, own_q, other, D);
#pragma unroll
        for (int r = 0; r < MINE; r++) ds[r] = key + lane <= row + r ? expf(s[r] * scale - l[r]) * (ds[r] - del[r]) : 0.f;
        accumulate(sum, ds, other, D);
    }
    write_rows(sum, factor, dq + head * D, H * D, first, end, D);
}

// The gradients of the keys and values of a block, from every query head of their group.
template <int COLUMNS, typename T>
__device__ __forceinline__ void backward_key(const T* d_o, const T* q, const T* k, const T* v, const float* lse, const float* delta,
                                             T* dk, T* dv, const uint32_t* table, int64_t H, int64_t K, int64_t D, int64_t v_stride,
                                             int64_t dv_stride, float scale) {
    extern __shared__ float tiles[];
    float *own_k = tiles, *own_v = tiles + ROWS * D, *other = tiles + 2 * ROWS * D;
    const int64_t end = table[3 * blockIdx.x + 1], first = table[3 * blockIdx.x + 2];
    const int64_t kv_head = blockIdx.y;
    const int lane = threadIdx.x % 32;
    const int64_t row = first + threadIdx.x / 32 * MINE;
    float sum_k[MINE][COLUMNS] = {}, sum_v[MINE][COLUMNS] = {}, once[MINE], factor[MINE];
#pragma unroll
    for (int r = 0; r < MINE; r++) once[r] = 1.f, factor[r] = scale;
    read_tile(own_k, D, k + kv_head * D, K * D, first, end, D);
    read_tile(own_v, D, v + kv_head * D, v_stride, first, end, D);
    for (int64_t head = kv_head * (H / K); head < (kv_head + 1) * (H / K); head++)
        for (int64_t query = first; query < end; query += ROWS) {
            const bool inside = query + lane < end;
            const float l = inside ? lse[(query + lane) * H + head] : 0.f;
            const float del = inside ? delta[(query + lane) * H + head] : 0.f;
            float p[MINE], ds[MINE];
            __syncthreads();
            read_tile(other, D + 1, q + head * D, H * D, query, end, D);
            __syncthreads();
            dots(p, own_k, other, D);
#pragma unroll
            for (int r = 0; r < MINE; r++) p[r] = inside && row + r <= query + lane ? expf(p[r] * scale - l) : 0.f;
            __syncthreads();
            read_tile(other, D + 1, d_o + head * D, H * D, query, end, D);
            __syncthreads();
            dots(ds, own_v, other, D);
            accumulate(sum_v, p, other, D);
#pragma unroll
            for (int r = 0; r < MINE; r++) ds[r] = p[r] * (ds[r] - del);
            __syncthreads();
            read_tile(other, D + 1, q + head * D, H * D, query, end, D);
            __syncthreads();
            accumulate(sum_k, ds, other, D);
        }
    write_rows(sum_k, factor, dk + kv_head * D, K * D, first, end, D);
    write_rows(sum_v, once, dv + kv_head * D, dv_stride, first, end, D);
}

// delta of `rows` = N H rows, four a warp, whose loads are under way together.
template <typename T> __device__ __forceinline__ void delta_rows(const T* d_o, const T* o, float* delta, int64_t rows, int64_t D) {
    const int64_t row = ((int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * MINE;
    const auto sums = [&](auto width) {
        constexpr int W = decltype(width)::value;
        float total[MINE] = {};
        for (int64_t d = threadIdx.x % 32 * W; d < D; d += 32 * W) {
            float a[MINE][W], b[MINE][W];
#pragma unroll
            for (int r = 0; r < MINE; r++)
                if (row + r < rows) {
                    load(d_o + (row + r) * D + d, a[r]);
                    load(o + (row + r) * D + d, b[r]);
                }
#pragma unroll
            for (int r = 0; r < MINE; r++)
                if (row + r < rows) {
#pragma unroll
                    for (int i = 0; i < W; i++) total[r] += a[r][i] * b[r][i];
                }
        }
#pragma unroll
        for (int r = 0; r < MINE; r++) {
            total[r] = warp_sum(total[r]);
            if (threadIdx.x % 32 == 0 && row + r < rows) delta[row + r] = total[r];
        }
    };
    const bool vector = D % WIDTH<T> == 0 && aligned(d_o, o);
    if (vector) sums(Width<WIDTH<T>>{});
    else sums(Width<1>{});
}

#define ATTENTION(T, SUFFIX, WIDEST)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                                 \
        attention_forward_##WIDEST##_##SUFFIX(const T* q, const T* k, const T* v, T* o, float* lse, const uint32_t* table, int64_t H, \
                                              int64_t K, int64_t D, int64_t v_stride, float scale) {                                  \
        forward<WIDEST / 32, T>(q, k, v, o, lse, table, H, K, D, v_stride, scale);                                                    \
    }                                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) attention_backward_query_##WIDEST##_##SUFFIX(                                   \
        const T* d_o, const T* q, const T* k, const T* v, const float* lse, const float* delta, T* dq, const uint32_t* table,         \
        int64_t H, int64_t K, int64_t D, int64_t v_stride, float scale) {                                                             \
        backward_query<WIDEST / 32, T>(d_o, q, k, v, lse, delta, dq, table, H, K, D, v_stride, scale);                                \
    }                                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256) attention_backward_key_##WIDEST##_##SUFFIX(                                     \
        const T* d_o, const T* q, const T* k, const T* v, const float* lse, const float* delta, T* dk, T* dv,                         \
        const uint32_t* table, int64_t H, int64_t K, int64_t D, int64_t v_stride, int64_t dv_stride, float scale) {                   \
        backward_key<WIDEST / 32, T>(d_o, q, k, v, lse, delta, dk, dv, table, H, K, D, v_stride, dv_stride, scale);                   \
    }

#define ATTENTION_TYPE(T, SUFFIX)                                                                                                     \
    ATTENTION(T, SUFFIX, 64)                                                                                                          \
    ATTENTION(T, SUFFIX, 128)                                                                                                         \
    ATTENTION(T, SUFFIX, 256)                                                                                                         \
    extern "C" __global__ void attention_delta_##SUFFIX(const T* d_o, const T* o, float* delta, int64_t rows, int64_t D) {            \
        delta_rows<T>(d_o, o, delta, rows, D);                                                                                        \
    }

ATTENTION_TYPE(bf16, bf16)
ATTENTION_TYPE(float, f32)
