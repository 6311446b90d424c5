// Gated delta rule with dk = dv = 128, first step: what each chunk of each head computes by itself.
//
//   A_ij = beta_i (k_i . k_j) exp(G_i - G_j), j < i     T = (I + A)^-1     P = (q_i . k_j) exp(G_i - G_j), j <= i
//   W = T diag(beta exp(G)) K     U = T diag(beta) V     backward also: L = P^T dO
//
// shapes    q, k [N, Kl, 128], v, do [N, Hv, 128] bf16, rows `stride` apart; g, beta [N, Hv] f32; chunks n by the table;
//           tiles by chunk and head: W [64, 128], U^T, L^T [128, 64], P, T [64, 64] bf16; scalars [6, 64] f32
// launch    grid n Hv, block 128; dynamic shared memory PREPARE bytes, so that three blocks share a multiprocessor
// traffic   chunk and head: forward 48 KB read, 42 KB written; backward 64 KB read, 58 KB written
// numerics  products bf16 with f32 sums of the raw q and k, whose lengths enter as f32 factors; A and its inverse in f32; W, U, P, T, L rounded once;
//           exp of differences that are at most 0
// compare   src/ops/gated_delta/forward.rs
#include "gated_delta.cuh"

namespace gated_delta {

constexpr int THREADS = 128;
constexpr int LDF = 68;  // floats of a row of A and T

// sum -= or += x[4] . rows j .. j + 3 of y at this thread's 4 columns.
__device__ __forceinline__ void add_rows4(float4& sum, const float4 x, const float* y, int stride) {
    const float f[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float4 z = *reinterpret_cast<const float4*>(y + j * stride);
        sum.x += f[j] * z.x, sum.y += f[j] * z.y, sum.z += f[j] * z.z, sum.w += f[j] * z.w;
    }
}
__device__ __forceinline__ float4 negative(float4 x) { return make_float4(-x.x, -x.y, -x.z, -x.w); }

// T = (I + A)^-1 for A strictly lower: 16 x 16 blocks on the diagonal by substitution, then twice pairs of blocks. Blocks of T above the
// diagonal stay undefined outside of the two that belong to a pair.
__device__ __forceinline__ void invert(const float* a, float* t, float* x) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    {
        const int base = warp * 16 * LDF + warp * 16, column = lane & 15;
        float y[16];
#pragma unroll
        for (int r = 0; r < 16; r++) {
            float sums[2] = {r == column ? 1.f : 0.f, 0.f};
#pragma unroll
            for (int j = 0; j < r; j += 4) {
                const float4 f = *reinterpret_cast<const float4*>(a + base + r * LDF + j);
                sums[0] -= f.x * y[j];
                if (j + 1 < r) sums[1] -= f.y * y[j + 1];
                if (j + 2 < r) sums[0] -= f.z * y[j + 2];
                if (j + 3 < r) sums[1] -= f.w * y[j + 3];
            }
            y[r] = sums[0] + sums[1];
        }
        // The upper half of the warp clears the block above, which pairs read.
        float* to = t + base + (lane < 16 ? 0 : 16);
        if (lane < 16 || (warp & 1) == 0)
#pragma unroll
            for (int r = 0; r < 16; r++) to[r * LDF + column] = lane < 16 ? y[r] : 0.f;
    }
    __syncthreads();
    {
        const int pair = threadIdx.x / 64, r = (threadIdx.x % 64) / 4, c = (threadIdx.x & 3) * 4, base = pair * 32;
        float* xp = x + pair * 16 * 20;
        float4 s = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
        for (int j = 0; j < 16; j += 4)
            add_rows4(s, *reinterpret_cast<const float4*>(a + (base + 16 + r) * LDF + base + j), t + (base + j) * LDF + base + c, LDF);
        *reinterpret_cast<float4*>(xp + r * 20 + c) = s;
        __syncthreads();
        s = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
        for (int j = 0; j < 16; j += 4)
            add_rows4(s, *reinterpret_cast<const float4*>(t + (base + 16 + r) * LDF + base + 16 + j), xp + j * 20 + c, 20);
        *reinterpret_cast<float4*>(t + (base + 16 + r) * LDF + base + c) = negative(s);
    }
    __syncthreads();
    {
        const int r = threadIdx.x / 8, c = (threadIdx.x & 7) * 4;  // rows r and r + 16
        float4 s = make_float4(0.f, 0.f, 0.f, 0.f), u = s;
#pragma unroll 4
        for (int j = 0; j < 32; j += 4) {
            add_rows4(s, *reinterpret_cast<const float4*>(a + (32 + r) * LDF + j), t + j * LDF + c, LDF);
            add_rows4(u, *reinterpret_cast<const float4*>(a + (48 + r) * LDF + j), t + j * LDF + c, LDF);
        }
        *reinterpret_cast<float4*>(x + r * 36 + c) = s;
        *reinterpret_cast<float4*>(x + (r + 16) * 36 + c) = u;
        __syncthreads();
        s = u = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 4
        for (int j = 0; j < 32; j += 4) {
            if (j < 16) add_rows4(s, *reinterpret_cast<const float4*>(t + (32 + r) * LDF + 32 + j), x + j * 36 + c, 36);
            add_rows4(u, *reinterpret_cast<const float4*>(t + (48 + r) * LDF + 32 + j), x + j * 36 + c, 36);
        }
        *reinterpret_cast<float4*>(t + (32 + r) * LDF + c) = negative(s);
        *reinterpret_cast<float4*>(t + (48 + r) * LDF + c) = negative(u);
    }
    __syncthreads();
}

