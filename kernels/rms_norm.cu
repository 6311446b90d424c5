// RMSNorm with a zero-centred gain, forward and backward, alone or fused with the residual add in front of it.
//
//   h = x + residual                               without a residual h = x
//   y[n,d] = h[n,d] * r[n] * (1 + w[d])            r[n] = rsqrt(mean_d h[n,d]^2 + eps)
//   g = dy * (1 + w)
//   dx[n,d] = r[n] * (g[n,d] - h[n,d] * r[n]^2 * mean_d(g * h)) + dh[n,d]
//   dw[d]  += sum_n dy[n,d] * h[n,d] * r[n]
//
// shapes    x, residual, h, y, dy, dh, dx [N, D] bf16 or f32, contiguous; w [D] of the same type; dw partials [R, D] f32
// launch    block 256. Forward: grid ceil(N / 8), a warp a row, `kept_V`: of up to 32 V vectors of 16 bytes, in registers. Backward: R blocks with a run of rows each. `kept_V_S`: S warps share a
//           row, D is at most 32 V S vectors of 16 bytes and lies in registers, as do the sums of dw; 8 D / S floats of shared memory.
//           `any`: the block a row, D floats of shared memory. reduce.cu adds up the partials in order
// traffic   forward 2 N D elements (4 with the residual), backward 3 N D (4 with dh): memory-bound
// numerics  sums in f32 in a fixed order, one rounding at the store; the norm is of the rounded h; the backward computes r again
// compare   src/ops/rms_norm/reference.rs
#include "packs.cuh"

// `h` of one vector, as it is rounded.
template <typename T, int W> __device__ __forceinline__ void add(Pack<T, W>& x, const Pack<T, W>& residual) {
    if constexpr (W * sizeof(T) == 16 && sizeof(T) == 2) {
#pragma unroll
        for (int k = 0; k < W; k += 2) {
            const __nv_bfloat162 sum = __floats2bfloat162_rn(x[k] + residual[k], x[k + 1] + residual[k + 1]);
            x.words[k / 2] = *reinterpret_cast<const uint32_t*>(&sum);
        }
    } else if constexpr (sizeof(T) == 4) {
#pragma unroll
        for (int k = 0; k < W; k++) x.words[k] = __float_as_uint(x[k] + residual[k]);
    } else {
        x.words[0] = __float_as_uint(to_float(from_float<T>(x[0] + residual[0]))) >> 16;
    }
}

// Rows of up to 32 V vectors, in registers.
template <int V, typename T>
__device__ __forceinline__ void forward_kept(const T* x, const T* residual, const T* w, T* h, T* y, int64_t D, float eps) {
    constexpr int W = WIDTH<T>;
    const int lane = threadIdx.x % 32, packs = D / W;
    Pack<T, W> v[V], other[V];
#pragma unroll
    for (int p = 0; p < V; p++)
        if (lane + 32 * p < packs) v[p].read(x + (lane + 32 * p) * W);
    if (residual) {
#pragma unroll
        for (int p = 0; p < V; p++)
            if (lane + 32 * p < packs) other[p].read(residual + (lane + 32 * p) * W);
#pragma unroll
        for (int p = 0; p < V; p++)
            if (lane + 32 * p < packs) add(v[p], other[p]);
    }
    float sum = 0.f;
#pragma unroll
    for (int p = 0; p < V; p++)
        if (lane + 32 * p < packs) {
            other[p].read(w + (lane + 32 * p) * W);  // before the sum is known
#pragma unroll
            for (int k = 0; k < W; k++) sum += v[p][k] * v[p][k];
        }
    const float r = rsqrtf(warp_sum(sum) / D + eps);
#pragma unroll
    for (int p = 0; p < V; p++)
        if (lane + 32 * p < packs) {
            float out[W];
#pragma unroll
            for (int k = 0; k < W; k++) out[k] = v[p][k] * r * (1.f + other[p][k]);
            write(y + (lane + 32 * p) * W, out);
            if (h) {
#pragma unroll
                for (int k = 0; k < W; k++) out[k] = v[p][k];
                write(h + (lane + 32 * p) * W, out);
            }
        }
}

// Rows of any width, read twice.
template <int W, typename T>
__device__ __forceinline__ void forward_any(const T* x, const T* residual, const T* w, T* h, T* y, int64_t D, float eps) {
    const auto read = [&](int64_t d) {
        Pack<T, W> v, other;
        v.read(x + d);
        if (residual) {
            other.read(residual + d);
            add(v, other);
        }
        return v;
    };
    float sum = 0.f;
    for (int64_t d = threadIdx.x % 32 * W; d < D; d += 32 * W) {
        const Pack<T, W> v = read(d);
#pragma unroll
        for (int k = 0; k < W; k++) sum += v[k] * v[k];
    }
    const float r = rsqrtf(warp_sum(sum) / D + eps);
    for (int64_t d = threadIdx.x % 32 * W; d < D; d += 32 * W) {
        const Pack<T, W> v = read(d);
        Pack<T, W> gain;
        gain.read(w + d);
        float out[W], kept[W];
#pragma unroll
        for (int k = 0; k < W; k++) out[k] = v[k] * r * (1.f + gain[k]), kept[k] = v[k];
        write(y + d, out);
        if (h) write(h + d, kept);
    }
}

