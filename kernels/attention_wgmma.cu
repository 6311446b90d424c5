// Causal softmax attention on Hopper's tensor cores, forward: bf16, head dim 256.
//
//   S = scale q k^T for keys up to the query    P = softmax(S)    o = P v    lse = ln sum exp S
//
// shapes    q, o [N, H, 256], k [N, K, 256] contiguous, v [N, K, 256] with a row stride; all bf16; lse [N, H] f32;
//           table [blocks, 3] u32: first and last + 1 token of the document, first token of the block, longest work first; scale > 0
// launch    (H, blocks of 128 queries) of 384 threads, one block an SM: a warpgroup copies, two have 64 queries each and go over the
//           keys. The scores of the next tile are multiplied while P v of this one is; the two take turns, so that the products of one
//           run during the exponentials of the other. Shared memory: q, two tiles of 80 keys, two of values
// numerics  scores, softmax and sums in f32; P is rounded to bf16 as operand. Every sum has a fixed order
// traffic   operands stay in the L2 cache: bound by the tensor cores, on an H100, 2 x 4096 tokens, 8 heads over 2: 0.20 ms,
//           670 TFLOP/s of the half that is not masked
// compare   src/ops/attention/reference.rs
#include "attention_wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int FORWARD_KEYS = 80;  // of a tile
constexpr int FORWARD_TILE = FORWARD_KEYS * D * 2;

namespace forward_layout {
constexpr int Q = 0, K = Q + 2 * TILE, V = K + 2 * FORWARD_TILE, BARRIERS = V + 2 * FORWARD_TILE;
constexpr int Q_FULL = BARRIERS, K_FULL = Q_FULL + 8, V_FULL = K_FULL + 16, K_EMPTY = V_FULL + 16, V_EMPTY = K_EMPTY + 16;
}  // namespace forward_layout

