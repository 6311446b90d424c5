// Gated delta rule with dk = dv = 128, last step of the backward: the gradients of the inputs, chunk by chunk and all at once.
//
//   dR = T^T dN     dV = beta dR     E = (dO N^T) o D     M = -(dR N^T) o D, strictly lower, D_ij = exp(G_i - G_j)
//   dQ = exp(G) dO S^T + E K         dK = -beta exp(G) dR S^T + exp(G_last - G) N dS^T + beta M K + E^T Q + (beta M)^T K
//   dbeta_i = dR_i . V_i + sum_j M_ij k_i . k_j - exp(G_i) k_i . (S dR_i)
//   dg_t = sum_{j < t <= i} W_ij + sum_{i >= t} u_i + sum_{j < t} w_j + exp(G_last) <S, dS>
//   W = E o Q K^T + beta M o K K^T   u_i = exp(G_i) (q_i . S dO_i - beta_i k_i . S dR_i)   w_j = exp(G_last - G_j) k_j . dS N_j
//
// then the gradient of the unit lengths: with u = x r, dx = r (du - u (u . du)).
//
// shapes    q, k, dq, dk [N, Kl, 128], v, do, dv [N, Hv, 128] bf16, rows `stride` apart; dg, dbeta [N, Hv] f32; tiles as the steps before leave them;
//           where value heads share a key head, dq and dk go as f32 [N, Hv, 128] to gated_delta_lengths instead, before the unit lengths
// launch    grid n Hv, block 256; dynamic shared memory GRADIENTS bytes, so that two blocks share a multiprocessor: tiles take each other's place
// traffic   chunk and head: 208 KB from memory, 48 KB more from the L2 cache (dS and N a second time)
// numerics  operands bf16, sums f32; E and beta M rounded to bf16, and again times the factors of what they multiply; sums of W over rows less sums over columns
//           of its strictly lower part, so that what cancels cancels exactly
// compare   src/ops/gated_delta/backward.rs
#include "gated_delta.cuh"

namespace gated_delta {

constexpr int GRADIENT_THREADS = 256;
enum { ROW_W, ROW_M, ROW_V, ROW_Q, ROW_K, ROW_N, ROW_UK, ROWS };

// Adds over the four lanes that share rows. Of the four sums (rows g and g + 8 of both 16-row blocks) lane t keeps one, that of row 8 t + g.
__device__ __forceinline__ float keep_rows(const float (&sums)[2][2]) {
    float all[4] = {sums[0][0], sums[0][1], sums[1][0], sums[1][1]};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        all[i] += __shfl_xor_sync(~0u, all[i], 1);
        all[i] += __shfl_xor_sync(~0u, all[i], 2);
    }
    const int t = threadIdx.x & 3;
    return t == 0 ? all[0] : t == 1 ? all[1] : t == 2 ? all[2] : all[3];
}

// An A operand whose columns k are multiplied by factors[k].
__device__ __forceinline__ void scale_columns(uint32_t (&a)[4], const float* factors, int k) {
    const int t = threadIdx.x & 3;
    const float2 low = *reinterpret_cast<const float2*>(factors + k + 2 * t), high = *reinterpret_cast<const float2*>(factors + k + 8 + 2 * t);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 x = unpack(a[i]), f = i >= 2 ? high : low;
        a[i] = pack(x.x * f.x, x.y * f.y);
    }
}

// acc += A B for 32 rows from m and 32 columns from n, K = 16 (to - from).
template <int LDA, bool TURNED_A, int LDB, bool TURNED_B>
__device__ __forceinline__ void multiply(float (&acc)[2][4][4], const bf16* a, const bf16* b, int m, int n, int k) {
    uint32_t fa[2][4], fb[2][4];
#pragma unroll
    for (int mt = 0; mt < 2; mt++) load_a<LDA, TURNED_A>(fa[mt], a, m + mt * 16, k);
#pragma unroll
    for (int np = 0; np < 2; np++) load_b<LDB, TURNED_B>(fb[np], b, k, n + np * 16);
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int nt = 0; nt < 4; nt++) mma(acc[mt][nt], fa[mt], fb[nt / 2][(nt & 1) * 2], fb[nt / 2][(nt & 1) * 2 + 1]);
}

