// The activation of SwiGLU, forward and backward.
//
//   y = silu(g) u          dg = dy u s (1 + g (1 - s))          du = dy g s          s = sigmoid(g)
//
// shapes    all [n] bf16 or f32, contiguous
// launch    block 256, 16 bytes of each tensor a thread
// traffic   forward 3 n elements, backward 5 n: memory-bound
// numerics  f32, one rounding at the store
// compare   src/ops/silu_mul/reference.rs
#include "block.cuh"

template <typename T> __device__ __forceinline__ void forward(const T* g, const T* u, T* y, int64_t n) {
    elementwise<T>(n, aligned(g, u, y), [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        float gate[W], up[W];
        load(g + i, gate);
        load(u + i, up);
#pragma unroll
        for (int k = 0; k < W; k++) up[k] *= gate[k] * sigmoid(gate[k]);
        store(y + i, up);
    });
}

template <typename T> __device__ __forceinline__ void backward(const T* dy, const T* g, const T* u, T* dg, T* du, int64_t n) {
    elementwise<T>(n, aligned(dy, g, u) && aligned(dg, du), [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        float d[W], gate[W], up[W];
        load(dy + i, d);
        load(g + i, gate);
        load(u + i, up);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float s = sigmoid(gate[k]);
            up[k] = d[k] * up[k] * s * (1.f + gate[k] * (1.f - s));
            d[k] *= gate[k] * s;
        }
        store(dg + i, up);
        store(du + i, d);
    });
}

#define SILU_MUL(T, SUFFIX)                                                                                                          \
    extern "C" __global__ void silu_mul_forward_##SUFFIX(const T* g, const T* u, T* y, int64_t n) { forward<T>(g, u, y, n); }        \
    extern "C" __global__ void silu_mul_backward_##SUFFIX(const T* dy, const T* g, const T* u, T* dg, T* du, int64_t n) {            \
        backward<T>(dy, g, u, dg, du, n);                                                                                            \
    }

SILU_MUL(bf16, bf16)
SILU_MUL(float, f32)