// `V`: vectors of a row that a thread keeps; 0: none.
template <int V, typename T>
__device__ __forceinline__ void forward(const T* x, const T* residual, const T* w, T* h, T* y, int64_t N, int64_t D, float eps) {
    const int64_t n = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (n >= N) return;
    const bool vector = even<T>(D) && aligned(x, residual, w) && aligned(h, y);
    x += n * D, y += n * D;
    if (residual) residual += n * D, h += n * D;
    if (!vector) forward_any<1>(x, residual, w, h, y, D, eps);
    else if constexpr (V > 0) forward_kept<V>(x, residual, w, h, y, D, eps);
    else forward_any<WIDTH<T>>(x, residual, w, h, y, D, eps);
}

// The sums of two values over the S warps that share a row, which come here together; `turn` alternates between 0 and 1.
template <int S> __device__ __forceinline__ float2 row_sums(float a, float b, int turn) {
    a = warp_sum(a), b = warp_sum(b);
    if constexpr (S > 1) {
        __shared__ float2 partial[2][8];  // two sets: the last one may still be read when the next is written
        const int warp = threadIdx.x / 32, group = warp / S;
        if (threadIdx.x % 32 == 0) partial[turn][warp] = {a, b};
        asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(32 * S) : "memory");  // barrier 0 is __syncthreads
        a = 0.f, b = 0.f;
#pragma unroll
        for (int i = 0; i < S; i++) a += partial[turn][group * S + i].x, b += partial[turn][group * S + i].y;
    }
    return {a, b};
}

// Rows [first, last) of this block, 8 / S at a time, the next ones being read meanwhile; D is at most 32 V S vectors.
template <int V, int S, typename T>
__device__ __forceinline__ void backward_kept(const T* dy, const T* h, const T* w, const T* dh, T* dx, float* partial, int64_t first,
                                              int64_t last, int64_t D, float eps) {
    extern __shared__ float shared[];  // [8 / S, D]
    constexpr int W = WIDTH<T>, GROUPS = 8 / S;
    const int lane = threadIdx.x % (32 * S), group = threadIdx.x / (32 * S), packs = D / W;
    const float share = 1.f / D;
    float sums[V][W] = {};
    Pack<T, W> gain[V], x[V], up[V], next_x[V], next_up[V], other[V];
    const auto fetch = [&](int64_t n, Pack<T, W>(&x)[V], Pack<T, W>(&up)[V]) {
#pragma unroll
        for (int p = 0; p < V; p++)
            if (const int pack = lane + 32 * S * p; n < last && pack < packs) {
                x[p].read(h + n * D + pack * W);
                up[p].read(dy + n * D + pack * W);
            }
    };
    fetch(first + group, x, up);
#pragma unroll
    for (int p = 0; p < V; p++)
        if (const int pack = lane + 32 * S * p; pack < packs) gain[p].read(w + pack * W);
    int turn = 0;
    for (int64_t n = first + group; n < last; n += GROUPS, turn ^= 1) {
        fetch(n + GROUPS, next_x, next_up);
        if (dh) {
#pragma unroll
            for (int p = 0; p < V; p++)
                if (const int pack = lane + 32 * S * p; pack < packs) other[p].read(dh + n * D + pack * W);
        }
        float squares = 0.f, dot = 0.f;
#pragma unroll
        for (int p = 0; p < V; p++)
            if (const int pack = lane + 32 * S * p; pack < packs) {
#pragma unroll
                for (int k = 0; k < W; k++) {
                    squares += x[p][k] * x[p][k];
                    dot += up[p][k] * (1.f + gain[p][k]) * x[p][k];
                }
            }
        const float2 total = row_sums<S>(squares, dot, turn);
        const float r = rsqrtf(total.x * share + eps), scale = r * r * total.y * share;
#pragma unroll
        for (int p = 0; p < V; p++)
            if (const int pack = lane + 32 * S * p; pack < packs) {
                float out[W];
#pragma unroll
                for (int k = 0; k < W; k++) {
                    sums[p][k] += up[p][k] * x[p][k] * r;
                    out[k] = r * (up[p][k] * (1.f + gain[p][k]) - x[p][k] * scale);
                }
                if (dh) {
#pragma unroll
                    for (int k = 0; k < W; k++) out[k] += other[p][k];
                }
                write(dx + n * D + pack * W, out);
            }
#pragma unroll
        for (int p = 0; p < V; p++) x[p] = next_x[p], up[p] = next_up[p];
    }
#pragma unroll
    for (int p = 0; p < V; p++)
        if (const int pack = lane + 32 * S * p; pack < packs) {
#pragma unroll
            for (int k = 0; k < W; k++) shared[group * D + pack * W + k] = sums[p][k];
        }
    join_groups(shared, GROUPS, D, partial);
}