__device__ __forceinline__ void clear(float (&acc)[2][4][4]) {
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int nt = 0; nt < 4; nt++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc[mt][nt][i] = 0.f;
}

// Sums over this warp's columns of acc o tile, row by row.
__device__ __forceinline__ void row_products(float (&sums)[2][2], const float (&acc)[2][4][4], const bf16* tile, int m, int n) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = 0.f;
#pragma unroll
            for (int nt = 0; nt < 4; nt++) {
                const float2 x = unpack(*reinterpret_cast<const uint32_t*>(tile + place<D>(m + mt * 16 + half * 8 + g, n / 8 + nt) + 2 * t));
                sum += x.x * acc[mt][nt][half * 2] + x.y * acc[mt][nt][half * 2 + 1];
            }
            sums[mt][half] = sum;
        }
}

}  // namespace gated_delta

extern "C" __global__ void __launch_bounds__(256, 2) gated_delta_gradients_bf16(
    const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v, const bf16* __restrict__ d_o, const uint32_t* __restrict__ table,
    const bf16* __restrict__ t_in, const float* __restrict__ scalars_in, const bf16* __restrict__ states, const bf16* __restrict__ nt_in,
    const bf16* __restrict__ d_states, const bf16* __restrict__ d_nt, bf16* __restrict__ dq, bf16* __restrict__ dk, bf16* __restrict__ dv,
    float* __restrict__ dq_units, float* __restrict__ dk_units, float* __restrict__ dg, float* __restrict__ dbeta, int64_t stride_q, int64_t stride_k,
    int64_t stride_v, int64_t stride_do, int64_t stride_dq, int64_t stride_dk, int64_t stride_dv, int64_t sequences, int64_t n, int64_t key_heads,
    int64_t value_heads) {
    using namespace gated_delta;
    extern __shared__ __align__(128) unsigned char memory[];
    bf16* sk = reinterpret_cast<bf16*>(memory);
    bf16* sq = sk + C * D;
    bf16* sdo = sq + C * D;    // dO, later N
    bf16* snt = sdo + C * D;   // N [dv, token], then E and M [C, C]
    bf16* sdn = snt + C * D;   // dN [dv, token], then dR [token, dv], then sums
    bf16* ss = sdn + C * D;    // V and T, then S, then dS [dv, dk]
    bf16 *se = snt, *sm = snt + C * C, *st = ss + C * D;
    float* run = reinterpret_cast<float*>(ss + D * D);
    float *rq = run + C, *rk = rq + C, *beta = rk + C;
    float(*rows)[4][C] = reinterpret_cast<float(*)[4][C]>(sdn);       // sums of the four column groups
    float(*columns)[C] = reinterpret_cast<float(*)[C]>(rows + ROWS);  // sums of the two row groups
    float* inners = reinterpret_cast<float*>(columns + 2);            // of the warps
    float(*along)[C] = reinterpret_cast<float(*)[C]>(inners + 32);    // q . dq by column group

    const Chunks chunks(table, sequences, n);
    const int64_t at = blockIdx.x, chunk = at / value_heads, head = at % value_heads, key_head = head * key_heads / value_heads;
    const int64_t start = chunks.start[chunk];
    const int length = chunks.length[chunk];
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int group = warp / 4, m = group * 32, part = warp % 4, nc = part * 32;  // 32 rows, 32 of 128 columns
    constexpr int threads = GRADIENT_THREADS;
    constexpr float scale = 0.08838834764831845f;
    float kept[ROWS];

    copy_tile<threads, C * C>(st, t_in + at * C * C);
    copy_tile<threads, C * D>(sdn, d_nt + at * C * D);
    copy_rows<threads, D>(ss, v + start * stride_v + head * D, stride_v, length);
    copy_tile<threads, 4 * C * 2>(reinterpret_cast<bf16*>(run), reinterpret_cast<const bf16*>(scalars_in + at * SCALARS * C + G * C));
    commit();
    copy_rows<threads, D>(sdo, d_o + start * stride_do + head * D, stride_do, length);
    copy_tile<threads, C * D>(snt, nt_in + at * C * D);
    copy_rows<threads, D>(sk, k + start * stride_k + key_head * D, stride_k, length);
    copy_rows<threads, D>(sq, q + start * stride_q + key_head * D, stride_q, length);
    commit();
    wait<1>();
    __syncthreads();

    float sums[2][2];
    {  // dR = T^T dN
        float acc[2][4][4];
        clear(acc);
#pragma unroll
        for (int ks = 0; ks < 4; ks++)
            if (ks >= group * 2) multiply<C, true, C, false>(acc, st, sdn, m, nc, ks * 16);
        row_products(sums, acc, ss, m, nc);
        kept[ROW_V] = keep_rows(sums);
        __syncthreads();  // dN, V and T have been read
        copy_tile<threads, D * D>(ss, states + at * D * D);
        commit();
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            store_blocks<D>(sdn, m + mt * 16, nc / 8, acc[mt][0], acc[mt][1], acc[mt][2], acc[mt][3]);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = m + mt * 16 + half * 8 + g;
                const float b = beta[row];
                const auto piece = [&](int nt) { return pack(b * acc[mt][nt][half * 2], b * acc[mt][nt][half * 2 + 1]); };
                const uint4 values = gather_row(piece(0), piece(1), piece(2), piece(3));
                if (row < length) *reinterpret_cast<uint4*>(dv + (start + row) * stride_dv + head * D + nc + t * 8) = values;
            }
        }
    }
    wait<1>();
    __syncthreads();
    float column_sums[2][2] = {};
    {  // E and beta M: 16 columns a warp; blocks above the diagonal stay undefined and are not read
        const int nj = part * 16;
        float e[2][2][4] = {}, r[2][2][4] = {}, qk[2][2][4] = {}, kk[2][2][4] = {};
        if (nj < m + 32) {
#pragma unroll
            for (int ks = 0; ks < 8; ks++) {
                uint32_t bn[4], bk[4];
                load_b<C, true>(bn, snt, ks * 16, nj);
                load_b<D, false>(bk, sk, ks * 16, nj);
#pragma unroll
                for (int mt = 0; mt < 2; mt++) {
                    uint32_t a[4];
                    load_a<D, false>(a, sdo, m + mt * 16, ks * 16);
                    mma(e[mt][0], a, bn[0], bn[1]);
                    mma(e[mt][1], a, bn[2], bn[3]);
                    load_a<D, false>(a, sdn, m + mt * 16, ks * 16);
                    mma(r[mt][0], a, bn[0], bn[1]);
                    mma(r[mt][1], a, bn[2], bn[3]);
                    load_a<D, false>(a, sq, m + mt * 16, ks * 16);
                    mma(qk[mt][0], a, bk[0], bk[1]);
                    mma(qk[mt][1], a, bk[2], bk[3]);
                    load_a<D, false>(a, sk, m + mt * 16, ks * 16);
                    mma(kk[mt][0], a, bk[0], bk[1]);
                    mma(kk[mt][1], a, bk[2], bk[3]);
                }
            }
        }
        __syncthreads();  // N has been read
        float sums_m[2][2] = {};
#pragma unroll
        for (int mt = 0; mt < 2; mt++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                sums[mt][half] = 0.f;
                const int i = m + mt * 16 + half * 8 + g;
                const float run_i = run[i], rq_i = rq[i], rk_i = rk[i], beta_i = beta[i];
#pragma unroll
                for (int nt = 0; nt < 2; nt++) {
                    float ev[2], mv[2];
#pragma unroll
                    for (int odd = 0; odd < 2; odd++) {
                        const int j = nj + nt * 8 + 2 * t + odd;
                        const float d = j <= i ? __expf(run_i - run[j]) : 0.f, rk_j = rk[j];
                        ev[odd] = e[mt][nt][half * 2 + odd] * d;
                        mv[odd] = j < i ? -r[mt][nt][half * 2 + odd] * d : 0.f;
                        const float by_m = mv[odd] * kk[mt][nt][half * 2 + odd] * rk_i * rk_j;
                        mv[odd] *= beta_i;
                        const float w = (j < i ? ev[odd] * qk[mt][nt][half * 2 + odd] * rq_i * rk_j : 0.f) + beta_i * by_m;
                        sums[mt][half] += w;
                        sums_m[mt][half] += by_m;
                        column_sums[nt][odd] += w;
                    }
                    const int to = place<C>(i, nj / 8 + nt) + 2 * t;
                    *reinterpret_cast<uint32_t*>(se + to) = pack(ev[0], ev[1]);
                    *reinterpret_cast<uint32_t*>(sm + to) = pack(mv[0], mv[1]);
                }
            }
        kept[ROW_W] = keep_rows(sums);
        kept[ROW_M] = keep_rows(sums_m);
#pragma unroll
        for (int nt = 0; nt < 2; nt++)
#pragma unroll
            for (int odd = 0; odd < 2; odd++) {
                float& sum = column_sums[nt][odd];
                sum += __shfl_xor_sync(~0u, sum, 4);
                sum += __shfl_xor_sync(~0u, sum, 8);
                sum += __shfl_xor_sync(~0u, sum, 16);
            }
    }
    // Lanes g = 0 to 3 keep one column sum each.
    const float column_sum = g == 0 ? column_sums[0][0] : g == 1 ? column_sums[0][1] : g == 2 ? column_sums[1][0] : column_sums[1][1];
    wait<0>();
    __syncthreads();
    float inner = 0.f;  // <S, dS>
    {
        const uint4* other = reinterpret_cast<const uint4*>(d_states + at * D * D);
#pragma unroll 4
        for (int i = threadIdx.x; i < D * D / 8; i += threads) {
            const uint4 y = other[i], x = reinterpret_cast<const uint4*>(ss)[i];
            const uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float2 p = unpack(xs[j]), r = unpack(ys[j]);
                inner += p.x * r.x + p.y * r.y;
            }
        }
    }
    float dks[2][4][4];
    {  // dR S^T, then what E and M leave for the keys
        clear(dks);
#pragma unroll
        for (int ks = 0; ks < 8; ks++) multiply<D, false, D, true>(dks, sdn, ss, m, nc, ks * 16);
        row_products(sums, dks, sk, m, nc);
        kept[ROW_K] = keep_rows(sums);
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            const int row = m + mt * 16 + g;
            const float low = -__expf(run[row]) * beta[row], high = -__expf(run[row + 8]) * beta[row + 8];
#pragma unroll
            for (int nt = 0; nt < 4; nt++)
#pragma unroll
                for (int i = 0; i < 4; i++) dks[mt][nt][i] *= i >= 2 ? high : low;
        }
    }
    {
        float dqs[2][4][4];
        clear(dqs);
#pragma unroll
        for (int ks = 0; ks < 8; ks++) multiply<D, false, D, true>(dqs, sdo, ss, m, nc, ks * 16);
        row_products(sums, dqs, sq, m, nc);
        kept[ROW_Q] = keep_rows(sums);
        __syncthreads();  // S, dO and dR have been read
        copy_tile<threads, D * D>(ss, d_states + at * D * D);
        copy_tile<threads, C * D>(sdo, nt_in + at * C * D);
        commit();
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            const int row = m + mt * 16 + g;
            const float low = __expf(run[row]), high = __expf(run[row + 8]);
#pragma unroll
            for (int nt = 0; nt < 4; nt++) dqs[mt][nt][0] *= low, dqs[mt][nt][1] *= low, dqs[mt][nt][2] *= high, dqs[mt][nt][3] *= high;
        }
