// What the tensor core kernels of the gated delta rule share: tiles, fragments, the table of chunks, scalars of a chunk.
//
// A tile is row-major bf16 in pieces of 8 values (16 bytes) whose place in the row is permuted by the row, so that 8 rows at the
// same column lie in different banks. Tiles in device memory lie the same way, so that a copy is a copy.
//
// mma.m16n8k16: lane = 4 g + t holds rows g and g + 8, columns 2 t and 2 t + 1 of every 8 x 8 block of the accumulator. Two
// neighbouring blocks of an accumulator are, packed to bf16, an A operand: a chain of products needs no shared memory.
#pragma once
#include "block.cuh"

namespace gated_delta {

constexpr int C = 64;        // tokens of a chunk
constexpr int D = 128;       // dk and dv
constexpr int SCALARS = 6;   // vectors of C floats a chunk and head
enum { EQ, FK, G, RQ, RK, BETA };  // exp(G) rq, exp(G_last - G) rk, running log decay, dk^-1/2 / |q|, 1 / |k|, beta

// [B + 1] first chunk of each sequence, then [n] first token of each chunk, then [n] its tokens.
struct Chunks {
    const uint32_t* first;
    const uint32_t* start;
    const uint32_t* length;
    __device__ Chunks(const uint32_t* table, int64_t sequences, int64_t chunks)
        : first(table), start(table + sequences + 1), length(table + sequences + 1 + chunks) {}
};

template <int LD> __device__ __forceinline__ int place(int row, int piece) {
    constexpr int pieces = LD / 8;
    const int turn = pieces >= 8 ? row & 7 : pieces == 4 ? (row >> 1) & 3 : (row >> 2) & 1;
    return row * LD + ((piece ^ turn) << 3);
}

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void copy16(bf16* to, const void* from, bool valid = true) {
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;\n"); }
template <int PENDING> __device__ __forceinline__ void wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING)); }

__device__ __forceinline__ void matrices(uint32_t (&r)[4], const bf16* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(p)));
}
__device__ __forceinline__ void matrices_turned(uint32_t (&r)[4], const bf16* p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(p)));
}

// Rows [m, m + 16) and columns [k, k + 16) of A. STORED says what a row of the tile is: 0 a row of A, 1 a column of A.
template <int LD, bool TURNED> __device__ __forceinline__ void load_a(uint32_t (&a)[4], const bf16* tile, int m, int k) {
    const int lane = threadIdx.x & 31;
    if constexpr (TURNED)
        matrices_turned(a, tile + place<LD>(k + (lane & 7) + ((lane >> 4) << 3), (m >> 3) + ((lane >> 3) & 1)));
    else
        matrices(a, tile + place<LD>(m + (lane & 15), (k >> 3) + (lane >> 4)));
}

// Rows [k, k + 16) and columns [n, n + 16) of B. TURNED: a row of the tile is a row of B; else a column of B.
template <int LD, bool TURNED> __device__ __forceinline__ void load_b(uint32_t (&b)[4], const bf16* tile, int k, int n) {
    const int lane = threadIdx.x & 31;
    if constexpr (TURNED)
        matrices_turned(b, tile + place<LD>(k + (lane & 15), (n >> 3) + (lane >> 4)));
    else
        matrices(b, tile + place<LD>(n + (lane & 7) + ((lane >> 4) << 3), (k >> 3) + ((lane >> 3) & 1)));
}

__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t pack(float x, float y) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&v);
}
__device__ __forceinline__ float2 unpack(uint32_t v) { return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&v)); }

// The A operand that two neighbouring accumulator blocks make.
__device__ __forceinline__ void as_a(uint32_t (&a)[4], const float (&lo)[4], const float (&hi)[4]) {
    a[0] = pack(lo[0], lo[1]);
    a[1] = pack(lo[2], lo[3]);
    a[2] = pack(hi[0], hi[1]);
    a[3] = pack(hi[2], hi[3]);
}

// Lane t of four gives its pieces of 4 blocks and gets the whole row of block t, 16 bytes.
__device__ __forceinline__ uint4 gather_row(uint32_t v0, uint32_t v1, uint32_t v2, uint32_t v3) {
    const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
    uint32_t s = __shfl_xor_sync(~0u, odd ? v0 : v1, 1);
    if (odd) v0 = s; else v1 = s;
    s = __shfl_xor_sync(~0u, odd ? v2 : v3, 1);
    if (odd) v2 = s; else v3 = s;
    s = __shfl_xor_sync(~0u, high ? v0 : v2, 2);
    if (high) v0 = s; else v2 = s;
    s = __shfl_xor_sync(~0u, high ? v1 : v3, 2);
    if (high) v1 = s; else v3 = s;
    return make_uint4(v0, v1, v2, v3);
}

// Rounds four accumulator blocks side by side and stores rows g and g + 8 of a tile: `row` is the blocks' first row, `piece` their first column / 8.
template <int LD> __device__ __forceinline__ void store_blocks(bf16* tile, int row, int piece, const float (&b0)[4], const float (&b1)[4], const float (&b2)[4],
                                                               const float (&b3)[4]) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
    const uint4 low = gather_row(pack(b0[0], b0[1]), pack(b1[0], b1[1]), pack(b2[0], b2[1]), pack(b3[0], b3[1]));
    const uint4 high = gather_row(pack(b0[2], b0[3]), pack(b1[2], b1[3]), pack(b2[2], b2[3]), pack(b3[2], b3[3]));
    *reinterpret_cast<uint4*>(tile + place<LD>(row + g, piece + t)) = low;
    *reinterpret_cast<uint4*>(tile + place<LD>(row + g + 8, piece + t)) = high;
}

// Copies the rows of a chunk, `WIDTH` columns from `from` on, into a tile; rows from `length` on become 0.
template <int THREADS, int COLUMNS> __device__ __forceinline__ void copy_rows(bf16* tile, const bf16* from, int64_t stride, int length) {
    constexpr int pieces = COLUMNS / 8;
#pragma unroll
    for (int i = threadIdx.x; i < C * pieces; i += THREADS) {
        const int row = i / pieces, piece = i % pieces;
        const bool valid = row < length;
        copy16(tile + place<COLUMNS>(row, piece), from + (valid ? row * stride : 0) + piece * 8, valid);
    }
}

// Copies a tile (or a part that lies together) as it is.
template <int THREADS, int VALUES> __device__ __forceinline__ void copy_tile(bf16* tile, const bf16* from) {
#pragma unroll
    for (int i = threadIdx.x; i < VALUES / 8; i += THREADS) copy16(tile + i * 8, from + i * 8);
}

}  // namespace gated_delta