// Rows of any width, a block each, read twice.
template <int W, typename T>
__device__ __forceinline__ void backward_any(const T* dy, const T* h, const T* w, const T* dh, T* dx, float* partial, int64_t first,
                                             int64_t last, int64_t D, float eps) {
    extern __shared__ float shared[];  // [D], a thread touches its own columns alone
    for (int64_t d = threadIdx.x * W; d < D; d += blockDim.x * W)
#pragma unroll
        for (int k = 0; k < W; k++) shared[d + k] = 0.f;
    for (int64_t n = first; n < last; n++) {  // n % 2: which set of sums
        float squares = 0.f, dot = 0.f;
        Pack<T, W> x, up, gain, other;
        for (int64_t d = threadIdx.x * W; d < D; d += blockDim.x * W) {
            x.read(h + n * D + d), up.read(dy + n * D + d), gain.read(w + d);
#pragma unroll
            for (int k = 0; k < W; k++) {
                squares += x[k] * x[k];
                dot += up[k] * (1.f + gain[k]) * x[k];
            }
        }
        const float2 total = row_sums<8>(squares, dot, n % 2);
        const float r = rsqrtf(total.x / D + eps), scale = r * r * total.y / D;
        for (int64_t d = threadIdx.x * W; d < D; d += blockDim.x * W) {
            x.read(h + n * D + d), up.read(dy + n * D + d), gain.read(w + d);
            if (dh) other.read(dh + n * D + d);
            else other.zero();
            float out[W];
#pragma unroll
            for (int k = 0; k < W; k++) {
                shared[d + k] += up[k] * x[k] * r;
                out[k] = r * (up[k] * (1.f + gain[k]) - x[k] * scale) + other[k];
            }
            write(dx + n * D + d, out);
        }
    }
    join_groups(shared, 1, D, partial);
}

template <int V, int S, typename T>
__device__ __forceinline__ void backward(const T* dy, const T* h, const T* w, const T* dh, T* dx, float* partial, int64_t N, int64_t D,
                                         int64_t rows, float eps) {
    const int64_t first = blockIdx.x * rows, last = first + rows < N ? first + rows : N;
    const bool vector = even<T>(D) && aligned(dy, h, w) && aligned(dh, dx);
    if (!vector) backward_any<1>(dy, h, w, dh, dx, partial, first, last, D, eps);
    else if constexpr (V > 0) backward_kept<V, S>(dy, h, w, dh, dx, partial, first, last, D, eps);
    else backward_any<WIDTH<T>>(dy, h, w, dh, dx, partial, first, last, D, eps);
}

#define FORWARD(NAME, V, BLOCKS, T, SUFFIX)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                        \
        rms_norm_forward_##NAME##_##SUFFIX(const T* x, const T* residual, const T* w, T* h, T* y, int64_t N, int64_t D, float eps) { \
        forward<V, T>(x, residual, w, h, y, N, D, eps);                                                                              \
    }

#define BACKWARD(NAME, V, S, BLOCKS, T, SUFFIX)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                        \
        rms_norm_backward_##NAME##_##SUFFIX(const T* dy, const T* h, const T* w, const T* dh, T* dx, float* partial, int64_t N,      \
                                            int64_t D, int64_t rows, float eps) {                                                    \
        backward<V, S, T>(dy, h, w, dh, dx, partial, N, D, rows, eps);                                                               \
    }

#define RMS_NORM(T, SUFFIX)                                                                                                          \
    FORWARD(kept_1, 1, 6, T, SUFFIX)                                                                                                 \
    FORWARD(kept_4, 4, 4, T, SUFFIX)                                                                                                 \
    FORWARD(kept_8, 8, 2, T, SUFFIX)                                                                                                 \
    FORWARD(any, 0, 4, T, SUFFIX)                                                                                                    \
    BACKWARD(kept_1_1, 1, 1, 4, T, SUFFIX)                                                                                           \
    BACKWARD(kept_2_2, 2, 2, 2, T, SUFFIX)                                                                                           \
    BACKWARD(kept_2_4, 2, 4, 2, T, SUFFIX)                                                                                           \
    BACKWARD(kept_2_8, 2, 8, 2, T, SUFFIX)                                                                                           \
    BACKWARD(kept_4_8, 4, 8, 1, T, SUFFIX)                                                                                           \
    BACKWARD(any, 0, 8, 2, T, SUFFIX)

RMS_NORM(bf16, bf16)
RMS_NORM(float, f32)