// 1 / sqrt(sum of the squares of a row + 1e-6); two threads a row.
__device__ __forceinline__ float inverse_length(const bf16* tile, int row, int half) {
    float sum = 0.f;
#pragma unroll
    for (int piece = 0; piece < 8; piece++) {
        float v[8];
        load<8>(tile + place<D>(row, half * 8 + piece), v);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += v[i] * v[i];
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    return rsqrtf(sum + 1e-6f);
}

template <bool BACKWARD>
__device__ __forceinline__ void prepare(const bf16* q, const bf16* k, const bf16* v, const bf16* d_o, const float* g, const float* beta, const uint32_t* table,
                                        bf16* w_out, bf16* ut_out, bf16* p_out, bf16* t_out, bf16* lt_out, float* scalars_out, int64_t stride_q,
                                        int64_t stride_k, int64_t stride_v, int64_t stride_do, int64_t sequences, int64_t n, int64_t key_heads, int64_t value_heads) {
    extern __shared__ __align__(128) unsigned char memory[];
    bf16* sk = reinterpret_cast<bf16*>(memory);
    bf16* sv = sk + C * D;                                 // V, in the backward dO before
    float* st = reinterpret_cast<float*>(sv + C * D);      // T
    bf16* sq = reinterpret_cast<bf16*>(st);                // before T: Q, then P
    bf16* sp = sq;
    float* sa = st + C * LDF;                              // A
    bf16* stw = reinterpret_cast<bf16*>(sa);               // once A is inverted: T by the factors of W and of U
    bf16* stu = stw + C * C;
    float* sx = sa + C * LDF;
    float(*scalars)[C] = reinterpret_cast<float(*)[C]>(sx + 32 * 36);
    float* factors = reinterpret_cast<float*>(scalars + SCALARS);  // beta exp(G) rk

    const Chunks chunks(table, sequences, n);
    const int64_t chunk = blockIdx.x / value_heads, head = blockIdx.x % value_heads, key_head = head * key_heads / value_heads;
    const int64_t at = blockIdx.x, start = chunks.start[chunk];
    const int length = chunks.length[chunk];
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, gr = lane >> 2, t = lane & 3;

    copy_rows<THREADS, D>(sk, k + start * stride_k + key_head * D, stride_k, length);
    copy_rows<THREADS, D>(sq, q + start * stride_q + key_head * D, stride_q, length);
    commit();
    if (BACKWARD) copy_rows<THREADS, D>(sv, d_o + start * stride_do + head * D, stride_do, length);
    else copy_rows<THREADS, D>(sv, v + start * stride_v + head * D, stride_v, length);
    commit();
    if (warp == 0) {
        float x[2], b[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = 2 * lane + i;
            x[i] = row < length ? g[(start + row) * value_heads + head] : 0.f;
            b[i] = row < length ? beta[(start + row) * value_heads + head] : 0.f;
        }
        float sum = x[0] + x[1];
#pragma unroll
        for (int offset = 1; offset < 32; offset *= 2) {
            const float other = __shfl_up_sync(~0u, sum, offset);
            if (lane >= offset) sum += other;
        }
        scalars[G][2 * lane] = sum - x[1];
        scalars[G][2 * lane + 1] = sum;
        scalars[BETA][2 * lane] = b[0];
        scalars[BETA][2 * lane + 1] = b[1];
    }
    wait<1>();
    __syncthreads();
    {
        const int row = threadIdx.x / 2, half = threadIdx.x & 1;
        const float rk = inverse_length(sk, row, half), rq = inverse_length(sq, row, half) * 0.08838834764831845f;
        const float run = scalars[G][row], last = scalars[G][C - 1], b = scalars[BETA][row];
        if (half == 0) {
            const float values[SCALARS] = {__expf(run) * rq, __expf(last - run) * rk, run, rq, rk, b};
            float* out = scalars_out + at * SCALARS * C + row;
#pragma unroll
            for (int i = 0; i < SCALARS; i++) out[i * C] = values[i];
            scalars[EQ][row] = values[EQ];
            scalars[FK][row] = values[FK];
            scalars[RQ][row] = rq;
            scalars[RK][row] = rk;
            factors[row] = b * __expf(run) * rk;
        }
    }
    __syncthreads();

    {  // A and P: 16 rows a warp
        float kk[8][4] = {}, qk[8][4] = {};
        const int row = warp * 16;
#pragma unroll
        for (int ks = 0; ks < D / 16; ks++) {
            uint32_t ak[4], aq[4];
            load_a<D, false>(ak, sk, row, ks * 16);
            load_a<D, false>(aq, sq, row, ks * 16);
#pragma unroll
            for (int np = 0; np < 4; np++) {
                if (np <= warp) {
                    uint32_t b[4];
                    load_b<D, false>(b, sk, ks * 16, np * 16);
                    mma(kk[2 * np], ak, b[0], b[1]);
                    mma(kk[2 * np + 1], ak, b[2], b[3]);
                    mma(qk[2 * np], aq, b[0], b[1]);
                    mma(qk[2 * np + 1], aq, b[2], b[3]);
                }
            }
        }
#pragma unroll
        for (int nt = 0; nt < 8; nt++) {
            if (nt / 2 > warp) continue;
            const int c = nt * 8 + 2 * t;
            const float2 runs = *reinterpret_cast<const float2*>(&scalars[G][c]), lengths = *reinterpret_cast<const float2*>(&scalars[RK][c]);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int r = row + gr + half * 8;
                const float run = scalars[G][r], fa = scalars[BETA][r] * scalars[RK][r], fp = scalars[RQ][r];
                const float x = c <= r ? __expf(run - runs.x) * lengths.x : 0.f, y = c + 1 <= r ? __expf(run - runs.y) * lengths.y : 0.f;
                *reinterpret_cast<float2*>(sa + r * LDF + c) =
                    make_float2(c < r ? fa * x * kk[nt][half * 2] : 0.f, c + 1 < r ? fa * y * kk[nt][half * 2 + 1] : 0.f);
                qk[nt][half * 2] *= fp * x;
                qk[nt][half * 2 + 1] *= fp * y;
            }
        }
        if (BACKWARD) __syncthreads();  // Q has been read
        bf16* p = BACKWARD ? sp : p_out + at * C * C;
        store_blocks<C>(p, row, 0, qk[0], qk[1], qk[2], qk[3]);
        store_blocks<C>(p, row, 4, qk[4], qk[5], qk[6], qk[7]);
    }
    if (BACKWARD) wait<0>();
    __syncthreads();
    if (BACKWARD) {  // L^T = dO^T P: 32 rows of dv a warp
        float l[2][8][4] = {};
#pragma unroll
        for (int ks = 0; ks < 4; ks++) {
            uint32_t a[2][4];
#pragma unroll
            for (int mt = 0; mt < 2; mt++) load_a<D, true>(a[mt], sv, warp * 32 + mt * 16, ks * 16);
#pragma unroll
            for (int np = 0; np <= ks; np++) {
                uint32_t b[4];
                load_b<C, true>(b, sp, ks * 16, np * 16);
#pragma unroll
                for (int mt = 0; mt < 2; mt++) {
                    mma(l[mt][2 * np], a[mt], b[0], b[1]);
                    mma(l[mt][2 * np + 1], a[mt], b[2], b[3]);
                }
            }
        }
        bf16* lt = lt_out + at * C * D;
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            store_blocks<C>(lt, warp * 32 + mt * 16, 0, l[mt][0], l[mt][1], l[mt][2], l[mt][3]);
            store_blocks<C>(lt, warp * 32 + mt * 16, 4, l[mt][4], l[mt][5], l[mt][6], l[mt][7]);
        }
        __syncthreads();  // dO and P have been read
        copy_rows<THREADS, D>(sv, v + start * stride_v + head * D, stride_v, length);
        commit();
    }
    invert(sa, st, sx);