#pragma unroll
        for (int ks = 0; ks < 4; ks++) {
            uint32_t bk[2][4], fa[4];
#pragma unroll
            for (int np = 0; np < 2; np++) load_b<D, true>(bk[np], sk, ks * 16, nc + np * 16);
#pragma unroll
            for (int mt = 0; mt < 2; mt++) {
                if (ks <= group * 2 + mt) {
                    load_a<C, false>(fa, se, m + mt * 16, ks * 16);
                    scale_columns(fa, rk, ks * 16);
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) mma(dqs[mt][nt], fa, bk[nt / 2][(nt & 1) * 2], bk[nt / 2][(nt & 1) * 2 + 1]);
                    load_a<C, false>(fa, sm, m + mt * 16, ks * 16);
                    scale_columns(fa, rk, ks * 16);
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) mma(dks[mt][nt], fa, bk[nt / 2][(nt & 1) * 2], bk[nt / 2][(nt & 1) * 2 + 1]);
                }
                if (ks >= group * 2 + mt) {
                    load_a<C, true>(fa, sm, m + mt * 16, ks * 16);
                    scale_columns(fa, rk, ks * 16);
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) mma(dks[mt][nt], fa, bk[nt / 2][(nt & 1) * 2], bk[nt / 2][(nt & 1) * 2 + 1]);
                }
            }
            if (ks >= group * 2) {
#pragma unroll
                for (int np = 0; np < 2; np++) load_b<D, true>(bk[np], sq, ks * 16, nc + np * 16);
#pragma unroll
                for (int mt = 0; mt < 2; mt++)
                    if (ks >= group * 2 + mt) {
                        load_a<C, true>(fa, se, m + mt * 16, ks * 16);
                        scale_columns(fa, rq, ks * 16);
#pragma unroll
                        for (int nt = 0; nt < 4; nt++) mma(dks[mt][nt], fa, bk[nt / 2][(nt & 1) * 2], bk[nt / 2][(nt & 1) * 2 + 1]);
                    }
            }
        }
        row_products(sums, dqs, sq, m, nc);
        const float mine = keep_rows(sums);
        along[part][m + 8 * t + g] = mine;
        __syncthreads();
