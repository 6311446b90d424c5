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
// launch    grid n Hv, block 256; dynamic shared memory GRADIENTS bytes, one block a multiprocessor
// traffic   chunk and head: 208 KB, memory-bound
// numerics  operands bf16, sums f32; E and M times the factors of their rows or columns rounded to bf16; sums of W over rows less sums over columns
//           of its strictly lower part, so that what cancels cancels exactly
// compare   src/ops/gated_delta/backward.rs
#include "gated_delta.cuh"

namespace gated_delta {

constexpr int GRADIENT_THREADS = 256;
enum { ROW_W, ROW_M, ROW_V, ROW_Q, ROW_K, ROW_N, ROW_UQ, ROW_UK, ROWS };

// Adds over the four lanes that share rows g and g + 8 and leaves the sums of this warp's columns in shared memory.
__device__ __forceinline__ void leave_rows(float* to, int row, float low, float high) {
    low += __shfl_xor_sync(~0u, low, 1);
    high += __shfl_xor_sync(~0u, high, 1);
    low += __shfl_xor_sync(~0u, low, 2);
    high += __shfl_xor_sync(~0u, high, 2);
    const int lane = threadIdx.x & 31;
    if ((lane & 3) == 0) {
        to[row + (lane >> 2)] = low;
        to[row + (lane >> 2) + 8] = high;
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

extern "C" __global__ void __launch_bounds__(256, 1) gated_delta_gradients_bf16(
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
    bf16* sdo = sq + C * D;
    bf16* snt = sdo + C * D;    // [dv, token]
    bf16* sdn = snt + C * D;    // [dv, token], then dR [token, dv]
    bf16* ss = sdn + C * D;     // [dv, dk]
    bf16* sds = ss + D * D;     // [dv, dk]
    bf16* st = sds + D * D;     // [C, C]
    bf16* se = st + C * C;      // V [C, D], then E, twice
    bf16* se2 = se + C * C;
    bf16* sm = se2 + C * C;
    bf16* sm2 = sm + C * C;
    float(*scalars)[C] = reinterpret_cast<float(*)[C]>(sm2 + C * C);
    float(*rows)[4][C] = reinterpret_cast<float(*)[4][C]>(scalars + SCALARS);  // sums of the four column groups
    float(*columns)[C] = reinterpret_cast<float(*)[C]>(rows + ROWS);           // sums of the two row groups
    float* decays = reinterpret_cast<float*>(columns + 2);                     // exp(G)
    float* rest = decays + C;                                                  // exp(G_last - G)

    const Chunks chunks(table, sequences, n);
    const int64_t at = blockIdx.x, chunk = at / value_heads, head = at % value_heads, key_head = head * key_heads / value_heads;
    const int64_t start = chunks.start[chunk];
    const int length = chunks.length[chunk];
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int group = warp / 4, m = group * 32, part = warp % 4, nc = part * 32;  // 32 rows, 32 of 128 columns
    constexpr int threads = GRADIENT_THREADS;

    copy_tile<threads, C * C>(st, t_in + at * C * C);
    copy_tile<threads, C * D>(sdn, d_nt + at * C * D);
    copy_rows<threads, D>(se, v + start * stride_v + head * D, stride_v, length);
    copy_tile<threads, SCALARS * C * 2>(reinterpret_cast<bf16*>(scalars), reinterpret_cast<const bf16*>(scalars_in + at * SCALARS * C));
    commit();
    copy_rows<threads, D>(sdo, d_o + start * stride_do + head * D, stride_do, length);
    copy_tile<threads, C * D>(snt, nt_in + at * C * D);
    copy_rows<threads, D>(sk, k + start * stride_k + key_head * D, stride_k, length);
    copy_rows<threads, D>(sq, q + start * stride_q + key_head * D, stride_q, length);
    commit();
    copy_tile<threads, D * D>(ss, states + at * D * D);
    commit();
    copy_tile<threads, D * D>(sds, d_states + at * D * D);
    commit();
    wait<3>();
    __syncthreads();
    if (threadIdx.x < C) {
        decays[threadIdx.x] = __expf(scalars[G][threadIdx.x]);
        rest[threadIdx.x] = __expf(scalars[G][C - 1] - scalars[G][threadIdx.x]);
    }

    float acc[2][4][4];
    {  // dR = T^T dN
        clear(acc);
#pragma unroll
        for (int ks = 0; ks < 4; ks++)
            if (ks >= group * 2) multiply<C, true, C, false>(acc, st, sdn, m, nc, ks * 16);
        float sums[2][2];
        row_products(sums, acc, se, m, nc);
#pragma unroll
        for (int mt = 0; mt < 2; mt++) leave_rows(rows[ROW_V][part], m + mt * 16, sums[mt][0], sums[mt][1]);
        __syncthreads();  // dN has been read
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            store_blocks<D>(sdn, m + mt * 16, nc / 8, acc[mt][0], acc[mt][1], acc[mt][2], acc[mt][3]);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = m + mt * 16 + half * 8 + g;
                const float b = scalars[BETA][row];
                const auto piece = [&](int nt) { return pack(b * acc[mt][nt][half * 2], b * acc[mt][nt][half * 2 + 1]); };
                const uint4 values = gather_row(piece(0), piece(1), piece(2), piece(3));
                if (row < length) *reinterpret_cast<uint4*>(dv + (start + row) * stride_dv + head * D + nc + t * 8) = values;
            }
        }
    }
    wait<2>();
    __syncthreads();
    {  // E and M: 16 columns a warp, zeros above the diagonal
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
        float column_sums[2][2] = {};
#pragma unroll
        for (int mt = 0; mt < 2; mt++) {
            float sum_w[2] = {}, sum_m[2] = {};
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int i = m + mt * 16 + half * 8 + g;
                const float run = scalars[G][i], rq = scalars[RQ][i], rk = scalars[RK][i], beta = scalars[BETA][i];
#pragma unroll
                for (int nt = 0; nt < 2; nt++) {
                    float e1[2], e2[2], m1[2], m2[2];
#pragma unroll
                    for (int odd = 0; odd < 2; odd++) {
                        const int j = nj + nt * 8 + 2 * t + odd;
                        const float d = j <= i ? __expf(run - scalars[G][j]) : 0.f, rj = scalars[RK][j];
                        const float ev = e[mt][nt][half * 2 + odd] * d, mv = j < i ? -r[mt][nt][half * 2 + odd] * d : 0.f;
                        const float by_m = mv * kk[mt][nt][half * 2 + odd] * rk * rj;
                        const float w = (j < i ? ev * qk[mt][nt][half * 2 + odd] * rq * rj : 0.f) + beta * by_m;
                        sum_w[half] += w;
                        sum_m[half] += by_m;
                        column_sums[nt][odd] += w;
                        e1[odd] = ev * rj;
                        e2[odd] = ev * rq;
                        m1[odd] = mv * beta * rj;
                        m2[odd] = mv * beta * rk;
                    }
                    const int to = place<C>(i, nj / 8 + nt) + 2 * t;
                    *reinterpret_cast<uint32_t*>(se + to) = pack(e1[0], e1[1]);
                    *reinterpret_cast<uint32_t*>(se2 + to) = pack(e2[0], e2[1]);
                    *reinterpret_cast<uint32_t*>(sm + to) = pack(m1[0], m1[1]);
                    *reinterpret_cast<uint32_t*>(sm2 + to) = pack(m2[0], m2[1]);
                }
            }
            leave_rows(rows[ROW_W][part], m + mt * 16, sum_w[0], sum_w[1]);
            leave_rows(rows[ROW_M][part], m + mt * 16, sum_m[0], sum_m[1]);
        }
#pragma unroll
        for (int nt = 0; nt < 2; nt++)
#pragma unroll
            for (int odd = 0; odd < 2; odd++) {
                float sum = column_sums[nt][odd];
                sum += __shfl_xor_sync(~0u, sum, 4);
                sum += __shfl_xor_sync(~0u, sum, 8);
                sum += __shfl_xor_sync(~0u, sum, 16);
                if (g == 0) columns[group][nj + nt * 8 + 2 * t + odd] = sum;
            }
    }
    wait<1>();
    __syncthreads();
    float sums[2][2];
    float dqs[2][4][4], dks[2][4][4];
    clear(dqs);
    clear(dks);
    clear(acc);
#pragma unroll
    for (int ks = 0; ks < 8; ks++) multiply<D, false, D, true>(dqs, sdo, ss, m, nc, ks * 16);
    row_products(sums, dqs, sq, m, nc);
#pragma unroll
    for (int mt = 0; mt < 2; mt++) {
        leave_rows(rows[ROW_Q][part], m + mt * 16, sums[mt][0], sums[mt][1]);
        const float low = decays[m + mt * 16 + g], high = decays[m + mt * 16 + g + 8];
#pragma unroll
        for (int nt = 0; nt < 4; nt++) dqs[mt][nt][0] *= low, dqs[mt][nt][1] *= low, dqs[mt][nt][2] *= high, dqs[mt][nt][3] *= high;
    }
#pragma unroll
    for (int ks = 0; ks < 4; ks++)
        if (ks < group * 2 + 2) {
            uint32_t fb[2][4];
#pragma unroll
            for (int np = 0; np < 2; np++) load_b<D, true>(fb[np], sk, ks * 16, nc + np * 16);
#pragma unroll
            for (int mt = 0; mt < 2; mt++)
                if (ks <= group * 2 + mt) {
                    uint32_t fa[4];
                    load_a<C, false>(fa, se, m + mt * 16, ks * 16);
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) mma(dqs[mt][nt], fa, fb[nt / 2][(nt & 1) * 2], fb[nt / 2][(nt & 1) * 2 + 1]);
                    load_a<C, false>(fa, sm, m + mt * 16, ks * 16);
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) mma(dks[mt][nt], fa, fb[nt / 2][(nt & 1) * 2], fb[nt / 2][(nt & 1) * 2 + 1]);
                }
        }