#pragma unroll
    for (int i = threadIdx.x; i < C * C / 8; i += THREADS) {
        const int row = i / 8, piece = i % 8;
        float x[8] = {}, u[8], w[8], b[8], f[8];
        if (piece / 2 <= row / 16) load<8>(st + row * LDF + piece * 8, x);
        load<8>(scalars[BETA] + piece * 8, b);
        load<8>(factors + piece * 8, f);
#pragma unroll
        for (int j = 0; j < 8; j++) u[j] = x[j] * b[j], w[j] = x[j] * f[j];
        store<8>(stu + place<C>(row, piece), u);
        store<8>(stw + place<C>(row, piece), w);
        if (BACKWARD) store<8>(t_out + at * C * C + place<C>(row, piece), x);
    }
    wait<0>();
    __syncthreads();
    {  // W: 32 columns of dk a warp
        float w[4][4][4] = {};
#pragma unroll
        for (int ks = 0; ks < 4; ks++) {
            uint32_t b[2][4];
            load_b<D, true>(b[0], sk, ks * 16, warp * 32);
            load_b<D, true>(b[1], sk, ks * 16, warp * 32 + 16);
#pragma unroll
            for (int mt = ks; mt < 4; mt++) {
                uint32_t a[4];
                load_a<C, false>(a, stw, mt * 16, ks * 16);
#pragma unroll
                for (int nt = 0; nt < 4; nt++) mma(w[mt][nt], a, b[nt / 2][(nt & 1) * 2], b[nt / 2][(nt & 1) * 2 + 1]);
            }
        }
        bf16* out = w_out + at * C * D;
#pragma unroll
        for (int mt = 0; mt < 4; mt++) store_blocks<D>(out, mt * 16, warp * 4, w[mt][0], w[mt][1], w[mt][2], w[mt][3]);
    }
    {  // U^T: 32 rows of dv a warp
        float u[2][8][4] = {};
#pragma unroll
        for (int ks = 0; ks < 4; ks++) {
            uint32_t a[2][4];
#pragma unroll
            for (int mt = 0; mt < 2; mt++) load_a<D, true>(a[mt], sv, warp * 32 + mt * 16, ks * 16);
#pragma unroll
            for (int np = ks; np < 4; np++) {
                uint32_t b[4];
                load_b<C, false>(b, stu, ks * 16, np * 16);
#pragma unroll
                for (int mt = 0; mt < 2; mt++) {
                    mma(u[mt][2 * np], a[mt], b[0], b[1]);
                    mma(u[mt][2 * np + 1], a[mt], b[2], b[3]);
                }
            }
        }
        bf16* out = ut_out + at * C * D;
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            store_blocks<C>(out, warp * 32 + mt * 16, 0, u[mt][0], u[mt][1], u[mt][2], u[mt][3]);
            store_blocks<C>(out, warp * 32 + mt * 16, 4, u[mt][4], u[mt][5], u[mt][6], u[mt][7]);
        }
    }
}

}  // namespace gated_delta