#pragma unroll
        for (int mt = 0; mt < 2; mt++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = m + mt * 16 + half * 8 + g;
                if (dq_units) {
                    float* to = dq_units + ((start + row) * value_heads + head) * D + nc + 2 * t;
                    if (row < length)
#pragma unroll
                        for (int nt = 0; nt < 4; nt++) *reinterpret_cast<float2*>(to + nt * 8) = make_float2(scale * dqs[mt][nt][half * 2], scale * dqs[mt][nt][half * 2 + 1]);
                    continue;
                }
                // dq = f dqs - q f^3 / scale^2 (q . dqs), as f = scale / |q|
                const float f = rq[row], sum = f * f * f / (scale * scale) * (along[0][row] + along[1][row] + along[2][row] + along[3][row]);
                uint32_t out[4];
#pragma unroll
                for (int nt = 0; nt < 4; nt++) {
                    const float2 x = unpack(*reinterpret_cast<const uint32_t*>(sq + place<D>(row, nc / 8 + nt) + 2 * t));
                    out[nt] = pack(f * dqs[mt][nt][half * 2] - x.x * sum, f * dqs[mt][nt][half * 2 + 1] - x.y * sum);
                }
                const uint4 values = gather_row(out[0], out[1], out[2], out[3]);
                if (row < length) *reinterpret_cast<uint4*>(dq + (start + row) * stride_dq + key_head * D + nc + t * 8) = values;
            }
    }
    wait<0>();
    __syncthreads();
    {  // N dS^T
        float acc[2][4][4];
        clear(acc);
#pragma unroll
        for (int ks = 0; ks < 8; ks++) multiply<C, true, D, true>(acc, sdo, ss, m, nc, ks * 16);
        row_products(sums, acc, sk, m, nc);
        kept[ROW_N] = keep_rows(sums);
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            const int row = m + mt * 16 + g;
            const float low = __expf(run[C - 1] - run[row]), high = __expf(run[C - 1] - run[row + 8]);
#pragma unroll
            for (int nt = 0; nt < 4; nt++)
#pragma unroll
                for (int i = 0; i < 4; i++) dks[mt][nt][i] += (i >= 2 ? high : low) * acc[mt][nt][i];
        }
    }
    row_products(sums, dks, sk, m, nc);
    kept[ROW_UK] = keep_rows(sums);