#pragma unroll
    for (int ks = 0; ks < 4; ks++)
        if (ks >= group * 2) {
            uint32_t fb[2][4], fk[2][4];
#pragma unroll
            for (int np = 0; np < 2; np++) {
                load_b<D, true>(fb[np], sq, ks * 16, nc + np * 16);
                load_b<D, true>(fk[np], sk, ks * 16, nc + np * 16);
            }
#pragma unroll
            for (int mt = 0; mt < 2; mt++)
                if (ks >= group * 2 + mt) {
                    uint32_t fa[4];
                    load_a<C, true>(fa, se2, m + mt * 16, ks * 16);
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) mma(dks[mt][nt], fa, fb[nt / 2][(nt & 1) * 2], fb[nt / 2][(nt & 1) * 2 + 1]);
                    load_a<C, true>(fa, sm2, m + mt * 16, ks * 16);
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) mma(dks[mt][nt], fa, fk[nt / 2][(nt & 1) * 2], fk[nt / 2][(nt & 1) * 2 + 1]);
                }
        }
#pragma unroll
    for (int ks = 0; ks < 8; ks++) multiply<D, false, D, true>(acc, sdn, ss, m, nc, ks * 16);
    row_products(sums, acc, sk, m, nc);
#pragma unroll
    for (int mt = 0; mt < 2; mt++) {
        leave_rows(rows[ROW_K][part], m + mt * 16, sums[mt][0], sums[mt][1]);
        const int row = m + mt * 16 + g;
        const float low = decays[row] * scalars[BETA][row], high = decays[row + 8] * scalars[BETA][row + 8];
#pragma unroll
        for (int nt = 0; nt < 4; nt++)
#pragma unroll
            for (int i = 0; i < 4; i++) dks[mt][nt][i] -= (i >= 2 ? high : low) * acc[mt][nt][i];
    }
    wait<0>();
    __syncthreads();
    clear(acc);
