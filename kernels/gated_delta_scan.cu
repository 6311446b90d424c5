// Gated delta rule with dk = dv = 128, second step: the walk over the chunks of a sequence, forward for the state, backward for its gradient.
//
//   forward    N = U - W S      O = exp(G) Q S + P N      S <- exp(G_last) S + (exp(G_last - G) K)^T N
//   backward   dN = L + exp(G_last - G) K dS              dS <- exp(G_last) dS + Q^T (exp(G) dO) - W^T dN
//
// shapes    q, k [N, Kl, 128], o, do [N, Hv, 128] bf16; tiles W, U^T, P, L^T and scalars as the first step leaves them; initial and final state
//           [B, Hv, 128, 128] f32; by chunk and head: S^T, dS^T (before the chunk, after it) [128, 128], N^T, dN^T [128, 64] bf16
// launch    a group of SPLIT warps holds 16 columns of dv in its registers, transposed, from the first chunk to the last: each warp a part of dk,
//           and each computes a part of the tokens; a block is GROUPS such groups that read the same tiles; grid B Hv (8 / GROUPS); both walks of the
//           backward are one launch of twice as many blocks
// traffic   a block reads its tiles W, K (Q, P) from the L2 cache, that is 8 / GROUPS reads of what lies in memory once
// numerics  state and sums in f32; the operands S, N, dS, dN rounded to bf16
// compare   src/ops/gated_delta/{forward,backward}.rs
#include "gated_delta.cuh"