#pragma unroll
    for (int i = 0; i < ROWS; i++) rows[i][part][m + 8 * t + g] = kept[i];
    if (g < 4) columns[group][part * 16 + (g >> 1) * 8 + 2 * t + (g & 1)] = column_sum;
    inner = warp_sum(inner);
    if (lane == 0) inners[warp] = inner;
    __syncthreads();
    const auto row_sum = [&](int what, int row) { return rows[what][0][row] + rows[what][1][row] + rows[what][2][row] + rows[what][3][row]; };
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = m + mt * 16 + half * 8 + g;
            if (dk_units) {
                float* to = dk_units + ((start + row) * value_heads + head) * D + nc + 2 * t;
                if (row < length)
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) *reinterpret_cast<float2*>(to + nt * 8) = make_float2(dks[mt][nt][half * 2], dks[mt][nt][half * 2 + 1]);
                continue;
            }
            const float f = rk[row], sum = f * f * f * row_sum(ROW_UK, row);
            uint32_t out[4];
#pragma unroll
            for (int nt = 0; nt < 4; nt++) {
                const float2 x = unpack(*reinterpret_cast<const uint32_t*>(sk + place<D>(row, nc / 8 + nt) + 2 * t));
                out[nt] = pack(f * dks[mt][nt][half * 2] - x.x * sum, f * dks[mt][nt][half * 2 + 1] - x.y * sum);
            }
            const uint4 values = gather_row(out[0], out[1], out[2], out[3]);
            if (row < length) *reinterpret_cast<uint4*>(dk + (start + row) * stride_dk + key_head * D + nc + t * 8) = values;
        }
    if (warp == 0) {
        float passing[2], left[2];  // sums from t on, sums before t
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = 2 * lane + i;
            const float decay = __expf(run[row]), by_key = -row_sum(ROW_K, row) * rk[row] * decay;
            const float d_beta = row_sum(ROW_V, row) + row_sum(ROW_M, row) + by_key;
            if (row < length) dbeta[(start + row) * value_heads + head] = d_beta;
            passing[i] = row_sum(ROW_W, row) - columns[0][row] - columns[1][row] + row_sum(ROW_Q, row) * decay * rq[row] + beta[row] * by_key;
            left[i] = row_sum(ROW_N, row) * __expf(run[C - 1] - run[row]) * rk[row];
        }
        float after = passing[0] + passing[1], before = left[0] + left[1];
#pragma unroll
        for (int offset = 1; offset < 32; offset *= 2) {
            const float x = __shfl_down_sync(~0u, after, offset), y = __shfl_up_sync(~0u, before, offset);
            if (lane + offset < 32) after += x;
            if (lane >= offset) before += y;
        }
        before = __shfl_up_sync(~0u, before, 1);
        if (lane == 0) before = 0.f;
        float all = 0.f;
#pragma unroll
        for (int w = 0; w < threads / 32; w++) all += inners[w];
        const float whole = __expf(run[C - 1]) * all;
        if (2 * lane < length) dg[(start + 2 * lane) * value_heads + head] = after + before + whole;
        if (2 * lane + 1 < length) dg[(start + 2 * lane + 1) * value_heads + head] = after - passing[0] + before + left[0] + whole;
    }
}
