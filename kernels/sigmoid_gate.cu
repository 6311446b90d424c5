// The output gate of full attention, forward and backward.
//
//   y = o s          do = dy s          dgate = dy o s (1 - s)          s = sigmoid(gate)
//
// shapes    all [n] bf16 or f32, contiguous
// launch    block 256, 16 bytes of each tensor a thread
// traffic   forward 3 n elements, backward 5 n: memory-bound
// numerics  f32, one rounding at the store
// compare   src/ops/sigmoid_gate/reference.rs
#include "block.cuh"

template <typename T> __device__ __forceinline__ void forward(const T* o, const T* gate, T* y, int64_t n) {
    elementwise<T>(n, aligned(o, gate, y), [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        float out[W], g[W];
        load(o + i, out);
        load(gate + i, g);
#pragma unroll
        for (int k = 0; k < W; k++) out[k] *= sigmoid(g[k]);
        store(y + i, out);
    });
}

template <typename T> __device__ __forceinline__ void backward(const T* dy, const T* o, const T* gate, T* d_o, T* d_gate, int64_t n) {
    elementwise<T>(n, aligned(dy, o, gate) && aligned(d_o, d_gate), [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        float d[W], out[W], g[W];
        load(dy + i, d);
        load(o + i, out);
        load(gate + i, g);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float s = sigmoid(g[k]);
            g[k] = d[k] * out[k] * s * (1.f - s);
            d[k] *= s;
        }
        store(d_o + i, d);
        store(d_gate + i, g);
    });
}

#define SIGMOID_GATE(T, SUFFIX)                                                                                                      \
    extern "C" __global__ void sigmoid_gate_forward_##SUFFIX(const T* o, const T* gate, T* y, int64_t n) {                           \
        forward<T>(o, gate, y, n);                                                                                                   \
    }                                                                                                                                \
    extern "C" __global__ void sigmoid_gate_backward_##SUFFIX(const T* dy, const T* o, const T* gate, T* d_o, T* d_gate, int64_t n) { \
        backward<T>(dy, o, gate, d_o, d_gate, n);                                                                                    \
    }

SIGMOID_GATE(bf16, bf16)
SIGMOID_GATE(float, f32)
