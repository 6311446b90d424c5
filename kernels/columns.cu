// Columns of one matrix to columns of another.
//
//   to[m, c] = from[m, c]
//
// shapes    from, to [M, C] bf16 or f32, rows from_row and to_row elements apart
// launch    block 256, 16 bytes a thread
// traffic   2 M C elements: memory-bound
// numerics  copies
// compare   src/ops/columns/reference.rs
#include "packs.cuh"

template <typename T>
__device__ __forceinline__ void copy(const T* from, T* to, int64_t M, int64_t C, int64_t from_row, int64_t to_row) {
    each_row<T>(M, C, even<T>(C, from_row, to_row) && aligned(from, to), [&](auto width, int64_t m, int64_t c) {
        constexpr int W = decltype(width)::value;
        Pack<T, W> pack;
        pack.read(from + m * from_row + c);
        if constexpr (W == 1) to[m * to_row + c] = from[m * from_row + c];
        else *reinterpret_cast<uint4*>(to + m * to_row + c) = make_uint4(pack.words[0], pack.words[1], pack.words[2], pack.words[3]);
    });
}

#define COLUMNS(T, SUFFIX)                                                                                                \
    extern "C" __global__ void columns_copy_##SUFFIX(const T* from, T* to, int64_t M, int64_t C, int64_t from_row,        \
                                                     int64_t to_row) {                                                    \
        copy(from, to, M, C, from_row, to_row);                                                                           \
    }

COLUMNS(bf16, bf16)
COLUMNS(float, f32)