// Turns scores into exp(score - highest) and brings `highest` and `total` up to date; returns by what the earlier sums shrink.
template <bool MASKED>
__device__ __forceinline__ void softmax(float (&s)[FORWARD_KEYS / 2], float (&highest)[2], float (&total)[2], float (&shrink)[2], float scale,
                                        int visible) {
    // `visible`: keys of the tile that the thread's first row sees, less its own first column
    if (MASKED) {
#pragma unroll
        for (int i = 0; i < FORWARD_KEYS / 2; i++)
            if (i / 4 * 8 + i % 2 >= visible + i / 2 % 2 * 8) s[i] = -INFINITY;
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = highest[r];
#pragma unroll
        for (int i = 2 * r; i < FORWARD_KEYS / 2; i += 4) top = fmaxf(top, fmaxf(s[i], s[i + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        shrink[r] = power_of_2((highest[r] - top) * scale);
        highest[r] = top;
        const float offset = top * scale;
        float sum = 0.f;
#pragma unroll
        for (int i = 2 * r; i < FORWARD_KEYS / 2; i += 4) {
            s[i] = power_of_2(s[i] * scale - offset);
            s[i + 1] = power_of_2(s[i + 1] * scale - offset);
            sum += s[i] + s[i + 1];
        }
        total[r] = total[r] * shrink[r] + sum;
    }
}

__device__ __forceinline__ void forward_block(const bf16* q, const bf16* k, const bf16* v, bf16* o, float* lse, const uint32_t* table,
                                              int64_t H, int64_t K_heads, int64_t v_stride, float scale) {
    using namespace forward_layout;
    const uint32_t base = shared_address(memory);
    const int head = blockIdx.x, kv_head = head / (int)(H / K_heads);
    const Work work(table, blockIdx.y);
    const int group = warpgroup();
    if (threadIdx.x == 0) {
        barrier_init(base + Q_FULL, 128);
        for (int i = 0; i < 2; i++) {
            barrier_init(base + K_FULL + 8 * i, 64);
            barrier_init(base + V_FULL + 8 * i, 64);
            barrier_init(base + K_EMPTY + 8 * i, 8);
            barrier_init(base + V_EMPTY + 8 * i, 8);
        }
    }
    __syncthreads();
    if (group == 0) {
        give_registers<24>();
        const int half = __shfl_sync(0xffffffffu, (int)threadIdx.x / 64, 0);  // two streams, which do not wait for each other
        const int thread = threadIdx.x % 64;
        copy_rows<64, 64>(base + Q + half * TILE, q + head * D, H * D, work.first + 64 * half, work.end, thread);
        copy_arrive(base + Q_FULL);
        const bf16* rows = (half ? v : k) + kv_head * D;
        const int64_t stride = half ? v_stride : K_heads * D;
        const uint32_t full = base + (half ? V_FULL : K_FULL), empty = base + (half ? V_EMPTY : K_EMPTY), to = base + (half ? V : K);
        const int tiles = work.key_tiles(work.first + 64, FORWARD_KEYS);
        for (int j = 0; j < tiles; j++) {
            const int slot = j & 1;
            if (j > 1) barrier_wait(empty + 8 * slot, (j >> 1) - 1 & 1);
            copy_rows<FORWARD_KEYS, 64>(to + slot * FORWARD_TILE, rows, stride, work.start + j * FORWARD_KEYS, work.end, thread);
            copy_arrive(full + 8 * slot);
        }
    } else {
        take_registers<240>();
        const int first = work.first + (group - 1) * 64, row = first + sum_row();
        const uint32_t q_tile = base + Q + (group - 1) * TILE;
        const int tiles = work.key_tiles(first, FORWARD_KEYS);
        const float scale_2 = scale * LOG2_E;
        float sum[128], s[FORWARD_KEYS / 2], highest[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f}, shrink[2];
        uint32_t p[FORWARD_KEYS / 4];
#pragma unroll
        for (int i = 0; i < 128; i++) sum[i] = 0.f;
        const auto scores = [&](int j) {
            copy_wait(base + K_FULL + 8 * (j & 1), j >> 1 & 1);
            wgmma_begin();
            multiply_transposed<FORWARD_KEYS>(s, q_tile, base + K + (j & 1) * FORWARD_TILE);
            wgmma_commit();
        };
        const auto exponentials = [&](int j) {
            const int key = work.start + j * FORWARD_KEYS;
            const int visible = row + 1 - key - sum_column();
            if (key + FORWARD_KEYS - 1 > first) softmax<true>(s, highest, total, shrink, scale_2, visible);
            else softmax<false>(s, highest, total, shrink, scale_2, visible);
        };
        const auto add = [&](int j) {
            copy_wait(base + V_FULL + 8 * (j & 1), j >> 1 & 1);
            wgmma_begin();
            multiply_add<FORWARD_KEYS>(sum, p, base + V + (j & 1) * FORWARD_TILE);
            wgmma_commit();
        };
        copy_wait(base + Q_FULL, 0);
        scores(0);
        wgmma_wait<0>();
        pin(s);
        warp_arrive(base + K_EMPTY);
        exponentials(0);
        pack_all(p, s);
        // The warpgroups take turns: products of one run during the exponentials of the other.
        if (group == 2) turn_pass(4);
        for (int j = 1; j < tiles; j++) {
            turn_wait(3 + group);
            scores(j);
            add(j - 1);
            turn_pass(6 - group);
            wgmma_wait<1>();
            pin(s);
            warp_arrive(base + K_EMPTY + 8 * (j & 1));
            exponentials(j);
            wgmma_wait<0>();
            pin(sum);
            warp_arrive(base + V_EMPTY + 8 * (j - 1 & 1));
#pragma unroll
            for (int i = 0; i < 128; i++) sum[i] *= shrink[i / 2 % 2];
            pack_all(p, s);
        }
        add(tiles - 1);
        if (group == 1)  // the second has up to one tile more
            for (int j = tiles; j < work.key_tiles(first + 64, FORWARD_KEYS); j++) turn_pass(5);
        wgmma_wait<0>();
        pin(sum);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
            total[r] += __shfl_xor_sync(0xffffffffu, total[r], 2);
            if (threadIdx.x % 4 == 0 && row + 8 * r < work.end) lse[(row + 8 * r) * H + head] = highest[r] * scale + logf(total[r]);
        }
        store_sums(sum, 1.f / total[0], 1.f / total[1], q_tile, o + (first * H + head) * D, H * D, work.end - first, group);
    }
}

#endif

extern "C" __global__ void __launch_bounds__(384, 1)
    attention_wgmma_forward_bf16(const bf16* q, const bf16* k, const bf16* v, bf16* o, float* lse, const uint32_t* table, int64_t H,
                                 int64_t K, int64_t v_stride, float scale) {
    ONLY_HOPPER(forward_block(q, k, v, o, lse, table, H, K, v_stride, scale));
}
