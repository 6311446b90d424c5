// AdamW over an arena, in place, with or without a bf16 copy of the new weights, and the verdict on a step that it may obey.
//
//   g = grad_scale * grad          m = b1 m + (1 - b1) g          v = b2 v + (1 - b2) g^2
//   p = p keep - step_size m / (sqrt(v) inverse_root + eps)       copy = bf16(p)
//   judge: verdict = (norm, factor, skip)   norm = sqrt(squares)   factor = min(1, clip / (norm + 1e-6)), 1 without clip
//          skip = 1 when norm or a loss is not finite              a guarded step scales the gradient by factor, and is none at skip
//
// shapes    master, grad, m, v [n] f32; copy [n] bf16; verdict [3], squares [1], losses [>= 1] each f64; contiguous
// launch    step: block 256, 4 values a thread     judge: one thread, up to 8 losses a launch
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
                                          float eps, const double* verdict, double grad_scale) {
    if (verdict) {
        if (verdict[2] != 0.0) return;
        grad_scale *= verdict[1];
    }
    step(master, grad, m, v, copy, n, {keep, step_size, inverse_root, beta1, new1, beta2, new2, eps, (float)grad_scale});
}

// `first` clears the verdict; the launch that has `squares` completes it.
extern "C" __global__ void adamw_judge_f64(double* verdict, const double* squares, double clip, int64_t first, int64_t count,
                                           const double* l0, const double* l1, const double* l2, const double* l3, const double* l4,
                                           const double* l5, const double* l6, const double* l7) {
    const double* losses[8] = {l0, l1, l2, l3, l4, l5, l6, l7};
    bool skip = !first && verdict[2] != 0.0;
#pragma unroll
    for (int i = 0; i < 8; i++) skip |= i < count && !isfinite(*losses[i]);
    double norm = 0.0, factor = 1.0;
    if (squares) {
        norm = sqrt(*squares);
        skip |= !isfinite(norm);
        if (clip > 0.0) factor = fmin(clip / (norm + 1e-6), 1.0);
    }
    verdict[0] = norm;
    verdict[1] = factor;
    verdict[2] = skip ? 1.0 : 0.0;
}
