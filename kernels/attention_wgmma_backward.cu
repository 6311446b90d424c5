// Causal softmax attention on Hopper's tensor cores, backward: bf16, head dim 256.
//
//   P = exp(scale q k^T - lse)    dv = P^T do    dS = P (do v^T - delta)    dq = scale dS k    dk = scale dS^T q
//   delta = sum_d do o, from attention.cu
//
// shapes    q, do, dq [N, H, 256], k, dk [N, K, 256] contiguous; v, dv [N, K, 256] with a row stride; all bf16; lse, delta [N, H] f32;
//           table [blocks, 3] u32: first and last + 1 token of the document, first token of the block, longest work first
// launch    384 threads, one block an SM: a warpgroup copies, two multiply
//           query: (H, blocks of 128 queries); each warpgroup has 64 queries and goes over the keys
//           key: (K, blocks of 64 keys); goes over the query heads of the group and their queries. One warpgroup makes P^T and dv, the
//           other dP^T, dS^T and dk; P^T goes from the first to the second through shared memory
// numerics  scores and sums in f32; P and dS are rounded to bf16 as operands of the next product. Every sum has a fixed order
// traffic   operands stay in the L2 cache: bound by the tensor cores. 7 products where 5 are needed: the two kernels make S and dP
//           twice, which is cheaper than adding up dq in memory, and has an order; on an H100, 2 x 4096 tokens,
//           8 heads over 2: 0.30 and 0.46 ms, 680 and 590 TFLOP/s of the products they do
// compare   src/ops/attention/reference.rs
#include "attention_wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int KEYS = 64;  // of a tile of the query kernel

// ---- queries ----------------------------------------------------------------------------------------------------------------------

namespace query_layout {
constexpr int Q = 0, DO = Q + 2 * TILE, K = DO + 2 * TILE, V = K + 2 * TILE, BARRIERS = V + TILE;
constexpr int Q_FULL = BARRIERS, K_FULL = Q_FULL + 8, K_EMPTY = K_FULL + 16, V_FULL = K_EMPTY + 16, V_EMPTY = V_FULL + 16;
}  // namespace query_layout

// From scores and dP to dS / scale, as the operand of the next product.
template <bool MASKED>
__device__ __forceinline__ void score_gradients(uint32_t (&ds)[KEYS / 4], const float (&p)[KEYS / 2], const float (&dp)[KEYS / 2],
                                                const float (&delta)[2], int visible) {
#pragma unroll
    for (int i = 0; i < KEYS / 2; i += 2) {
        const int r = i / 2 % 2;
        float low = p[i] * (dp[i] - delta[r]), high = p[i + 1] * (dp[i + 1] - delta[r]);
        if (MASKED) {
            if (i / 4 * 8 >= visible + r * 8) low = 0.f;
            if (i / 4 * 8 + 1 >= visible + r * 8) high = 0.f;
        }
        ds[i / 2] = pack(low, high);
    }
}