#pragma unroll
    for (int ks = 0; ks < 8; ks++) multiply<C, true, D, true>(acc, snt, sds, m, nc, ks * 16);
    row_products(sums, acc, sk, m, nc);
#pragma unroll
    for (int mt = 0; mt < 2; mt++) {
        leave_rows(rows[ROW_N][part], m + mt * 16, sums[mt][0], sums[mt][1]);
        const int row = m + mt * 16 + g;
        const float low = rest[row], high = rest[row + 8];
#pragma unroll
        for (int nt = 0; nt < 4; nt++)
#pragma unroll
            for (int i = 0; i < 4; i++) dks[mt][nt][i] += (i >= 2 ? high : low) * acc[mt][nt][i];
    }
    float inner = 0.f;  // <S, dS>
#pragma unroll 4
    for (int i = threadIdx.x; i < D * D / 8; i += threads) {
        float x[8], y[8];
        load<8>(ss + i * 8, x);
        load<8>(sds + i * 8, y);
#pragma unroll
        for (int j = 0; j < 8; j++) inner += x[j] * y[j];
    }
    inner = block_sum(inner);

    row_products(sums, dqs, sq, m, nc);
#pragma unroll
    for (int mt = 0; mt < 2; mt++) leave_rows(rows[ROW_UQ][part], m + mt * 16, sums[mt][0], sums[mt][1]);
    row_products(sums, dks, sk, m, nc);
