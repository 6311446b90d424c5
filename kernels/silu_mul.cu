// The activation of SwiGLU, forward and backward.
//
//   y = silu(g) u          dg = dy u s (1 + g (1 - s))          du = dy g s          s = sigmoid(g)
//
// shapes    all [n] bf16 or f32, contiguous; joined: gate_up, d_gate_up [N, 2 I] with g in the left half and u in the right, y, dy [N, I]
// launch    block 256, 16 bytes of each tensor a thread
// traffic   forward 3 n elements, backward 5 n, joined backward 6 n since it stores y again: memory-bound
// numerics  f32, one rounding at the store
// compare   src/ops/silu_mul/reference.rs
#include "packs.cuh"

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

template <typename T> __device__ __forceinline__ void joined_forward(const T* gate_up, T* y, int64_t N, int64_t I) {
    each_row<T>(N, I, even<T>(I) && aligned(gate_up, y), [&](auto width, int64_t n, int64_t i) {
        constexpr int W = decltype(width)::value;
        float gate[W], up[W];
        load(gate_up + 2 * n * I + i, gate);
        load(gate_up + (2 * n + 1) * I + i, up);
#pragma unroll
        for (int k = 0; k < W; k++) up[k] *= gate[k] * sigmoid_for<T>(gate[k]);
        store(y + n * I + i, up);
    });
}

template <typename T>
__device__ __forceinline__ void joined_backward(const T* dy, const T* gate_up, T* d_gate_up, T* y, int64_t N, int64_t I) {
    each_row<T>(N, I, even<T>(I) && aligned(dy, gate_up, d_gate_up) && aligned(y), [&](auto width, int64_t n, int64_t i) {
        constexpr int W = decltype(width)::value;
        float d[W], gate[W], up[W], out[W];
        load(gate_up + 2 * n * I + i, gate);
        load(gate_up + (2 * n + 1) * I + i, up);
        load(dy + n * I + i, d);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float s = sigmoid_for<T>(gate[k]), silu = gate[k] * s;
            out[k] = silu * up[k];
            gate[k] = d[k] * up[k] * s * (1.f + gate[k] * (1.f - s));
            d[k] *= silu;
        }
        store(d_gate_up + 2 * n * I + i, gate);
        store(d_gate_up + (2 * n + 1) * I + i, d);
        store(y + n * I + i, out);
    });
}

#define SILU_MUL(T, SUFFIX)                                                                                                          \
    extern "C" __global__ void silu_mul_forward_##SUFFIX(const T* g, const T* u, T* y, int64_t n) { forward<T>(g, u, y, n); }        \
    extern "C" __global__ void silu_mul_backward_##SUFFIX(const T* dy, const T* g, const T* u, T* dg, T* du, int64_t n) {            \
        backward<T>(dy, g, u, dg, du, n);                                                                                            \
    }                                                                                                                                \
    extern "C" __global__ void silu_mul_joined_forward_##SUFFIX(const T* gate_up, T* y, int64_t N, int64_t I) {                      \
        joined_forward<T>(gate_up, y, N, I);                                                                                         \
    }                                                                                                                                \
    extern "C" __global__ void silu_mul_joined_backward_##SUFFIX(const T* dy, const T* gate_up, T* d_gate_up, T* y, int64_t N,       \
                                                                 int64_t I) {                                                        \
        joined_backward<T>(dy, gate_up, d_gate_up, y, N, I);                                                                         \
    }

SILU_MUL(bf16, bf16)
SILU_MUL(float, f32)