__device__ __forceinline__ void backward_query_block(const bf16* d_o, const bf16* q, const bf16* k, const bf16* v, const float* lse,
                                                     const float* delta, bf16* dq, const uint32_t* table, int64_t H, int64_t K_heads,
                                                     int64_t v_stride, float scale) {
    using namespace query_layout;
    const uint32_t base = shared_address(memory);
    const int head = blockIdx.x, kv_head = head / (int)(H / K_heads);
    const Work work(table, blockIdx.y);
    const int group = warpgroup();
    if (threadIdx.x == 0) {
        barrier_init(base + Q_FULL, 128);
        for (int i = 0; i < 2; i++) {
            barrier_init(base + K_FULL + 8 * i, 64);
            barrier_init(base + K_EMPTY + 8 * i, 8);
            barrier_init(base + V_FULL + 8 * i, 64);  // values have one place and use the first
            barrier_init(base + V_EMPTY + 8 * i, 8);
        }
    }
    __syncthreads();
    if (group == 0) {
        give_registers<24>();
        const int half = __shfl_sync(0xffffffffu, (int)threadIdx.x / 64, 0);  // two streams, which do not wait for each other
        const int thread = threadIdx.x % 64;
        copy_rows<64, 64>(base + Q + half * TILE, q + head * D, H * D, work.first + 64 * half, work.end, thread);
        copy_rows<64, 64>(base + DO + half * TILE, d_o + head * D, H * D, work.first + 64 * half, work.end, thread);
        copy_arrive(base + Q_FULL);
        const bf16* rows = (half ? v : k) + kv_head * D;
        const int64_t stride = half ? v_stride : K_heads * D;
        const uint32_t full = base + (half ? V_FULL : K_FULL), empty = base + (half ? V_EMPTY : K_EMPTY), to = base + (half ? V : K);
        const int tiles = work.key_tiles(work.first + 64, KEYS);
        for (int j = 0; j < tiles; j++) {
            const int slots = half ? 1 : 2, slot = j & slots - 1, use = j / slots;  // one for values, two for keys
            if (use > 0) barrier_wait(empty + 8 * slot, use - 1 & 1);
            copy_rows<KEYS, 64>(to + slot * TILE, rows, stride, work.start + j * KEYS, work.end, thread);
            copy_arrive(full + 8 * slot);
        }
    } else {
        take_registers<240>();
        const int first = work.first + (group - 1) * 64, row = first + sum_row();
        const uint32_t q_tile = base + Q + (group - 1) * TILE, do_tile = base + DO + (group - 1) * TILE;
        const int tiles = work.key_tiles(first, KEYS);
        const float scale_2 = scale * LOG2_E;
        float sum[128], s[KEYS / 2], dp[KEYS / 2], offset[2], del[2];
        uint32_t ds[KEYS / 4];
#pragma unroll
        for (int i = 0; i < 128; i++) sum[i] = 0.f;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const bool inside = row + 8 * r < work.end;
            offset[r] = inside ? lse[(row + 8 * r) * H + head] * LOG2_E : 0.f;
            del[r] = inside ? delta[(row + 8 * r) * H + head] : 0.f;
        }
        copy_wait(base + Q_FULL, 0);
        const auto scores = [&](int j) {
            copy_wait(base + K_FULL + 8 * (j & 1), j >> 1 & 1);
            wgmma_begin();
            multiply_transposed<KEYS>(s, q_tile, base + K + (j & 1) * TILE);
            wgmma_commit();
            copy_wait(base + V_FULL, j & 1);
            wgmma_begin();
            multiply_transposed<KEYS>(dp, do_tile, base + V);
            wgmma_commit();
        };
        const auto exponentials = [&] {
            wgmma_wait<1>();
            pin(s);
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) s[i] = power_of_2(s[i] * scale_2 - offset[i / 2 % 2]);
            wgmma_wait<0>();
            pin(dp);
            warp_arrive(base + V_EMPTY);
        };
        const auto add = [&](int j) {
            const int key = work.start + j * KEYS;
            const int visible = row + 1 - key - sum_column();
            if (key + KEYS - 1 > first) score_gradients<true>(ds, s, dp, del, visible);
            else score_gradients<false>(ds, s, dp, del, visible);
            wgmma_begin();
            multiply_add<KEYS>(sum, ds, base + K + (j & 1) * TILE);
            wgmma_commit();
        };
        scores(0);
        exponentials();
        for (int j = 1; j < tiles; j++) {
            add(j - 1);
            scores(j);
            wgmma_wait<2>();
            warp_arrive(base + K_EMPTY + 8 * (j - 1 & 1));
            exponentials();
        }
        add(tiles - 1);
        wgmma_wait<0>();
        pin(sum);
        store_sums(sum, scale, scale, q_tile, dq + (first * H + head) * D, H * D, work.end - first, group);
    }
}

// ---- keys and values --------------------------------------------------------------------------------------------------------------

namespace key_layout {
constexpr int K = 0, V = K + TILE, Q = V + TILE, DO = Q + 2 * TILE, P = DO + 2 * TILE, P_BYTES = 64 * 64 * 4;
constexpr int LSE = P + 2 * P_BYTES, DELTA = LSE + 2 * 256, BARRIERS = DELTA + 2 * 256;
constexpr int KV_FULL = BARRIERS, Q_FULL = KV_FULL + 8, DO_FULL = Q_FULL + 16, P_FULL = DO_FULL + 16, Q_EMPTY = P_FULL + 16,
              DO_EMPTY = Q_EMPTY + 16, P_EMPTY = DO_EMPTY + 16;
}  // namespace key_layout

// Two values of a row of 64 floats in shared memory, for columns 8 c + sum_column() on.
__device__ __forceinline__ float2 column_pair(uint32_t row, int c) {
    float2 pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(row + c * 32 + sum_column() * 4) : "memory");
    return pair;
}

