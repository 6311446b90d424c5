// The output gate of full attention, forward and backward.
//
//   y = o s          do = dy s          dgate = dy o s (1 - s)          s = sigmoid(gate)
//
// shapes    dy, o, y, do [N, H, D] bf16 or f32, contiguous; gate, dgate the same with strides: heads `gate_head` elements apart, tokens
//           `gate_row`, as in a joint projection where each head's query and gate alternate
// launch    block 256, 16 bytes of each tensor a thread
// traffic   forward 3 N H D elements, backward 5, or 6 where y is asked for again: memory-bound
// numerics  f32, one rounding at the store
// compare   src/ops/sigmoid_gate/reference.rs
#include "packs.cuh"

template <typename T>
__device__ __forceinline__ void forward(const T* o, const T* gate, T* y, int64_t N, int64_t D, Heads heads) {
    const bool vector = even<T>(D, heads.row, heads.head) && aligned(o, gate, y);
    each_row<T>(N * heads.H, D, vector, [&](auto width, int64_t index, int64_t d) {
        constexpr int W = decltype(width)::value;
        float out[W], g[W];
        load(gate + heads(index) + d, g);
        load(o + index * D + d, out);
#pragma unroll
        for (int k = 0; k < W; k++) out[k] *= sigmoid_for<T>(g[k]);
        store(y + index * D + d, out);
    });
}

template <typename T>
__device__ __forceinline__ void backward(const T* dy, const T* o, const T* gate, T* d_o, T* d_gate, T* y, int64_t N, int64_t D,
                                         Heads heads, Heads d_heads) {
    const bool vector = even<T>(D, heads.row, heads.head, d_heads.row, d_heads.head) && aligned(dy, o, gate) && aligned(d_o, d_gate, y);
    each_row<T>(N * heads.H, D, vector, [&](auto width, int64_t index, int64_t d) {
        constexpr int W = decltype(width)::value;
        float up[W], out[W], g[W];
        load(gate + heads(index) + d, g);
        load(dy + index * D + d, up);
        load(o + index * D + d, out);
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float s = sigmoid_for<T>(g[k]);
            g[k] = up[k] * out[k] * s * (1.f - s);
            up[k] *= s;
            out[k] *= s;
        }
        store(d_o + index * D + d, up);
        store(d_gate + d_heads(index) + d, g);
        if (y) store(y + index * D + d, out);
    });
}

#define SIGMOID_GATE(T, SUFFIX)                                                                                                      \
    extern "C" __global__ void sigmoid_gate_forward_##SUFFIX(const T* o, const T* gate, T* y, int64_t N, int64_t H, int64_t D,       \
                                                             int64_t gate_row, int64_t gate_head) {                                  \
        forward<T>(o, gate, y, N, D, {H, gate_row, gate_head});                                                                      \
    }                                                                                                                                \
    extern "C" __global__ void sigmoid_gate_backward_##SUFFIX(const T* dy, const T* o, const T* gate, T* d_o, T* d_gate, T* y,       \
                                                              int64_t N, int64_t H, int64_t D, int64_t gate_row, int64_t gate_head,  \
                                                              int64_t d_gate_row, int64_t d_gate_head) {                             \
        backward<T>(dy, o, gate, d_o, d_gate, y, N, D, {H, gate_row, gate_head}, {H, d_gate_row, d_gate_head});                      \
    }

SIGMOID_GATE(bf16, bf16)
SIGMOID_GATE(float, f32)
