// RMSNorm of the query and key heads with a zero-centred gain, then the rotary embedding; forward and backward.
//
//   v = x r (1 + w)                            r = rsqrt(mean_d x^2 + eps)
//   j < R:   y_j = v_j cos - v_{j+R} sin       y_{j+R} = v_{j+R} cos + v_j sin            d >= 2 R:  y_d = v_d
//   g = dy turned back:  dx = r (g (1 + w) - x r^2 mean_d(g (1 + w) x)),  dw[d] += sum g x r
//
// shapes    x, dx [N, H, D] bf16 or f32, heads `*_head` elements apart and tokens `*_row`; y, dy contiguous; w [D] of the same type; cos,
//           sin [N, R] f32, 2 R <= D; dw partials [B, D] f32
// launch    block 256, a warp a head. Up to 32 vectors of 16 bytes: values in registers, neighbouring heads under way together, so that those
//           of a token read its angles once; else value by value. Forward grid ceil(N H / (8 ROWS)); backward B blocks with a run of
//           heads each, 8 D floats of shared memory
// traffic   forward 2 N H D elements, backward 3: memory-bound; the table hits the cache
// numerics  f32 in a fixed order, one rounding at the store: none between norm and rotation. reduce.cu adds up the partials in order
// compare   src/ops/rms_norm/reference.rs, then src/ops/rope/reference.rs
#include "packs.cuh"

constexpr int ROWS = 4;  // heads that a warp of the forward has under way together
constexpr int BACK = 2;  // and of the backward

// Cosines and sines of a token.
struct Angles {
    const float *cos, *sin;
    int64_t R;

    __device__ __forceinline__ Angles at(int64_t n) const { return {cos + n * R, sin + n * R, R}; }
};

// Turns value `d` of a head with its partner, which lies R away.
__device__ __forceinline__ float turned(float v, float partner, Angles angles, int64_t d, float sign) {
    const bool low = d < angles.R;
    const int64_t j = low ? d : d - angles.R;
    return v * angles.cos[j] + partner * ((low ? -sign : sign) * angles.sin[j]);
}

__device__ __forceinline__ int64_t token(int64_t row, int64_t H) { return row <= UINT32_MAX ? (uint32_t)row / (uint32_t)H : row / H; }

// Head `h` of token `n`.
struct Place {
    int n, h;  // tokens and heads fit in 31 bits

    __device__ __forceinline__ Place(int64_t row, int64_t H) : n(token(row, H)), h(row - n * H) {}

    __device__ __forceinline__ Place next(int64_t H) const {
        Place place = *this;
        place.h++;
        if (place.h == (int)H) place.n++, place.h = 0;
        return place;
    }

    // Where it begins in a view.
    __device__ __forceinline__ int64_t in(const Heads& heads) const { return n * heads.row + h * heads.head; }
};

// The angles of the values of a lane, kept from one head of a token to the next.
template <int W> struct Turn {
    Angles table;
    int j, n = -1, partner;  // the lane's first angle, the token, and the lane that holds the other side
    float side;              // the sign of the sines: of this lane's side, and of the direction
    float c[W], s[W];

    __device__ __forceinline__ Turn(Angles table, int lane, float sign) : table(table), j(lane * W), partner(lane), side(0.f) {
        const int R = table.R;
        if (j < R) side = -sign, partner = lane + R / W;
        else if (j < 2 * R) side = sign, partner = lane - R / W, j -= R;
#pragma unroll
        for (int k = 0; k < W; k++) c[k] = 1.f, s[k] = 0.f;
    }

    // Reads the angles of token `now`.
    __device__ __forceinline__ void read(int now) {
        if (now == n) return;
        n = now;
        if (side == 0.f) return;
        load(table.cos + n * table.R + j, c);
        load(table.sin + n * table.R + j, s);
#pragma unroll
        for (int k = 0; k < W; k++) s[k] *= side;
    }

    // Turns the values of all lanes; all lanes come here.
    __device__ __forceinline__ void operator()(float (&v)[W]) const {
#pragma unroll
        for (int k = 0; k < W; k++) v[k] = v[k] * c[k] + __shfl_sync(0xffffffffu, v[k], partner) * s[k];
    }
};

// 1 + w of the values of a lane.
template <int W, typename T> __device__ __forceinline__ void read_gain(float (&gain)[W], const T* w, bool mine) {
    Pack<T, W> pack;
    pack.zero();
    if (mine) pack.read(w);
#pragma unroll
    for (int k = 0; k < W; k++) gain[k] = 1.f + pack[k];
}