__device__ __forceinline__ void backward_key_block(const bf16* d_o, const bf16* q, const bf16* k, const bf16* v, const float* lse,
                                                   const float* delta, bf16* dk, bf16* dv, const uint32_t* table, int64_t H,
                                                   int64_t K_heads, int64_t v_stride, int64_t dv_stride, float scale) {
    using namespace key_layout;
    const uint32_t base = shared_address(memory);
    const int kv_head = blockIdx.x, heads = (int)(H / K_heads);
    const Work work(table, blockIdx.y);
    const int group = warpgroup();
    if (threadIdx.x == 0) {
        barrier_init(base + KV_FULL, 128);
        for (int i = 0; i < 2; i++) {
            barrier_init(base + Q_FULL + 8 * i, 64);
            barrier_init(base + DO_FULL + 8 * i, 64);
            barrier_init(base + P_FULL + 8 * i, 4);
            barrier_init(base + Q_EMPTY + 8 * i, 8);
            barrier_init(base + DO_EMPTY + 8 * i, 8);
            barrier_init(base + P_EMPTY + 8 * i, 4);
        }
    }
    __syncthreads();
    const int tiles_of_head = (work.end - work.first + 63) / 64, tiles = tiles_of_head * heads;
    const int row = sum_row(), columns = sum_column();
    if (group == 0) {
        give_registers<24>();
        const int half = __shfl_sync(0xffffffffu, (int)threadIdx.x / 64, 0);  // two streams, which do not wait for each other
        const int thread = threadIdx.x % 64;
        copy_rows<64, 64>(base + (half ? V : K), (half ? v : k) + kv_head * D, half ? v_stride : K_heads * D, work.first, work.end, thread);
        copy_arrive(base + KV_FULL);
        const bf16* rows = half ? d_o : q;
        const float* numbers = half ? delta : lse;
        const uint32_t full = base + (half ? DO_FULL : Q_FULL), empty = base + (half ? DO_EMPTY : Q_EMPTY);
        const uint32_t to = base + (half ? DO : Q), numbers_to = base + (half ? DELTA : LSE) + thread * 4;
        int head = kv_head * heads, query = work.first;
        for (int t = 0; t < tiles; t++) {
            const int slot = t & 1;
            if (t > 1) barrier_wait(empty + 8 * slot, (t >> 1) - 1 & 1);
            copy_rows<64, 64>(to + slot * TILE, rows + head * D, H * D, query, work.end, thread);
            copy_4(numbers_to + slot * 256, numbers + (query + thread) * H + head, query + thread < work.end);
            copy_arrive(full + 8 * slot);
            query += 64;
            if (query >= work.end) query = work.first, head++;
        }
    } else if (group == 1) {
        take_registers<240>();
        const float scale_2 = scale * LOG2_E;
        float sum[128], s[32];
        uint32_t p[16];
#pragma unroll
        for (int i = 0; i < 128; i++) sum[i] = 0.f;
        copy_wait(base + KV_FULL, 0);
        const auto scores = [&](int t) {
            copy_wait(base + Q_FULL + 8 * (t & 1), t >> 1 & 1);
            wgmma_begin();
            multiply_transposed<64>(s, base + K, base + Q + (t & 1) * TILE);
            wgmma_commit();
        };
        int until_diagonal = 0;
        const auto add = [&](int t) {
            const int slot = t & 1, parity = t >> 1 & 1;
#pragma unroll
            for (int c = 0; c < 8; c++) {
                const float2 l = column_pair(base + LSE + slot * 256, c);
                const float low = l.x * LOG2_E, high = l.y * LOG2_E;
                s[4 * c] = power_of_2(s[4 * c] * scale_2 - low);
                s[4 * c + 1] = power_of_2(s[4 * c + 1] * scale_2 - high);
                s[4 * c + 2] = power_of_2(s[4 * c + 2] * scale_2 - low);
                s[4 * c + 3] = power_of_2(s[4 * c + 3] * scale_2 - high);
            }
            warp_arrive(base + Q_EMPTY + 8 * slot);
            if (until_diagonal == 0) {  // rows are keys, columns queries: a key is seen by the queries from its own on
                until_diagonal = tiles_of_head;
#pragma unroll
                for (int i = 0; i < 32; i++)
                    if (i / 4 * 8 + columns + i % 2 < row + i / 2 % 2 * 8) s[i] = 0.f;
            }
            until_diagonal--;
            if (t > 1) barrier_wait(base + P_EMPTY + 8 * slot, parity ^ 1);
            const uint32_t to = base + P + slot * P_BYTES + threadIdx.x % 128 * 16;
#pragma unroll
            for (int c = 0; c < 8; c++)
                asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to + c * 2048), "f"(s[4 * c]), "f"(s[4 * c + 1]),
                             "f"(s[4 * c + 2]), "f"(s[4 * c + 3])
                             : "memory");
            warp_arrive(base + P_FULL + 8 * slot);
            pack_all(p, s);
            copy_wait(base + DO_FULL + 8 * slot, parity);
            wgmma_begin();
            multiply_add<64>(sum, p, base + DO + slot * TILE);
            wgmma_commit();
        };
        scores(0);
        wgmma_wait<0>();
        pin(s);
        for (int t = 1; t < tiles; t++) {
            add(t - 1);
            scores(t);
            wgmma_wait<1>();
            warp_arrive(base + DO_EMPTY + 8 * (t - 1 & 1));
            wgmma_wait<0>();
            pin(s);
        }
        add(tiles - 1);
        wgmma_wait<0>();
        pin(sum);
        store_sums(sum, 1.f, 1.f, base + K, dv + work.first * dv_stride + kv_head * D, dv_stride, work.end - work.first, group);
    } else {
        take_registers<240>();
        float sum[128], dp[32];
        uint32_t ds[16];
#pragma unroll
        for (int i = 0; i < 128; i++) sum[i] = 0.f;
        copy_wait(base + KV_FULL, 0);
        const auto scores = [&](int t) {
            copy_wait(base + DO_FULL + 8 * (t & 1), t >> 1 & 1);
            wgmma_begin();
            multiply_transposed<64>(dp, base + V, base + DO + (t & 1) * TILE);
            wgmma_commit();
        };
        const auto add = [&](int t) {
            const int slot = t & 1, parity = t >> 1 & 1;
            barrier_wait(base + P_FULL + 8 * slot, parity);
            const uint32_t from = base + P + slot * P_BYTES + threadIdx.x % 128 * 16;
#pragma unroll
            for (int c = 0; c < 8; c++) {
                const float2 del = column_pair(base + DELTA + slot * 256, c);
                float4 p;
                asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                             : "=f"(p.x), "=f"(p.y), "=f"(p.z), "=f"(p.w)
                             : "r"(from + c * 2048)
                             : "memory");
                ds[2 * c] = pack(p.x * (dp[4 * c] - del.x), p.y * (dp[4 * c + 1] - del.y));
                ds[2 * c + 1] = pack(p.z * (dp[4 * c + 2] - del.x), p.w * (dp[4 * c + 3] - del.y));
            }
            warp_arrive(base + P_EMPTY + 8 * slot);
            warp_arrive(base + DO_EMPTY + 8 * slot);
            copy_wait(base + Q_FULL + 8 * slot, parity);
            wgmma_begin();
            multiply_add<64>(sum, ds, base + Q + slot * TILE);
            wgmma_commit();
        };
        scores(0);
        wgmma_wait<0>();
        pin(dp);
        for (int t = 1; t < tiles; t++) {
            add(t - 1);
            scores(t);
            wgmma_wait<1>();
            warp_arrive(base + Q_EMPTY + 8 * (t - 1 & 1));
            wgmma_wait<0>();
            pin(dp);
        }
        add(tiles - 1);
        wgmma_wait<0>();
        pin(sum);
        store_sums(sum, scale, scale, base + V, dk + (work.first * K_heads + kv_head) * D, K_heads * D, work.end - work.first, group);
    }
}

#endif

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_wgmma_backward_query_bf16(const bf16* d_o, const bf16* q, const bf16* k, const bf16* v, const float* lse, const float* delta,
                                        bf16* dq, const uint32_t* table, int64_t H, int64_t K, int64_t v_stride, float scale) {
    ONLY_HOPPER(backward_query_block(d_o, q, k, v, lse, delta, dq, table, H, K, v_stride, scale));
}

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_wgmma_backward_key_bf16(const bf16* d_o, const bf16* q, const bf16* k, const bf16* v, const float* lse, const float* delta,
                                      bf16* dk, bf16* dv, const uint32_t* table, int64_t H, int64_t K, int64_t v_stride, int64_t dv_stride,
                                      float scale) {
    ONLY_HOPPER(backward_key_block(d_o, q, k, v, lse, delta, dk, dv, table, H, K, v_stride, dv_stride, scale));
}
