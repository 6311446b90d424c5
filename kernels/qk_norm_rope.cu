// RMSNorm of the query and key heads with a zero-centred gain, then the rotary embedding; forward and backward.
//
//   v = x r (1 + w)                            r = rsqrt(mean_d x^2 + eps)
//   j < R:   y_j = v_j cos - v_{j+R} sin       y_{j+R} = v_{j+R} cos + v_j sin            d >= 2 R:  y_d = v_d
//   g = dy turned back:  dx = r (g (1 + w) - x r^2 mean_d(g (1 + w) x)),  dw[d] += sum g x r
//
// shapes    x, dx [N, H, D] bf16 or f32, heads `*_head` elements apart and tokens `*_row`; y, dy contiguous; w [D] of the same type; cos,
//           sin [N, R] f32, 2 R <= D; dw partials [B, D] f32
// launch    block 256, a warp a head. Up to 32 vectors of 16 bytes: values in registers, two heads under way together; else value by
//           value. Forward grid ceil(N H / 16); backward B blocks with a run of heads each, 8 D floats of shared memory
// traffic   forward 2 N H D elements, backward 3: memory-bound; the partner of a rotated value and the table hit the cache
// numerics  f32 in a fixed order, one rounding at the store: none between norm and rotation. reduce.cu adds up the partials in order
// compare   src/ops/rms_norm/reference.rs, then src/ops/rope/reference.rs
#include "packs.cuh"

constexpr int ROWS = 2;  // heads that a warp of the forward has under way together

// Cosines and sines of a token.
struct Angles {
    const float *cos, *sin;
    int64_t R;

    __device__ __forceinline__ Angles at(int64_t n) const { return {cos + n * R, sin + n * R, R}; }
};

// Turns values [d, d + W) of a head with their partners, which lie R away.
template <int W> __device__ __forceinline__ void turn(float (&v)[W], const float (&partner)[W], Angles angles, int64_t d, float sign) {
    const bool low = d < angles.R;
    const int64_t j = low ? d : d - angles.R;
    float c[W], s[W];
    if constexpr (W == 1) c[0] = angles.cos[j], s[0] = angles.sin[j];
    else load(angles.cos + j, c), load(angles.sin + j, s);
    const float side = low ? -sign : sign;
#pragma unroll
    for (int k = 0; k < W; k++) v[k] = v[k] * c[k] + partner[k] * (side * s[k]);
}

__device__ __forceinline__ int64_t token(int64_t row, int64_t H) { return row <= UINT32_MAX ? (uint32_t)row / (uint32_t)H : row / H; }

template <typename T>
__device__ __forceinline__ void forward_warps(const T* x, const T* w, Angles table, T* y, int64_t rows, int64_t D, Heads heads, float eps) {
    constexpr int W = WIDTH<T>;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int64_t d = lane * W, first = (int64_t)blockIdx.x * warps * ROWS + warp;
    const int64_t across = d < table.R ? d + table.R : d - table.R;
    const bool mine = d < D, turns = d < 2 * table.R;
    Pack<T, W> v[ROWS], other[ROWS], gain, other_gain;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = first + i * warps;
        v[i].zero();
        if (mine && row < rows) v[i].read(x + heads(row) + d);
        if (turns && row < rows) other[i].read(x + heads(row) + across);
    }
    gain.zero(), other_gain.zero();
    if (mine) gain.read(w + d);
    if (turns) other_gain.read(w + across);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        const int64_t row = first + i * warps;
        float sum = 0.f;
#pragma unroll
        for (int k = 0; k < W; k++) sum += v[i][k] * v[i][k];
        const float r = rsqrtf(warp_sum(sum) / D + eps);
        if (mine && row < rows) {
            float out[W], partner[W];
#pragma unroll
            for (int k = 0; k < W; k++) out[k] = v[i][k] * r * (1.f + gain[k]);
            if (turns) {
#pragma unroll
                for (int k = 0; k < W; k++) partner[k] = other[i][k] * r * (1.f + other_gain[k]);
                turn(out, partner, table.at(token(row, heads.H)), d, 1.f);
            }
            write(y + row * D + d, out);
        }
    }
}

