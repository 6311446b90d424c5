// Depthwise causal convolution over time with SiLU, forward and backward.
//
//   c[t,ch] = sum_j w[ch,j] x[t-W+1+j,ch]          y = silu(c)          x before the begin of each document is 0
//   dc = dy silu'(c):  dx[s,ch] = sum_j w[ch,j] dc[s+W-1-j,ch] within the document,  dw[ch,j] += sum_t dc[t,ch] x[t-W+1+j,ch]
//
// shapes    x, dx [N, C] bf16 or f32, rows `x_row` and `dx_row` elements apart; y, dy [N, C] contiguous; w [C, W] of the same type; cu
//           [documents + 1] u32; dw partials [R, C, W] f32. `4`: W = 4 with SiLU; `any`: 1 <= W <= 8, with SiLU or without
// launch    grid (ceil(C / (256 CHANNELS)), R), block 256: a thread takes CHANNELS neighbouring channels of a run of tokens
// traffic   forward 2 N C elements, backward 3 N C: memory-bound; a run reads the W - 1 tokens around it once more. The partials are
//           added up by reduce.cu in order
// numerics  f32 in a fixed order, one rounding at the store; the backward computes c again
// compare   src/ops/conv1d/reference.rs
#include "packs.cuh"

constexpr int FORWARD_CHANNELS = 4;  // of a thread, in the forward of width 4
constexpr int CHANNELS = 2;          // and otherwise: the sums of the backward take more registers
constexpr int STEP = 8;  // tokens whose loads are under way together

// The document that a run has come to.
struct Document {
    const uint32_t* cu;
    int index, start, end;

    __device__ __forceinline__ Document(const uint32_t* cu, int64_t documents, int token) : cu(cu) {
        int low = 0, high = documents;  // cu[low] <= token < cu[high]
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            ((int)cu[middle] <= token ? low : high) = middle;
        }
        index = low, start = cu[low], end = cu[low + 1];
    }

    __device__ __forceinline__ void next() { index++, start = end, end = cu[index + 1]; }
};

// The taps of channels [c, c + CH), in the last places of TAPS.
template <int CH, int TAPS, typename T> __device__ __forceinline__ void read_taps(const T* w, int64_t c, int taps, float (&tap)[TAPS][CH]) {
#pragma unroll
    for (int j = 0; j < TAPS; j++)
#pragma unroll
        for (int k = 0; k < CH; k++) tap[j][k] = j < TAPS - taps ? 0.f : to_float(w[(c + k) * taps + j - (TAPS - taps)]);
}

template <int CH, typename T> __device__ __forceinline__ void read_step(Pack<T, CH> (&pack)[STEP], const T* p, int64_t row, int t, int end) {
#pragma unroll
    for (int i = 0; i < STEP; i++) {
        if (t + i < end) pack[i].read(p + (int64_t)(t + i) * row);
        else pack[i].zero();
    }
}

// The tokens before `t0`, zeros before their document.
template <int CH, int TAPS, typename T>
__device__ __forceinline__ void read_window(float (&window)[TAPS - 1][CH], const T* x, int64_t x_row, int t0, int start) {
#pragma unroll
    for (int j = 0; j < TAPS - 1; j++) {
        const int t = t0 - (TAPS - 1) + j;
        Pack<T, CH> pack;
        if (t >= start) pack.read(x + (int64_t)t * x_row);
        else pack.zero();
#pragma unroll
        for (int k = 0; k < CH; k++) window[j][k] = pack[k];
    }
}

// Drops the oldest row and appends `last`.
template <int CH, int ROWS> __device__ __forceinline__ void shift(float (&window)[ROWS][CH], const float (&last)[CH]) {
#pragma unroll
    for (int j = 0; j < ROWS; j++)
#pragma unroll
        for (int k = 0; k < CH; k++) window[j][k] = j + 1 < ROWS ? window[j + 1][k] : last[k];
}

