// The gated RMSNorm of the gated delta net, forward and backward: norm first, gate after, plain gain.
//
//   y[n,d] = w[d] * x[n,d] * r[n] * silu(z[n,d])            r[n] = rsqrt(mean_d x[n,d]^2 + eps)
//   u = x r, g = dy w silu(z):  dx = r (g - u mean_d(g u)),  dz = dy w u silu'(z),  dw[d] += sum_n dy u silu(z)
//
// shapes    x, y, dy, dx [N, D] bf16 or f32, contiguous; z, dz the same with strides: H rows a token, `*_head` elements apart, tokens
//           `*_row`; w [D] of the same type or f32; dw partials [R, D] f32
// launch    block 256. Rows of up to 32 vectors of 16 bytes: 16 or 32 lanes a row, values in registers; wider or odd rows: a warp a row.
//           Forward grid ceil(N / 64) or more, ROWS rows a group of lanes; backward R blocks with a run of rows each and up to 16 D
//           floats of shared memory, whose sums reduce.cu adds up in order
// traffic   forward 3 N D elements, backward 5 N D, or 6 N D where y is asked for again: memory-bound
// numerics  sums in f32 in a fixed order, one rounding at the store; the backward computes r again
// compare   src/ops/gated_norm/reference.rs
#include "packs.cuh"

constexpr int ROWS = 4;  // rows that a group of the forward has under way together

// The gain, of either type.
template <typename T> struct Gain {
    const void* w;
    bool is_f32;

    __device__ __forceinline__ float operator()(int64_t d) const {
        return is_f32 ? static_cast<const float*>(w)[d] : to_float(static_cast<const T*>(w)[d]);
    }
};

template <int LANES, typename T>
__device__ __forceinline__ void forward_groups(const T* x, const T* z, Gain<T> w, T* y, int64_t N, int64_t D, Heads heads, float eps) {
    constexpr int W = WIDTH<T>;
    const int lane = threadIdx.x % LANES, group = threadIdx.x / LANES, groups = blockDim.x / LANES;
    const int64_t d = lane * W, first = (int64_t)blockIdx.x * groups * ROWS + group;
    const bool mine = d < D;
    float gain[W];
    Pack<T, W> v[ROWS], gate[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const int64_t n = first + i * groups;
        v[i].zero();
        if (mine && n < N) {
            v[i].read(x + n * D + d);
            gate[i].read(z + heads(n) + d);
        }
    }
#pragma unroll
    for (int k = 0; k < W; k++) gain[k] = mine ? w(d + k) : 0.f;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const int64_t n = first + i * groups;
        float sum = 0.f;
#pragma unroll
        for (int k = 0; k < W; k++) sum += v[i][k] * v[i][k];
        const float r = rsqrtf(group_sum<LANES>(sum) / D + eps);
        if (mine && n < N) {
            float out[W];
#pragma unroll
            for (int k = 0; k < W; k++) out[k] = gain[k] * (v[i][k] * r) * (gate[i][k] * sigmoid_for<T>(gate[i][k]));
            write(y + n * D + d, out);
        }
    }
}

template <int LANES, typename T>
__device__ __forceinline__ void backward_groups(const T* dy, const T* x, const T* z, Gain<T> w, T* dx, T* dz, T* y, float* partial,
                                                int64_t first, int64_t last, int64_t D, Heads heads, Heads d_heads, float eps) {
    extern __shared__ float shared[];  // [groups, D]
    constexpr int W = WIDTH<T>;
    const int lane = threadIdx.x % LANES, group = threadIdx.x / LANES, groups = blockDim.x / LANES;
    const int64_t d = lane * W;
    const bool mine = d < D;
    const float share = 1.f / D;
    float gain[W], sums[W] = {};
#pragma unroll
    for (int k = 0; k < W; k++) gain[k] = mine ? w(d + k) : 0.f;
    Pack<T, W> up, v, gate, next_up, next_v, next_gate;
    const auto fetch = [&](int64_t n, Pack<T, W>& up, Pack<T, W>& v, Pack<T, W>& gate) {
        if (mine && n < last) {
            up.read(dy + n * D + d);
            v.read(x + n * D + d);
            gate.read(z + heads(n) + d);
        } else {
            up.zero(), v.zero(), gate.zero();
        }
    };
    fetch(first + group, up, v, gate);
    for (int64_t base = first; base < last; base += groups) {  // all lanes of a warp meet at the sums
        const int64_t n = base + group;
        fetch(n + groups, next_up, next_v, next_gate);
        float squares = 0.f, dot = 0.f, silu[W], d_gate[W];
#pragma unroll
        for (int k = 0; k < W; k++) {
            const float s = sigmoid_for<T>(gate[k]);
            silu[k] = gate[k] * s;
            squares += v[k] * v[k];
            dot += up[k] * gain[k] * silu[k] * v[k];
            d_gate[k] = up[k] * gain[k] * v[k] * (s * (1.f + gate[k] * (1.f - s)));
        }
        squares = group_sum<LANES>(squares), dot = group_sum<LANES>(dot);
        const float r = rsqrtf(squares * share + eps), scale = r * r * dot * share;
        if (mine && n < last) {
            float d_x[W], out[W];
#pragma unroll
            for (int k = 0; k < W; k++) {
                const float u = v[k] * r;
                sums[k] += up[k] * u * silu[k];
                d_x[k] = r * (up[k] * gain[k] * silu[k] - v[k] * scale);
                d_gate[k] *= r;
                out[k] = gain[k] * u * silu[k];
            }
            write(dx + n * D + d, d_x);
            write(dz + d_heads(n) + d, d_gate);
            if (y) write(y + n * D + d, out);
        }
        up = next_up, v = next_v, gate = next_gate;
    }
    if (mine) {
#pragma unroll
        for (int k = 0; k < W; k++) shared[group * D + d + k] = sums[k];
    }
    join_groups(shared, groups, D, partial);
}

