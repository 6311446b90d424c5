// Rotary embedding of the first dims of every head; forward and, with the opposite sign, backward.
//
//   j < R:        y_j = x_j cos[n,j] - x_{j+R} sin[n,j] sign          y_{j+R} = x_{j+R} cos[n,j] + x_j sin[n,j] sign
//   d >= 2 R:     y_d = x_d
//   angles:       cos, sin of position[row(j), n] * frequency[j]; row(j): 1 (height) for j = 1, 4, 7, ... below 3 height, 2 (width) for
//                 j = 2, 5, 8, ... below 3 width, else 0 (time)
//
// shapes    x, y [N, H, D] bf16 or f32, contiguous; cos, sin [N, R] f32; 2 R <= D; positions [3, N] u32, frequencies [R] f32
// launch    block 256, 16 bytes of the output a thread; angles: one a thread
// traffic   2 N H D elements: memory-bound; the partner of a rotated value and the table hit the cache
// numerics  f32, one rounding at the store; angles in f64, as far as the product goes exact, rounded to f32 at the end
// compare   src/ops/rope/reference.rs, src/ops/rope.rs
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

extern "C" __global__ void rope_angles_f32(const uint32_t* positions, const float* frequencies, float* cos, float* sin, int64_t N,
                                           int64_t R, int64_t height, int64_t width) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= N * R) return;
    const int64_t n = i / R, j = i - n * R;
    const int row = j % 3 == 1 && j < 3 * height ? 1 : j % 3 == 2 && j < 3 * width ? 2 : 0;
    double s, c;
    sincos((double)positions[row * N + n] * (double)frequencies[j], &s, &c);
    cos[i] = (float)c, sin[i] = (float)s;
}

#define ROPE(T, SUFFIX)                                                                                                              \
    extern "C" __global__ void rope_rotate_##SUFFIX(const T* x, const float* cos, const float* sin, T* y, int64_t n, int64_t H,      \
                                                    int64_t D, int64_t R, float sign) {                                              \
        rotate<T>(x, cos, sin, y, n, H, D, R, sign);                                                                                 \
    }

ROPE(bf16, bf16)
ROPE(float, f32)