template <typename T>
__device__ __forceinline__ void forward_warps(const T* x, const T* w, Angles table, T* y, int64_t rows, int64_t D, Heads heads, float eps) {
    constexpr int W = WIDTH<T>;
    const int lane = threadIdx.x % 32, d = lane * W;
    const int64_t first = ((int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * ROWS;
    if (first >= rows) return;
    const int count = rows - first < ROWS ? rows - first : ROWS;
    const bool mine = d < D;
    const float share = 1.f / D;
    Place place(first, heads.H);
    Pack<T, W> v[ROWS];
    Place at = place;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        v[i].zero();
        if (mine && i < count) v[i].read(x + at.in(heads) + d);
        at = at.next(heads.H);
    }
    Turn<W> turn(table, lane, 1.f);
    turn.read(place.n);
    float gain[W];
    read_gain(gain, w + d, mine);
    y += first * D + d;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        if (i >= count) return;
        turn.read(place.n);
        place = place.next(heads.H);
        float sum = 0.f, out[W];
#pragma unroll
        for (int k = 0; k < W; k++) sum += v[i][k] * v[i][k];
        const float r = rsqrtf(warp_sum(sum) * share + eps);
#pragma unroll
        for (int k = 0; k < W; k++) out[k] = v[i][k] * r * gain[k];
        turn(out);
        if (mine) write(y + i * D, out);
    }
}

template <typename T>
__device__ __forceinline__ void backward_warps(const T* dy, const T* x, const T* w, Angles table, T* dx, float* partial, int64_t first,
                                               int64_t last, int64_t D, Heads heads, Heads d_heads, float eps) {
    extern __shared__ float shared[];  // [warps, D]
    constexpr int W = WIDTH<T>;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32, d = lane * W;
    const bool mine = d < D;
    const float share = 1.f / D;
    float sums[W] = {}, gain[W];
    Turn<W> turn(table, lane, -1.f);
    read_gain(gain, w + d, mine);
    x += d, dy += d, dx += d;
    for (int64_t base = first + warp * BACK; base < last; base += warps * BACK) {
        const int count = last - base < BACK ? last - base : BACK;
        Place place(base, heads.H), at = place;
        Pack<T, W> v[BACK], up[BACK];
#pragma unroll
        for (int i = 0; i < BACK; i++) {
            v[i].zero(), up[i].zero();
            if (mine && i < count) {
                v[i].read(x + at.in(heads));
                up[i].read(dy + (base + i) * D);
            }
            at = at.next(heads.H);
        }
        turn.read(place.n);
#pragma unroll
        for (int i = 0; i < BACK; i++) {
            if (i >= count) break;
            turn.read(place.n);
            float g[W], squares = 0.f, dot = 0.f;
#pragma unroll
            for (int k = 0; k < W; k++) g[k] = up[i][k];
            turn(g);
#pragma unroll
            for (int k = 0; k < W; k++) {
                squares += v[i][k] * v[i][k];
                dot += g[k] * gain[k] * v[i][k];
            }
            squares = warp_sum(squares), dot = warp_sum(dot);
            const float r = rsqrtf(squares * share + eps), scale = r * r * dot * share;
#pragma unroll
            for (int k = 0; k < W; k++) {
                g[k] *= r;
                sums[k] += g[k] * v[i][k];
                g[k] = g[k] * gain[k] - v[i][k] * (r * scale);
            }
            if (mine) write(dx + place.in(d_heads), g);
            place = place.next(heads.H);
        }
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
        float out = normed(d);
        if (d < 2 * angles.R) out = turned(out, normed(d < angles.R ? d + angles.R : d - angles.R), angles, d, 1.f);
        y[d] = from_float<T>(out);
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
        const auto back = [&](int64_t d) {
            const float g = to_float(up[d]);
            return d < 2 * angles.R ? turned(g, to_float(up[d < angles.R ? d + angles.R : d - angles.R]), angles, d, -1.f) : g;
        };
        float dot = 0.f;
        for (int64_t d = lane; d < D; d += 32) {
            const float g = back(d);
            mine[d] += g * to_float(v[d]) * r;
            dot += g * (1.f + to_float(w[d])) * to_float(v[d]);
        }
        const float scale = r * r * warp_sum(dot) / D;
        for (int64_t d = lane; d < D; d += 32)
            dx[d_heads(row) + d] = from_float<T>(r * (back(d) * (1.f + to_float(w[d])) - to_float(v[d]) * scale));
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
    extern "C" __global__ void __launch_bounds__(256, 4)                                                                             \
        qk_norm_rope_forward_##SUFFIX(const T* x, const T* w, const float* cos, const float* sin, T* y, int64_t rows, int64_t H,     \
                                      int64_t D, int64_t R, int64_t x_row, int64_t x_head, float eps) {                              \
        forward<T>(x, w, {cos, sin, R}, y, rows, D, {H, x_row, x_head}, eps);                                                        \
    }                                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256, 2)                                                                             \
        qk_norm_rope_backward_##SUFFIX(const T* dy, const T* x, const T* w, const float* cos, const float* sin, T* dx,               \
                                       float* partial, int64_t rows, int64_t H, int64_t D, int64_t R, int64_t x_row,                 \
                                       int64_t x_head, int64_t dx_row, int64_t dx_head, int64_t run, float eps) {                    \
        backward<T>(dy, x, w, {cos, sin, R}, dx, partial, rows, D, {H, x_row, x_head}, {H, dx_row, dx_head}, run, eps);              \
    }

QK_NORM_ROPE(bf16, bf16)
QK_NORM_ROPE(float, f32)
