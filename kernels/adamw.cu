// AdamW over an arena, in place, with or without a bf16 copy of the new weights.
//
//   g = grad_scale * grad          m = b1 m + (1 - b1) g          v = b2 v + (1 - b2) g^2
//   p = p keep - step_size m / (sqrt(v) inverse_root + eps)       copy = bf16(p)
//
// shapes    master, grad, m, v [n] f32; copy [n] bf16; contiguous
// launch    block 256, 4 values a thread
// traffic   28 n bytes, 30 with the copy: memory-bound
// numerics  f32; the bias corrections are in step_size and inverse_root, taken in f64 on the host
// compare   src/ops/adamw/reference.rs
#include "block.cuh"

struct Factors {
    float keep, step_size, inverse_root, beta1, new1, beta2, new2, eps, grad_scale;
};

__device__ __forceinline__ void step(float* master, const float* grad, float* m, float* v, bf16* copy, int64_t n, Factors f) {
    // 4 values of the copy are 8 bytes; a multiple of 16 is more than it needs, and fresh arenas have it
    elementwise<float>(n, aligned(master, grad, m) && aligned(v, copy), [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        float p[W], g[W], first[W], second[W];
        load(master + i, p);
        load(grad + i, g);
        load(m + i, first);
        load(v + i, second);
#pragma unroll
        for (int k = 0; k < W; k++) {
            g[k] *= f.grad_scale;
            first[k] = f.beta1 * first[k] + f.new1 * g[k];
            second[k] = f.beta2 * second[k] + f.new2 * g[k] * g[k];
            p[k] = p[k] * f.keep - f.step_size * first[k] / (sqrtf(second[k]) * f.inverse_root + f.eps);
        }
        store(master + i, p);
        store(m + i, first);
        store(v + i, second);
        if (copy) store(copy + i, p);
    });
}

extern "C" __global__ void adamw_step_f32(float* master, const float* grad, float* m, float* v, bf16* copy, int64_t n, float keep,
                                          float step_size, float inverse_root, float beta1, float new1, float beta2, float new2,
                                          float eps, float grad_scale) {
    step(master, grad, m, v, copy, n, {keep, step_size, inverse_root, beta1, new1, beta2, new2, eps, grad_scale});
}