namespace gated_delta {

enum Walk { OUTPUT, STATES, GRADIENT };

template <int GROUPS, int WALK> struct Stage {
    static constexpr int w = 0, k = w + C * D, q = k + C * D, p = q + (WALK == STATES ? 0 : C * D), u = p + (WALK == OUTPUT ? C * C : 0),
                         d_o = u + GROUPS * 16 * C, scalars = d_o + (WALK == GRADIENT ? GROUPS * 16 * C : 0), size = scalars + 2 * C * 2;
};
// What the warps of a group tell each other, in bf16: S and N as A operands, N twice where there is an output.
constexpr int told(int walk) { return (8 + (walk == OUTPUT ? 8 : 4)) * 32 * 8; }

struct Arguments {
    const bf16 *q, *k, *d_o, *w, *ut, *p;   // ut is L^T in the backward walk
    const float *scalars, *first_state;     // null: 0
    const uint32_t* table;
    bf16 *o, *states, *nt;
    float* last_state;
    int64_t stride_q, stride_k, stride_do, sequences, n, key_heads, value_heads;
};

template <int GROUPS, int WALK, int THREADS>
__device__ __forceinline__ void fetch(bf16* stage, const Arguments& a, const Chunks& chunks, int64_t chunk, int64_t head, int64_t key_head, int part) {
    using S = Stage<GROUPS, WALK>;
    const int64_t at = chunk * a.value_heads + head, start = chunks.start[chunk];
    const int length = chunks.length[chunk];
    copy_tile<THREADS, C * D>(stage + S::w, a.w + at * C * D);
    copy_tile<THREADS, GROUPS * 16 * C>(stage + S::u, a.ut + at * C * D + part * GROUPS * 16 * C);
    copy_rows<THREADS, D>(stage + S::k, a.k + start * a.stride_k + key_head * D, a.stride_k, length);
    if (WALK != STATES) copy_rows<THREADS, D>(stage + S::q, a.q + start * a.stride_q + key_head * D, a.stride_q, length);
    if (WALK == OUTPUT) copy_tile<THREADS, C * C>(stage + S::p, a.p + at * C * C);
    if (WALK == GRADIENT) copy_rows<THREADS, GROUPS * 16>(stage + S::d_o, a.d_o + start * a.stride_do + head * D + part * GROUPS * 16, a.stride_do, length);
    copy_tile<THREADS, 2 * C * 2>(stage + S::scalars, reinterpret_cast<const bf16*>(a.scalars + at * SCALARS * C));  // EQ and FK
}

template <int SPLIT> __device__ __forceinline__ void meet(int group) {
    if constexpr (SPLIT == 1) __syncwarp();
    else asm volatile("bar.sync %0, %1;\n" ::"r"(group + 1), "n"(SPLIT * 32) : "memory");
}

template <int GROUPS, int SPLIT, int WALK, int STAGES> __device__ __forceinline__ void walk(const Arguments& a, int64_t block) {
    using L = Stage<GROUPS, WALK>;
    constexpr int THREADS = GROUPS * SPLIT * 32, TOKENS = C / SPLIT, KEYS = D / SPLIT;  // of a warp
    extern __shared__ __align__(128) unsigned char memory[];
    bf16* stages = reinterpret_cast<bf16*>(memory);
    const Chunks chunks(a.table, a.sequences, a.n);
    const int part = block % (8 / GROUPS);
    const int64_t pair = block / (8 / GROUPS), sequence = pair / a.value_heads, head = pair % a.value_heads, key_head = head * a.key_heads / a.value_heads;
    const int64_t first = chunks.first[sequence], count = chunks.first[sequence + 1] - first;
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int group = warp / SPLIT, member = warp % SPLIT, column = (part * GROUPS + group) * 16;  // of dv
    const int token0 = member * TOKENS, key0 = member * KEYS;
    uint4* told_s = reinterpret_cast<uint4*>(stages + STAGES * L::size + group * told(WALK)) + lane;  // [8][32]
    uint4* told_n = told_s + 8 * 32;                                                            // [4][32], for the state
    uint4* told_o = told_n + 4 * 32;                                                            // [4][32], for the output
    const auto chunk_of = [&](int64_t i) { return WALK == GRADIENT ? first + count - 1 - i : first + i; };

    float s[KEYS / 8][4];  // transposed: rows are dv, blocks are 8 of dk
    {
        const float* from = a.first_state + pair * D * D;
#pragma unroll
        for (int nt = 0; nt < KEYS / 8; nt++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[nt][i] = a.first_state ? from[(key0 + nt * 8 + 2 * t + (i & 1)) * D + column + g + (i >= 2 ? 8 : 0)] : 0.f;
    }
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < count) fetch<GROUPS, WALK, THREADS>(stages + i * L::size, a, chunks, chunk_of(i), head, key_head, part);
        commit();
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t chunk = chunk_of(i), at = chunk * a.value_heads + head;
        const float keep = __expf(a.scalars[at * SCALARS * C + G * C + C - 1]);
        // The state as an operand: the own part told, stored, then all of it read.
        uint32_t sa[8][4];
        {
            uint32_t own[KEYS / 16][4];
#pragma unroll
            for (int ks = 0; ks < KEYS / 16; ks++) {
                as_a(own[ks], s[2 * ks], s[2 * ks + 1]);
                told_s[(member * (KEYS / 16) + ks) * 32] = *reinterpret_cast<uint4*>(own[ks]);
            }
            if (WALK != OUTPUT) {
                bf16* out = a.states + at * D * D;
#pragma unroll
                for (int piece = 0; piece < KEYS / 32; piece++) {
                    const auto &x = own[2 * piece], &y = own[2 * piece + 1];
                    *reinterpret_cast<uint4*>(out + place<D>(column + g, key0 / 8 + piece * 4 + t)) = gather_row(x[0], x[2], y[0], y[2]);
                    *reinterpret_cast<uint4*>(out + place<D>(column + g + 8, key0 / 8 + piece * 4 + t)) = gather_row(x[1], x[3], y[1], y[3]);
                }
            }
        }
        wait<STAGES - 2>();
        __syncthreads();
        if (i + STAGES - 1 < count)
            fetch<GROUPS, WALK, THREADS>(stages + ((i + STAGES - 1) % STAGES) * L::size, a, chunks, chunk_of(i + STAGES - 1), head, key_head, part);
        commit();
#pragma unroll
        for (int ks = 0; ks < 8; ks++) *reinterpret_cast<uint4*>(sa[ks]) = told_s[ks * 32];
        const bf16* stage = stages + (i % STAGES) * L::size;
        const bf16 *sw = stage + L::w, *sk = stage + L::k, *sq = stage + L::q, *sp = stage + L::p, *su = stage + L::u + group * 16 * C;
        const float2* eq = reinterpret_cast<const float2*>(stage + L::scalars);
        const float2* fk = eq + C / 2;

        float n[TOKENS / 8][4] = {};  // N or dN, transposed: blocks are 8 tokens
#pragma unroll
        for (int ks = 0; ks < 8; ks++) {
#pragma unroll
            for (int np = 0; np < TOKENS / 16; np++) {
                uint32_t b[4];
                load_b<D, false>(b, WALK == GRADIENT ? sk : sw, ks * 16, token0 + np * 16);
                mma(n[2 * np], sa[ks], b[0], b[1]);
                mma(n[2 * np + 1], sa[ks], b[2], b[3]);
            }
        }
#pragma unroll
        for (int nt = 0; nt < TOKENS / 8; nt++) {
            const int piece = token0 / 8 + nt;
            const float2 low = unpack(*reinterpret_cast<const uint32_t*>(su + place<C>(g, piece) + 2 * t));
            const float2 high = unpack(*reinterpret_cast<const uint32_t*>(su + place<C>(g + 8, piece) + 2 * t));
            const float2 f = WALK == GRADIENT ? fk[piece * 4 + t] : make_float2(-1.f, -1.f);
            n[nt][0] = low.x + f.x * n[nt][0];
            n[nt][1] = low.y + f.y * n[nt][1];
            n[nt][2] = high.x + f.x * n[nt][2];
            n[nt][3] = high.y + f.y * n[nt][3];
        }
#pragma unroll
        for (int ks = 0; ks < TOKENS / 16; ks++) {
            const int step = token0 / 16 + ks;
            uint32_t na[4];
            float low[4], high[4];
            const float2 f = WALK == GRADIENT ? make_float2(-1.f, -1.f) : fk[step * 8 + t], h = WALK == GRADIENT ? f : fk[step * 8 + 4 + t];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                low[j] = n[2 * ks][j] * (j & 1 ? f.y : f.x);
                high[j] = n[2 * ks + 1][j] * (j & 1 ? h.y : h.x);
            }
            as_a(na, low, high);
            told_n[step * 32] = *reinterpret_cast<uint4*>(na);
            if (WALK == OUTPUT) {
                as_a(na, n[2 * ks], n[2 * ks + 1]);
                told_o[step * 32] = *reinterpret_cast<uint4*>(na);
            }
        }
        if (WALK != OUTPUT) {
            bf16* out = a.nt + at * C * D;
            if constexpr (TOKENS >= 32) {
#pragma unroll
                for (int nt = 0; nt < TOKENS / 8; nt += 4) store_blocks<C>(out, column, token0 / 8 + nt, n[nt], n[nt + 1], n[nt + 2], n[nt + 3]);
            } else {
#pragma unroll
                for (int nt = 0; nt < TOKENS / 8; nt++) {
                    *reinterpret_cast<uint32_t*>(out + place<C>(column + g, token0 / 8 + nt) + 2 * t) = pack(n[nt][0], n[nt][1]);
                    *reinterpret_cast<uint32_t*>(out + place<C>(column + g + 8, token0 / 8 + nt) + 2 * t) = pack(n[nt][2], n[nt][3]);
                }
            }
        }
        float o[TOKENS / 8][4] = {};
        if constexpr (WALK == OUTPUT) {
#pragma unroll
            for (int ks = 0; ks < 8; ks++) {
#pragma unroll
                for (int np = 0; np < TOKENS / 16; np++) {
                    uint32_t b[4];
                    load_b<D, false>(b, sq, ks * 16, token0 + np * 16);
                    mma(o[2 * np], sa[ks], b[0], b[1]);
                    mma(o[2 * np + 1], sa[ks], b[2], b[3]);
                }
            }
#pragma unroll
            for (int nt = 0; nt < TOKENS / 8; nt++) {
                const float2 f = eq[(token0 / 8 + nt) * 4 + t];
                o[nt][0] *= f.x, o[nt][1] *= f.y, o[nt][2] *= f.x, o[nt][3] *= f.y;
            }
        }
#pragma unroll
        for (int nt = 0; nt < KEYS / 8; nt++)
#pragma unroll
            for (int j = 0; j < 4; j++) s[nt][j] *= keep;
        if constexpr (WALK == GRADIENT) {
            const bf16* sdo = stage + L::d_o;
#pragma unroll
            for (int ks = 0; ks < 4; ks++) {
                uint32_t da[4];
                load_a<GROUPS * 16, true>(da, sdo, group * 16, ks * 16);
                const float2 e = eq[ks * 8 + t], f = eq[ks * 8 + 4 + t];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float2 x = unpack(da[j]), y = j >= 2 ? f : e;
                    da[j] = pack(x.x * y.x, x.y * y.y);
                }
#pragma unroll
                for (int np = 0; np < KEYS / 16; np++) {
                    uint32_t b[4];
                    load_b<D, true>(b, sq, ks * 16, key0 + np * 16);
                    mma(s[2 * np], da, b[0], b[1]);
                    mma(s[2 * np + 1], da, b[2], b[3]);
                }
            }
        }
        meet<SPLIT>(group);
