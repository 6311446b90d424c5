// Vectors of values that stay in registers as they lie in memory, so that many can be under way, and loops over rows that have a
// stride of their own, as columns of a joint projection have.
#pragma once
#include "block.cuh"

// `W` values of T as 32-bit words: 4, 8 or 16 bytes, or one value.
template <typename T, int W> struct Pack {
    static constexpr int BYTES = W * sizeof(T);
    static_assert(W == 1 || BYTES == 4 || BYTES == 8 || BYTES == 16, "no access of this width");
    uint32_t words[BYTES < 4 ? 1 : BYTES / 4];

    // Values from `p` on; `p` is aligned to them.
    __device__ __forceinline__ void read(const T* p) {
        if constexpr (BYTES == 2) words[0] = *reinterpret_cast<const uint16_t*>(p);
        else if constexpr (BYTES == 4) words[0] = *reinterpret_cast<const uint32_t*>(p);
        else if constexpr (BYTES == 8) {
            const uint2 v = *reinterpret_cast<const uint2*>(p);
            words[0] = v.x, words[1] = v.y;
        } else {
            const uint4 v = *reinterpret_cast<const uint4*>(p);
            words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
        }
    }

    __device__ __forceinline__ void zero() {
#pragma unroll
        for (uint32_t& word : words) word = 0;
    }

    // Value `k`; a constant after unrolling.
    __device__ __forceinline__ float operator[](int k) const {
        if constexpr (sizeof(T) == 4) return __uint_as_float(words[k]);
        else return __uint_as_float(k % 2 == 0 ? words[k / 2] << 16 : words[k / 2] & 0xffff0000u);
    }
};

// Stores `W` values with one rounding, in one access; `p` is aligned to it.
template <typename T, int W> __device__ __forceinline__ void write(T* p, const float (&v)[W]) {
    if constexpr (W == 1) *p = from_float<T>(v[0]);
    else if constexpr (W * sizeof(T) == 4) *reinterpret_cast<__nv_bfloat162*>(p) = __floats2bfloat162_rn(v[0], v[1]);
    else store(p, v);
}

// `sigmoid` as exactly as T can show: within 2^-20 for bf16, by the fast exponential and division.
template <typename T> __device__ __forceinline__ float sigmoid_for(float x) {
    if constexpr (sizeof(T) == 2) return __fdividef(1.f, 1.f + __expf(-x));
    else return sigmoid(x);
}

// Where head `index` of a view [N, H, D] begins.
struct Heads {
    int64_t H, row, head;  // heads of a token, elements from one token to the next, and from one head to the next

    __device__ __forceinline__ int64_t operator()(int64_t index) const {
        const int64_t n = index <= UINT32_MAX ? (uint32_t)index / (uint32_t)H : index / H;
        return n * row + (index - n * H) * head;
    }
};

// Whether rows `stride` apart keep the alignment of accesses of 16 bytes.
template <typename T, typename... S> __device__ __forceinline__ bool even(S... strides) { return ((strides | ...) % WIDTH<T>) == 0; }

// Calls `f(width, row, column)` for the values of this thread, which together make all of [0, rows) x [0, columns): whole vectors
// where `vector` allows it, else one by one. Launch with ceil(rows * ceil(columns / WIDTH<T>) / blockDim.x) blocks.
template <typename T, typename F> __device__ __forceinline__ void each_row(int64_t rows, int64_t columns, bool vector, F f) {
    constexpr int W = WIDTH<T>;
    const int64_t packs = (columns + W - 1) / W, pack = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (pack >= rows * packs) return;
    // a division of 64 bits takes longer than everything else
    const int64_t row = rows * packs <= UINT32_MAX ? (uint32_t)pack / (uint32_t)packs : pack / packs;
    int64_t column = (pack - row * packs) * W;
    if (vector) {
        f(Width<W>{}, row, column);
    } else {
        for (const int64_t end = column + W < columns ? column + W : columns; column < end; column++) f(Width<1>{}, row, column);
    }
}

// The sum of `value` over groups of LANES neighbouring lanes, in every lane of them. Same order in every run.
template <int LANES> __device__ __forceinline__ float group_sum(float value) {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

// Adds up what the groups of a block hold of their columns, group `g` in shared[g * D ..], into row blockIdx.x of the partials.
__device__ __forceinline__ void join_groups(const float* shared, int groups, int64_t D, float* partial) {
    __syncthreads();
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x) {
        float sum = 0.f;
        for (int g = 0; g < groups; g++) sum += shared[g * D + d];
        partial[blockIdx.x * D + d] = sum;
    }
}