template <typename T>
__device__ __forceinline__ void backward_warps(const T* dy, const T* x, const T* w, Angles table, T* dx, float* partial, int64_t first,
                                               int64_t last, int64_t D, Heads heads, Heads d_heads, float eps) {
    extern __shared__ float shared[];  // [warps, D]
    constexpr int W = WIDTH<T>;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int64_t d = lane * W;
    const int64_t across = d < table.R ? d + table.R : d - table.R;
    const bool mine = d < D, turns = d < 2 * table.R;
    const float share = 1.f / D;
    float sums[W] = {};
    Pack<T, W> gain, v, up, other, next_v, next_up, next_other;
    gain.zero();
    if (mine) gain.read(w + d);
    const auto fetch = [&](int64_t row, Pack<T, W>& v, Pack<T, W>& up, Pack<T, W>& other) {
        v.zero(), up.zero(), other.zero();
        if (mine && row < last) {
            v.read(x + heads(row) + d);
            up.read(dy + row * D + d);
        }
        if (turns && row < last) other.read(dy + row * D + across);
    };
    fetch(first + warp, v, up, other);
    for (int64_t row = first + warp; row < last; row += warps) {
        fetch(row + warps, next_v, next_up, next_other);
        float g[W], partner[W];
#pragma unroll
        for (int k = 0; k < W; k++) g[k] = up[k];
        if (turns) {
#pragma unroll
            for (int k = 0; k < W; k++) partner[k] = other[k];
            turn(g, partner, table.at(token(row, heads.H)), d, -1.f);
        }
        float squares = 0.f, dot = 0.f;
#pragma unroll
        for (int k = 0; k < W; k++) {
            squares += v[k] * v[k];
            dot += g[k] * (1.f + gain[k]) * v[k];
        }
        squares = warp_sum(squares), dot = warp_sum(dot);
        const float r = rsqrtf(squares * share + eps), scale = r * r * dot * share;
#pragma unroll
        for (int k = 0; k < W; k++) {
            sums[k] += g[k] * v[k] * r;
            g[k] = r * (g[k] * (1.f + gain[k]) - v[k] * scale);
        }
        if (mine) write(dx + d_heads(row) + d, g);
        v = next_v, up = next_up, other = next_other;
    }
    if (mine) {
#pragma unroll
        for (int k = 0; k < W; k++) shared[warp * D + d + k] = sums[k];
    }
    join_groups(shared, warps, D, partial);
}

template <typename T> __device__ __forceinline__ float inverse_rms(const T* x, int64_t D, float eps) {
    float sum = 0.f;
    for (int64_t d = threadIdx.x % 32; d < D; d += 32) sum += to_float(x[d]) * to_float(x[d]);
    return rsqrtf(warp_sum(sum) / D + eps);
}

template <typename T>
__device__ __forceinline__ void forward_row(const T* x, const T* w, Angles angles, T* y, int64_t D, float eps) {
    const float r = inverse_rms(x, D, eps);
    const auto normed = [&](int64_t d) { return to_float(x[d]) * r * (1.f + to_float(w[d])); };
    for (int64_t d = threadIdx.x % 32; d < D; d += 32) {
        float out[1] = {normed(d)};
        if (d < 2 * angles.R) {
            const float partner[1] = {normed(d < angles.R ? d + angles.R : d - angles.R)};
            turn(out, partner, angles, d, 1.f);
        }
        y[d] = from_float<T>(out[0]);
    }
}