#pragma unroll
        for (int ks = 0; ks < 4; ks++) {
            uint32_t na[4];
            *reinterpret_cast<uint4*>(na) = told_n[ks * 32];
#pragma unroll
            for (int np = 0; np < KEYS / 16; np++) {
                uint32_t b[4];
                load_b<D, true>(b, WALK == GRADIENT ? sw : sk, ks * 16, key0 + np * 16);
                mma(s[2 * np], na, b[0], b[1]);
                mma(s[2 * np + 1], na, b[2], b[3]);
            }
        }
        if constexpr (WALK == OUTPUT) {
#pragma unroll
            for (int ks = 0; ks < 4; ks++) {
                if (ks * 16 < token0 + TOKENS) {
                    uint32_t na[4];
                    *reinterpret_cast<uint4*>(na) = told_o[ks * 32];
#pragma unroll
                    for (int np = 0; np < TOKENS / 16; np++)
                        if (ks <= token0 / 16 + np) {
                            uint32_t b[4];
                            load_b<C, false>(b, sp, ks * 16, token0 + np * 16);
                            mma(o[2 * np], na, b[0], b[1]);
                            mma(o[2 * np + 1], na, b[2], b[3]);
                        }
                }
            }
            const int64_t start = chunks.start[chunk];
            const int length = chunks.length[chunk];
            bf16* out = a.o + (start * a.value_heads + head) * D + column + 2 * t;
#pragma unroll
            for (int nt = 0; nt < TOKENS / 8; nt++) {  // a lane gets the token 8 nt + g
                uint32_t low = pack(o[nt][0], o[nt][1]), high = pack(o[nt][2], o[nt][3]);
                asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;\n" : "+r"(low));
                asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;\n" : "+r"(high));
                const int token = token0 + nt * 8 + g;
                if (token < length) {
                    uint32_t* to = reinterpret_cast<uint32_t*>(out + token * a.value_heads * D);
                    to[0] = low;
                    to[4] = high;
                }
            }
        }
    }
    if (a.last_state) {
        float* to = a.last_state + pair * D * D;
#pragma unroll
        for (int nt = 0; nt < KEYS / 8; nt++)
#pragma unroll
            for (int i = 0; i < 4; i++) to[(key0 + nt * 8 + 2 * t + (i & 1)) * D + column + g + (i >= 2 ? 8 : 0)] = s[nt][i];
    }
}

}  // namespace gated_delta