extern "C" __global__ void __launch_bounds__(128, 3) gated_delta_prepare_forward_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const float* __restrict__ g, const float* __restrict__ beta,
    const uint32_t* __restrict__ table, bf16* __restrict__ w, bf16* __restrict__ ut, bf16* __restrict__ p, float* __restrict__ scalars, int64_t stride_q,
    int64_t stride_k, int64_t stride_v, int64_t sequences, int64_t n, int64_t key_heads, int64_t value_heads) {
    gated_delta::prepare<false>(q, k, v, nullptr, g, beta, table, w, ut, p, nullptr, nullptr, scalars, stride_q, stride_k, stride_v, 0, sequences, n, key_heads,
                                value_heads);
}

extern "C" __global__ void __launch_bounds__(128, 3) gated_delta_prepare_backward_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const float* __restrict__ g,
    const float* __restrict__ beta, const uint32_t* __restrict__ table, bf16* __restrict__ w, bf16* __restrict__ ut, bf16* __restrict__ t, bf16* __restrict__ lt,
    float* __restrict__ scalars, int64_t stride_q, int64_t stride_k, int64_t stride_v, int64_t stride_do, int64_t sequences, int64_t n, int64_t key_heads,
    int64_t value_heads) {
    gated_delta::prepare<true>(q, k, v, d_o, g, beta, table, w, ut, nullptr, t, lt, scalars, stride_q, stride_k, stride_v, stride_do, sequences, n, key_heads,
                               value_heads);
}