template <int CH, int TAPS, typename T>
__device__ __forceinline__ void forward_run(const T* x, int64_t x_row, const T* w, const uint32_t* cu, int64_t documents, T* y, int64_t C,
                                            int taps, bool silu, int64_t c, int t0, int t1) {
    x += c, y += c;
    float tap[TAPS][CH], window[TAPS - 1][CH];
    read_taps(w, c, taps, tap);
    Document document(cu, documents, t0);
    read_window<CH, TAPS>(window, x, x_row, t0, document.start);
    Pack<T, CH> now[STEP], ahead[STEP];
    read_step(now, x, x_row, t0, t1);
    const auto token = [&](int t, const Pack<T, CH>& pack) {
        float in[CH], out[CH];
#pragma unroll
        for (int k = 0; k < CH; k++) {
            in[k] = pack[k];
            out[k] = tap[TAPS - 1][k] * in[k];
#pragma unroll
            for (int j = 0; j < TAPS - 1; j++) out[k] += tap[j][k] * window[j][k];
        }
        if (silu) {
#pragma unroll
            for (int k = 0; k < CH; k++) out[k] *= sigmoid_for<T>(out[k]);
        }
        write(y + (int64_t)t * C, out);
        shift(window, in);
    };
    for (int t = t0; t < t1; t += STEP) {
        read_step(ahead, x, x_row, t + STEP, t1);
        if (t + STEP <= document.end && t + STEP <= t1) {
#pragma unroll
            for (int i = 0; i < STEP; i++) token(t + i, now[i]);
        } else {
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                if (t + i >= t1) break;
                if (t + i == document.end) {
                    document.next();
#pragma unroll
                    for (int j = 0; j < TAPS - 1; j++)
#pragma unroll
                        for (int k = 0; k < CH; k++) window[j][k] = 0.f;
                }
                token(t + i, now[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < STEP; i++) now[i] = ahead[i];
    }
}

template <int CH, int TAPS, typename T>
__device__ __forceinline__ void backward_run(const T* dy, const T* x, int64_t x_row, const T* w, const uint32_t* cu, int64_t documents, T* dx,
                                             int64_t dx_row, float* partial, int64_t C, int taps, bool silu, int64_t c, int t0,
                                             int t1) {
    dy += c, x += c, dx += c;
    float tap[TAPS][CH], sums[TAPS][CH] = {};
    float window[TAPS - 1][CH];   // x of the tokens before
    float pending[TAPS - 1][CH];  // dx of the tokens before, without what comes
    read_taps(w, c, taps, tap);
    Document document(cu, documents, t0);
    read_window<CH, TAPS>(window, x, x_row, t0, document.start);
#pragma unroll
    for (int j = 0; j < TAPS - 1; j++)
#pragma unroll
        for (int k = 0; k < CH; k++) pending[j][k] = 0.f;
    // dc of the first tokens of the next run is needed too, up to the end of the document
    const int last = Document(cu, documents, t1 - 1).end, stop = t1 + TAPS - 1 < last ? t1 + TAPS - 1 : last;
    Pack<T, CH> x_now[STEP], x_ahead[STEP], dy_now[STEP], dy_ahead[STEP];
    read_step(x_now, x, x_row, t0, stop);
    read_step(dy_now, dy, C, t0, stop);

    // `plain`: all of the tokens before belong to the same document and run
    const auto token = [&](auto plain, int t, const Pack<T, CH>& x_pack, const Pack<T, CH>& dy_pack) {
        constexpr bool PLAIN = decltype(plain)::value != 0;
        const int from_start = t - document.start;
        float in[CH], dc[CH], done[CH], fresh[CH];
#pragma unroll
        for (int k = 0; k < CH; k++) {
            in[k] = x_pack[k];
            dc[k] = tap[TAPS - 1][k] * in[k];
#pragma unroll
            for (int j = 0; j < TAPS - 1; j++) dc[k] += tap[j][k] * window[j][k];
        }
#pragma unroll
        for (int k = 0; k < CH; k++) {
            float slope = 1.f;
            if (silu) {
                const float s = sigmoid_for<T>(dc[k]);
                slope = s * (1.f + dc[k] * (1.f - s));
            }
            dc[k] = dy_pack[k] * slope;
        }
        if (PLAIN || t < t1) {
#pragma unroll
            for (int k = 0; k < CH; k++) {
#pragma unroll
                for (int j = 0; j < TAPS - 1; j++) sums[j][k] += dc[k] * window[j][k];
                sums[TAPS - 1][k] += dc[k] * in[k];
            }
        }
#pragma unroll
        for (int k = 0; k < CH; k++) {
#pragma unroll
            for (int j = 0; j < TAPS - 1; j++)
                if (PLAIN || from_start >= TAPS - 1 - j) pending[j][k] += tap[j][k] * dc[k];
            done[k] = pending[0][k];
            fresh[k] = tap[TAPS - 1][k] * dc[k];
        }
        const int u = t - (TAPS - 1);
        if (PLAIN || (u >= t0 && u < t1)) write(dx + (int64_t)u * dx_row, done);
        shift(pending, fresh);
        shift(window, in);
    };
    for (int t = t0; t < stop; t += STEP) {
        read_step(x_ahead, x, x_row, t + STEP, stop);
        read_step(dy_ahead, dy, C, t + STEP, stop);
        const int from = document.start > t0 ? document.start : t0;
        if (t >= from + TAPS - 1 && t + STEP <= document.end && t + STEP <= t1) {
#pragma unroll
            for (int i = 0; i < STEP; i++) token(Width<1>{}, t + i, x_now[i], dy_now[i]);
        } else {
#pragma unroll
            for (int i = 0; i < STEP; i++) {
                if (t + i >= stop) break;
                if (t + i == document.end) {
                    document.next();
#pragma unroll
                    for (int j = 0; j < TAPS - 1; j++)
#pragma unroll
                        for (int k = 0; k < CH; k++) window[j][k] = 0.f;
                }
                token(Width<0>{}, t + i, x_now[i], dy_now[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < STEP; i++) x_now[i] = x_ahead[i], dy_now[i] = dy_ahead[i];
    }
#pragma unroll
    for (int j = 0; j < TAPS - 1; j++) {
        const int u = stop - (TAPS - 1) + j;
        if (u >= t0 && u < t1) write(dx + (int64_t)u * dx_row, pending[j]);
    }
#pragma unroll
    for (int k = 0; k < CH; k++)
#pragma unroll
        for (int j = 0; j < TAPS; j++)
            if (j >= TAPS - taps) partial[(c + k) * taps + j - (TAPS - taps)] = sums[j][k];
}

// Calls `f(width, c)` for the channels of this thread: CH at once, or one by one where vectors do not fit.
template <int CH, typename F> __device__ __forceinline__ void each_channel(int64_t C, bool vector, F f) {
    const int64_t c = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * CH;
    if (vector && c + CH <= C) {
        f(Width<CH>{}, c);
    } else {
        for (int64_t one = c; one < c + CH && one < C; one++) f(Width<1>{}, one);
    }
}

template <int TAPS, typename T>
__device__ __forceinline__ void forward(const T* x, int64_t x_row, const T* w, const uint32_t* cu, int64_t documents, T* y, int64_t N,
                                        int64_t C, int64_t run, int taps, bool silu) {
    constexpr int CH = TAPS == 4 ? FORWARD_CHANNELS : CHANNELS;
    const int t0 = blockIdx.y * run, t1 = t0 + run < N ? t0 + run : N;  // N fits in 31 bits
    each_channel<CH>(C, even<T>(C, x_row) && aligned(x, y), [&](auto width, int64_t c) {
        forward_run<decltype(width)::value, TAPS>(x, x_row, w, cu, documents, y, C, taps, silu, c, t0, t1);
    });
}

template <int TAPS, typename T>
__device__ __forceinline__ void backward(const T* dy, const T* x, int64_t x_row, const T* w, const uint32_t* cu, int64_t documents, T* dx,
                                         int64_t dx_row, float* partial, int64_t N, int64_t C, int64_t run, int taps, bool silu) {
    const int t0 = blockIdx.y * run, t1 = t0 + run < N ? t0 + run : N;  // N fits in 31 bits
    partial += blockIdx.y * C * taps;
    each_channel<CHANNELS>(C, even<T>(C, x_row, dx_row) && aligned(dy, x, dx), [&](auto width, int64_t c) {
        backward_run<decltype(width)::value, TAPS>(dy, x, x_row, w, cu, documents, dx, dx_row, partial, C, taps, silu, c, t0, t1);
    });
}

#define CONV1D(T, SUFFIX)                                                                                                            \
    extern "C" __global__ void __launch_bounds__(256) conv1d_forward_4_##SUFFIX(const T* x, int64_t x_row, const T* w,               \
                                                          const uint32_t* cu, int64_t documents, T* y, int64_t N, int64_t C,         \
                                                          int64_t run) {                                                             \
        forward<4, T>(x, x_row, w, cu, documents, y, N, C, run, 4, true);                                                            \
    }                                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) conv1d_backward_4_##SUFFIX(const T* dy, const T* x, int64_t x_row, const T* w, \
                                                          const uint32_t* cu, int64_t documents, T* dx, int64_t dx_row,              \
                                                          float* partial, int64_t N, int64_t C, int64_t run) {                       \
        backward<4, T>(dy, x, x_row, w, cu, documents, dx, dx_row, partial, N, C, run, 4, true);                                     \
    }                                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) conv1d_forward_any_##SUFFIX(const T* x, int64_t x_row, const T* w,             \
                                                          const uint32_t* cu, int64_t documents, T* y, int64_t N, int64_t C,         \
                                                          int64_t run, int64_t taps, int64_t silu) {                                 \
        forward<8, T>(x, x_row, w, cu, documents, y, N, C, run, taps, silu);                                                         \
    }                                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) conv1d_backward_any_##SUFFIX(const T* dy, const T* x, int64_t x_row,           \
                                                          const T* w, const uint32_t* cu, int64_t documents, T* dx, int64_t dx_row,  \
                                                          float* partial, int64_t N, int64_t C, int64_t run, int64_t taps,           \
                                                          int64_t silu) {                                                            \
        backward<8, T>(dy, x, x_row, w, cu, documents, dx, dx_row, partial, N, C, run, taps, silu);                                  \
    }

CONV1D(bf16, bf16)
CONV1D(float, f32)