#pragma unroll
    for (int mt = 0; mt < 2; mt++) leave_rows(rows[ROW_UK][part], m + mt * 16, sums[mt][0], sums[mt][1]);
    __syncthreads();
    const auto row_sum = [&](int what, int row) { return rows[what][0][row] + rows[what][1][row] + rows[what][2][row] + rows[what][3][row]; };
    constexpr float scale = 0.08838834764831845f;
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = m + mt * 16 + half * 8 + g;
            if (dq_units) {
                if (row < length) {
                    float* to_q = dq_units + ((start + row) * value_heads + head) * D + nc + 2 * t;
                    float* to_k = dk_units + ((start + row) * value_heads + head) * D + nc + 2 * t;
#pragma unroll
                    for (int nt = 0; nt < 4; nt++) {
                        *reinterpret_cast<float2*>(to_q + nt * 8) = make_float2(scale * dqs[mt][nt][half * 2], scale * dqs[mt][nt][half * 2 + 1]);
                        *reinterpret_cast<float2*>(to_k + nt * 8) = make_float2(dks[mt][nt][half * 2], dks[mt][nt][half * 2 + 1]);
                    }
                }
                continue;
            }
            const float fq = scalars[RQ][row], fk = scalars[RK][row];
            // dq = fq dqs - q fq^3 / scale^2 (q . dqs), as fq = scale / |q|
            const float along_q = fq * fq * fq / (scale * scale) * row_sum(ROW_UQ, row), along_k = fk * fk * fk * row_sum(ROW_UK, row);
            uint32_t oq[4], ok[4];
#pragma unroll
            for (int nt = 0; nt < 4; nt++) {
                const int from = place<D>(row, nc / 8 + nt) + 2 * t;
                const float2 x = unpack(*reinterpret_cast<const uint32_t*>(sq + from)), y = unpack(*reinterpret_cast<const uint32_t*>(sk + from));
                oq[nt] = pack(fq * dqs[mt][nt][half * 2] - x.x * along_q, fq * dqs[mt][nt][half * 2 + 1] - x.y * along_q);
                ok[nt] = pack(fk * dks[mt][nt][half * 2] - y.x * along_k, fk * dks[mt][nt][half * 2 + 1] - y.y * along_k);
            }
            const uint4 wq = gather_row(oq[0], oq[1], oq[2], oq[3]), wk = gather_row(ok[0], ok[1], ok[2], ok[3]);
            if (row < length) {
                *reinterpret_cast<uint4*>(dq + (start + row) * stride_dq + key_head * D + nc + t * 8) = wq;
                *reinterpret_cast<uint4*>(dk + (start + row) * stride_dk + key_head * D + nc + t * 8) = wk;
            }
        }
    if (warp == 0) {
        float passing[2], kept[2];  // sums from t on, sums before t
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = 2 * lane + i;
            const float by_key = -row_sum(ROW_K, row) * scalars[RK][row] * decays[row];
            const float d_beta = row_sum(ROW_V, row) + row_sum(ROW_M, row) + by_key;
            if (row < length) dbeta[(start + row) * value_heads + head] = d_beta;
            passing[i] = row_sum(ROW_W, row) - columns[0][row] - columns[1][row] + row_sum(ROW_Q, row) * scalars[EQ][row] + scalars[BETA][row] * by_key;
            kept[i] = row_sum(ROW_N, row) * scalars[FK][row];
        }
        float after = passing[0] + passing[1], before = kept[0] + kept[1];
#pragma unroll
        for (int offset = 1; offset < 32; offset *= 2) {
            const float x = __shfl_down_sync(~0u, after, offset), y = __shfl_up_sync(~0u, before, offset);
            if (lane + offset < 32) after += x;
            if (lane >= offset) before += y;
        }
        before = __shfl_up_sync(~0u, before, 1);
        if (lane == 0) before = 0.f;
        const float whole = decays[C - 1] * inner;
        if (2 * lane < length) dg[(start + 2 * lane) * value_heads + head] = after + before + whole;
        if (2 * lane + 1 < length) dg[(start + 2 * lane + 1) * value_heads + head] = after - passing[0] + before + kept[0] + whole;
    }
}
