// Rotary embedding of the first dims of every head; forward and, with the opposite sign, backward.
//
//   j < R:        y_j = x_j cos[n,j] - x_{j+R} sin[n,j] sign          y_{j+R} = x_{j+R} cos[n,j] + x_j sin[n,j] sign
//   d >= 2 R:     y_d = x_d
//
// shapes    x, y [N, H, D] bf16 or f32, contiguous; cos, sin [N, R] f32, from the three rows of positions; 2 R <= D
// launch    block 256, 16 bytes of the output a thread
// traffic   2 N H D elements: memory-bound; the partner of a rotated value and the table hit the cache
// numerics  f32, one rounding at the store
// compare   src/ops/rope/reference.rs
#include "block.cuh"

template <typename T>
__device__ __forceinline__ void rotate(const T* x, const float* cos, const float* sin, T* y, int64_t n, int64_t H, int64_t D, int64_t R,
                                       float sign) {
    // a vector then lies in one head and on one side of R and 2 R
    const bool vector = D % WIDTH<T> == 0 && R % WIDTH<T> == 0 && aligned(x, y, cos) && aligned(sin);
    elementwise<T>(n, vector, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        const int64_t head = i / D, d = i - head * D;
        float v[W];
        load(x + i, v);
        if (d < 2 * R) {
            const bool low = d < R;
            const int64_t entry = head / H * R + (low ? d : d - R);
            float other[W], c[W], s[W];
            load(x + (low ? i + R : i - R), other);
            load(cos + entry, c);
            load(sin + entry, s);
            const float side = low ? -sign : sign;
#pragma unroll
            for (int k = 0; k < W; k++) v[k] = v[k] * c[k] + other[k] * (side * s[k]);
        }
        store(y + i, v);
    });
}

#define ROPE(T, SUFFIX)                                                                                                              \
    extern "C" __global__ void rope_rotate_##SUFFIX(const T* x, const float* cos, const float* sin, T* y, int64_t n, int64_t H,      \
                                                    int64_t D, int64_t R, float sign) {                                              \
        rotate<T>(x, cos, sin, y, n, H, D, R, sign);                                                                                 \
    }

ROPE(bf16, bf16)
ROPE(float, f32)
