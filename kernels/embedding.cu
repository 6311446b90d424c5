// Rows of a table by token id, and the sum of rows by id.
//
//   forward: y[n] = w[ids[n]]          backward: dw[id] += sum over the tokens n of that id of dy[n]
//
// shapes    w [V, h], y, dy [N, h] bf16 or f32, dw [V, h] f32, contiguous; ids, order [N], runs [R, 3], several [M, 3] u32;
//           order: tokens sorted by id, equal ids in their order; a run is up to 32 places of `order` with one id: (first place, places,
//           target); the target is the id where the id has no other run, else V + a row of partial [P, h] f32; several: (id, its first
//           row of partial, rows); a row of either table whose count is 0 is none: tables have as many rows as N tokens may need
// launch    forward: a warp a token; runs: a block of 128 a row of its table, as several
// traffic   forward 2 N h elements; backward N h elements and 8 bytes of dw for each value of a row that occurs: memory-bound
// numerics  f32 sums in the order of the tokens within a run, then of the runs; no atomics
// compare   src/ops/embedding/reference.rs
#include "block.cuh"

template <typename T> __device__ __forceinline__ void forward(const uint32_t* ids, const T* w, T* y, int64_t N, int64_t h) {
    constexpr int W = WIDTH<T>;
    const int64_t n = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (n >= N) return;
    const T* from = w + ids[n] * h;
    T* to = y + n * h;
    const int lane = threadIdx.x % 32;
    if (h % W == 0 && aligned(w, y)) {
#pragma unroll 4
        for (int64_t i = lane; i < h / W; i += 32) reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
    } else {
        for (int64_t i = lane; i < h; i += 32) to[i] = from[i];
    }
}

// Columns [c, c + W) of a run.
template <int W, typename T>
__device__ __forceinline__ void run_columns(const T* dy, const uint32_t* order, int64_t first, int64_t places, float* to, bool add,
                                            int64_t h, int64_t c) {
    float sum[W];
#pragma unroll
    for (int k = 0; k < W; k++) sum[k] = 0.f;
#pragma unroll 4
    for (int64_t i = 0; i < places; i++) {
        float v[W];
        load(dy + order[first + i] * h + c, v);
#pragma unroll
        for (int k = 0; k < W; k++) sum[k] += v[k];
    }
    if (add) {
        float v[W];
        load(to + c, v);
#pragma unroll
        for (int k = 0; k < W; k++) sum[k] += v[k];
    }
    store(to + c, sum);
}

template <typename T>
__device__ __forceinline__ void runs(const T* dy, const uint32_t* order, const uint32_t* table, float* dw, float* partial, int64_t V,
                                     int64_t h) {
    constexpr int W = WIDTH<T>;
    const uint32_t* run = table + 3 * (int64_t)blockIdx.x;
    if (run[1] == 0) return;
    const int64_t target = run[2];
    float* to = target < V ? dw + target * h : partial + (target - V) * h;
    if (h % W == 0 && aligned(dy, dw, partial)) {
        for (int64_t c = threadIdx.x * W; c < h; c += blockDim.x * W) run_columns<W>(dy, order, run[0], run[1], to, target < V, h, c);
    } else {
        for (int64_t c = threadIdx.x; c < h; c += blockDim.x) run_columns<1>(dy, order, run[0], run[1], to, target < V, h, c);
    }
}

extern "C" __global__ void embedding_several_f32(const float* partial, const uint32_t* table, float* dw, int64_t h) {
    const uint32_t* id = table + 3 * (int64_t)blockIdx.x;
    if (id[2] == 0) return;
    for (int64_t c = threadIdx.x; c < h; c += blockDim.x) {
        float sum = dw[id[0] * h + c];
        for (int64_t row = id[1]; row < (int64_t)id[1] + id[2]; row++) sum += partial[row * h + c];
        dw[id[0] * h + c] = sum;
    }
}

#define EMBEDDING(T, SUFFIX)                                                                                                          \
    extern "C" __global__ void embedding_forward_##SUFFIX(const uint32_t* ids, const T* w, T* y, int64_t N, int64_t h) {              \
        forward<T>(ids, w, y, N, h);                                                                                                  \
    }                                                                                                                                 \
    extern "C" __global__ void embedding_runs_##SUFFIX(const T* dy, const uint32_t* order, const uint32_t* table, float* dw,          \
                                                       float* partial, int64_t V, int64_t h) {                                        \
        runs<T>(dy, order, table, dw, partial, V, h);                                                                                 \
    }

EMBEDDING(bf16, bf16)
EMBEDDING(float, f32)