template <typename T> __device__ __forceinline__ float inverse_rms(const T* x, int64_t D, float eps) {
    float sum = 0.f;
    for (int64_t d = threadIdx.x % 32; d < D; d += 32) sum += to_float(x[d]) * to_float(x[d]);
    return rsqrtf(warp_sum(sum) / D + eps);
}

// Rows that do not fit into the registers of a group, or not into vectors: value by value.
template <typename T>
__device__ __forceinline__ void forward_row(const T* x, const T* z, Gain<T> w, T* y, int64_t D, float eps) {
    const float r = inverse_rms(x, D, eps);
    for (int64_t d = threadIdx.x % 32; d < D; d += 32) {
        const float gate = to_float(z[d]);
        y[d] = from_float<T>(w(d) * (to_float(x[d]) * r) * (gate * sigmoid(gate)));
    }
}

template <typename T>
__device__ __forceinline__ void backward_rows(const T* dy, const T* x, const T* z, Gain<T> w, T* dx, T* dz, T* y, float* partial,
                                              int64_t first, int64_t last, int64_t D, Heads heads, Heads d_heads, float eps) {
    extern __shared__ float shared[];  // [warps, D]
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    float* mine = shared + warp * D;  // a thread touches its own columns alone
    for (int64_t d = lane; d < D; d += 32) mine[d] = 0.f;
    for (int64_t n = first + warp; n < last; n += warps) {
        const T *up = dy + n * D, *v = x + n * D, *gates = z + heads(n);
        const float r = inverse_rms(v, D, eps);
        float dot = 0.f;  // of g and u
        for (int64_t d = lane; d < D; d += 32) {
            const float gate = to_float(gates[d]), s = sigmoid(gate), u = to_float(v[d]) * r, silu = gate * s, g = to_float(up[d]) * w(d);
            mine[d] += to_float(up[d]) * u * silu;
            dot += g * silu * u;
            dz[d_heads(n) + d] = from_float<T>(g * u * (s * (1.f + gate * (1.f - s))));
            if (y) y[n * D + d] = from_float<T>(w(d) * u * silu);
        }
        const float mean = warp_sum(dot) / D;
        for (int64_t d = lane; d < D; d += 32) {
            const float gate = to_float(gates[d]), g = to_float(up[d]) * w(d) * (gate * sigmoid(gate));
            dx[n * D + d] = from_float<T>(r * (g - to_float(v[d]) * r * mean));
        }
    }
    join_groups(shared, warps, D, partial);
}

template <typename T>
__device__ __forceinline__ void forward(const T* x, const T* z, Gain<T> w, T* y, int64_t N, int64_t D, Heads heads, float eps) {
    const int64_t packs = D / WIDTH<T>;
    if (packs <= 32 && even<T>(D, heads.row, heads.head) && aligned(x, z, y)) {
        if (packs <= 16) forward_groups<16>(x, z, w, y, N, D, heads, eps);
        else forward_groups<32>(x, z, w, y, N, D, heads, eps);
        return;
    }
    const int64_t warps = blockDim.x / 32;
    for (int64_t n = blockIdx.x * warps + threadIdx.x / 32; n < N; n += gridDim.x * warps)
        forward_row(x + n * D, z + heads(n), w, y + n * D, D, eps);
}

template <typename T>
__device__ __forceinline__ void backward(const T* dy, const T* x, const T* z, Gain<T> w, T* dx, T* dz, T* y, float* partial, int64_t N,
                                         int64_t D, Heads heads, Heads d_heads, int64_t rows, float eps) {
    const int64_t first = blockIdx.x * rows, last = first + rows < N ? first + rows : N, packs = D / WIDTH<T>;
    const bool vector = even<T>(D, heads.row, heads.head, d_heads.row, d_heads.head) && aligned(dy, x, z) && aligned(dx, dz, y);
    if (vector && packs <= 16) backward_groups<16>(dy, x, z, w, dx, dz, y, partial, first, last, D, heads, d_heads, eps);
    else if (vector && packs <= 32) backward_groups<32>(dy, x, z, w, dx, dz, y, partial, first, last, D, heads, d_heads, eps);
    else backward_rows(dy, x, z, w, dx, dz, y, partial, first, last, D, heads, d_heads, eps);
}

#define GATED_NORM(T, SUFFIX)                                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                                                \
        gated_norm_forward_##SUFFIX(const T* x, const T* z, const void* w, T* y, int64_t N, int64_t H, int64_t D, int64_t z_row,     \
                                    int64_t z_head, int64_t w_is_f32, float eps) {                                                   \
        forward<T>(x, z, {w, w_is_f32 != 0}, y, N, D, {H, z_row, z_head}, eps);                                                      \
    }                                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                             \
        gated_norm_backward_##SUFFIX(const T* dy, const T* x, const T* z, const void* w, T* dx, T* dz, T* y, float* partial,         \
                                     int64_t N, int64_t H, int64_t D, int64_t z_row, int64_t z_head, int64_t dz_row,                 \
                                     int64_t dz_head, int64_t w_is_f32, int64_t rows, float eps) {                                   \
        backward<T>(dy, x, z, {w, w_is_f32 != 0}, dx, dz, y, partial, N, D, {H, z_row, z_head}, {H, dz_row, dz_head}, rows, eps);    \
    }

GATED_NORM(bf16, bf16)
GATED_NORM(float, f32)
