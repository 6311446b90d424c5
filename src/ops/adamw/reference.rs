//! The CPU form: one pass over the four arenas, blocks in parallel.

use rayon::prelude::*;

use super::AdamW;

const BLOCK: usize = 16 * 1024;

pub(super) fn step(master: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], update: AdamW) {
    let AdamW {
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        step,
        grad_scale,
    } = update;
    let correction1 = 1.0 - beta1.powf(step as f64);
    let correction2 = 1.0 - beta2.powf(step as f64);
    let keep = (1.0 - lr * weight_decay) as f32;
    let step_size = (lr / correction1) as f32;
    let inverse_root = (1.0 / correction2.sqrt()) as f32;
    let (beta1, new1) = (beta1 as f32, (1.0 - beta1) as f32);
    let (beta2, new2) = (beta2 as f32, (1.0 - beta2) as f32);
    let (eps, grad_scale) = (eps as f32, grad_scale as f32);

    let moments = m.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK));
    master
        .par_chunks_mut(BLOCK)
        .zip(grad.par_chunks(BLOCK))
        .zip(moments)
        .for_each(|((master, grad), (m, v))| {
            for (((p, g), m), v) in master.iter_mut().zip(grad).zip(m).zip(v) {
                let g = g * grad_scale;
                *m = beta1 * *m + new1 * g;
                *v = beta2 * *v + new2 * g * g;
                *p = *p * keep - step_size * *m / (v.sqrt() * inverse_root + eps);
            }
        });
}