#define OUTPUT_WALK(NAME, GROUPS, SPLIT, STAGES)                                                                                                              \
    extern "C" __global__ void __launch_bounds__(GROUPS* SPLIT * 32) NAME(                                                                                    \
        const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ w, const bf16* __restrict__ ut, const bf16* __restrict__ p,          \
        const float* __restrict__ scalars, const float* __restrict__ initial, const uint32_t* __restrict__ table, bf16* __restrict__ o,                       \
        float* __restrict__ final_state, int64_t stride_q, int64_t stride_k, int64_t sequences, int64_t n, int64_t key_heads, int64_t value_heads) {          \
        using namespace gated_delta;                                                                                                                          \
        const Arguments a{q, k, nullptr, w, ut, p, scalars, initial, table, o, nullptr, nullptr, final_state, stride_q, stride_k, 0, sequences, n, key_heads, \
                          value_heads};                                                                                                                       \
        walk<GROUPS, SPLIT, OUTPUT, STAGES>(a, blockIdx.x);                                                                                                   \
    }

// Odd blocks walk forward, even ones backward, so that a multiprocessor gets both.
#define BOTH_WALKS(NAME, GROUPS, SPLIT, STAGES)                                                                                                               \
    extern "C" __global__ void __launch_bounds__(GROUPS* SPLIT * 32) NAME(                                                                                    \
        const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ d_o, const bf16* __restrict__ w, const bf16* __restrict__ ut,        \
        const bf16* __restrict__ lt, const float* __restrict__ scalars, const float* __restrict__ initial, const float* __restrict__ d_final,                 \
        const uint32_t* __restrict__ table, bf16* __restrict__ states, bf16* __restrict__ nt, bf16* __restrict__ d_states, bf16* __restrict__ d_nt,           \
        float* __restrict__ d_initial, int64_t stride_q, int64_t stride_k, int64_t stride_do, int64_t sequences, int64_t n, int64_t key_heads,                \
        int64_t value_heads) {                                                                                                                                \
        using namespace gated_delta;                                                                                                                          \
        if (blockIdx.x & 1) {                                                                                                                                 \
            const Arguments a{q, k, d_o, w, ut, nullptr, scalars, initial, table, nullptr, states, nt, nullptr, stride_q, stride_k, stride_do, sequences, n,  \
                              key_heads, value_heads};                                                                                                        \
            walk<GROUPS, SPLIT, STATES, STAGES>(a, blockIdx.x / 2);                                                                                           \
        } else {                                                                                                                                              \
            const Arguments a{q, k, d_o, w, lt, nullptr, scalars, d_final, table, nullptr, d_states, d_nt, d_initial, stride_q, stride_k, stride_do,          \
                              sequences, n, key_heads, value_heads};                                                                                          \
            walk<GROUPS, SPLIT, GRADIENT, STAGES>(a, blockIdx.x / 2);                                                                                         \
        }                                                                                                                                                     \
    }

// The fastest on an H100 of groups 2 and 4, splits 2 and 4, stages 2 and 3, the output's walk at 2 x 4096 tokens and 16 heads: 147 us
// (2 4 2, 2 4 3), 156 (2 2 3), 174 (2 2 2), 203 and more (groups of 4); both walks: 223 us (4 2 2), 236 (4 2 3), 238 (4 4 2), 285 (2 4 2),
// 328 (2 2 2).
OUTPUT_WALK(gated_delta_scan_bf16, 2, 4, 2)
BOTH_WALKS(gated_delta_scans_bf16, 4, 2, 2)