template <typename T>
__device__ __forceinline__ void backward_rows(const T* dy, const T* x, const T* w, Angles table, T* dx, float* partial, int64_t first,
                                              int64_t last, int64_t D, Heads heads, Heads d_heads, float eps) {
    extern __shared__ float shared[];  // [warps, D]
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    float* mine = shared + warp * D;  // a thread touches its own columns alone
    for (int64_t d = lane; d < D; d += 32) mine[d] = 0.f;
    for (int64_t row = first + warp; row < last; row += warps) {
        const T *up = dy + row * D, *v = x + heads(row);
        const Angles angles = table.at(token(row, heads.H));
        const float r = inverse_rms(v, D, eps);
        const auto turned = [&](int64_t d) {
            float g[1] = {to_float(up[d])};
            if (d < 2 * angles.R) {
                const float partner[1] = {to_float(up[d < angles.R ? d + angles.R : d - angles.R])};
                turn(g, partner, angles, d, -1.f);
            }
            return g[0];
        };
        float dot = 0.f;
        for (int64_t d = lane; d < D; d += 32) {
            const float g = turned(d);
            mine[d] += g * to_float(v[d]) * r;
            dot += g * (1.f + to_float(w[d])) * to_float(v[d]);
        }
        const float scale = r * r * warp_sum(dot) / D;
        for (int64_t d = lane; d < D; d += 32)
            dx[d_heads(row) + d] = from_float<T>(r * (turned(d) * (1.f + to_float(w[d])) - to_float(v[d]) * scale));
    }
    join_groups(shared, warps, D, partial);
}

// Whether the heads fit into the registers of a warp, as whole vectors on either side of R and 2 R.
template <typename T> __device__ __forceinline__ bool fits(int64_t D, const Angles& table) {
    return D <= 32 * WIDTH<T> && even<T>(D, table.R) && aligned(table.cos, table.sin);
}

template <typename T>
__device__ __forceinline__ void forward(const T* x, const T* w, Angles table, T* y, int64_t rows, int64_t D, Heads heads, float eps) {
    if (fits<T>(D, table) && even<T>(heads.row, heads.head) && aligned(x, w, y)) {
        forward_warps(x, w, table, y, rows, D, heads, eps);
        return;
    }
    const int64_t warps = blockDim.x / 32;
    for (int64_t row = blockIdx.x * warps + threadIdx.x / 32; row < rows; row += gridDim.x * warps)
        forward_row(x + heads(row), w, table.at(token(row, heads.H)), y + row * D, D, eps);
}

template <typename T>
__device__ __forceinline__ void backward(const T* dy, const T* x, const T* w, Angles table, T* dx, float* partial, int64_t rows, int64_t D,
                                         Heads heads, Heads d_heads, int64_t run, float eps) {
    const int64_t first = blockIdx.x * run, last = first + run < rows ? first + run : rows;
    if (fits<T>(D, table) && even<T>(heads.row, heads.head, d_heads.row, d_heads.head) && aligned(dy, x, w) && aligned(dx))
        backward_warps(dy, x, w, table, dx, partial, first, last, D, heads, d_heads, eps);
    else backward_rows(dy, x, w, table, dx, partial, first, last, D, heads, d_heads, eps);
}

#define QK_NORM_ROPE(T, SUFFIX)                                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                                                \
        qk_norm_rope_forward_##SUFFIX(const T* x, const T* w, const float* cos, const float* sin, T* y, int64_t rows, int64_t H,     \
                                      int64_t D, int64_t R, int64_t x_row, int64_t x_head, float eps) {                              \
        forward<T>(x, w, {cos, sin, R}, y, rows, D, {H, x_row, x_head}, eps);                                                        \
    }                                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                             \
        qk_norm_rope_backward_##SUFFIX(const T* dy, const T* x, const T* w, const float* cos, const float* sin, T* dx,               \
                                       float* partial, int64_t rows, int64_t H, int64_t D, int64_t R, int64_t x_row,                 \
                                       int64_t x_head, int64_t dx_row, int64_t dx_head, int64_t run, float eps) {                    \
        backward<T>(dy, x, w, {cos, sin, R}, dx, partial, rows, D, {H, x_row, x_head}, {H, dx_row, dx_head}, run, eps);              \
    }

QK_NORM_ROPE(bf16, bf16)
QK_NORM_ROPE(float, f32)
