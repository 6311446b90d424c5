//! The CPU form: rows in parallel, sums in lanes.

use rayon::prelude::*;

use crate::ops::host::{BLOCK_ROWS, add_partials};
use crate::ops::scalar::{dot, sigmoid, silu};
use crate::ops::wide::wide;

pub(super) fn forward(x: &[f32], z: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let d = w.len();
    let block = BLOCK_ROWS * d;
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .zip(z.par_chunks(block))
        .for_each(|((y, x), z)| forward_block(y, x, z, w, eps));
    y
}

wide! {
    fn forward_block(y: &mut [f32], x: &[f32], z: &[f32], w: &[f32], eps: f32) {
        let d = w.len();
        for ((y, x), z) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(z.chunks_exact(d)) {
            let r = inverse_rms(x, eps);
            for (((y, x), z), w) in y.iter_mut().zip(x).zip(z).zip(w) {
                *y = w * (x * r) * silu(*z);
            }
        }
    }
}

pub(super) fn backward(
    dy: &[f32],
    x: &[f32],
    z: &[f32],
    w: &[f32],
    eps: f32,
    dw: &mut [f32],
) -> (Vec<f32>, Vec<f32>) {
    let d = w.len();
    let block = BLOCK_ROWS * d;
    let (mut dx, mut dz) = (vec![0f32; x.len()], vec![0f32; x.len()]);
    let partials: Vec<Vec<f32>> = dx
        .par_chunks_mut(block)
        .zip(dz.par_chunks_mut(block))
        .zip(dy.par_chunks(block))
        .zip(x.par_chunks(block))
        .zip(z.par_chunks(block))
        .map(|((((dx, dz), dy), x), z)| {
            let mut dw = vec![0f32; d];
            backward_block(dx, dz, &mut dw, dy, x, z, w, eps);
            dw
        })
        .collect();
    add_partials(dw, &partials);
    (dx, dz)
}

wide! {
    fn backward_block(
        dx: &mut [f32],
        dz: &mut [f32],
        dw: &mut [f32],
        dy: &[f32],
        x: &[f32],
        z: &[f32],
        w: &[f32],
        eps: f32,
    ) {
        let d = w.len();
        let rows = dx.chunks_exact_mut(d).zip(dz.chunks_exact_mut(d));
        let rows = rows.zip(dy.chunks_exact(d)).zip(x.chunks_exact(d)).zip(z.chunks_exact(d));
        for ((((dx, dz), dy), x), z) in rows {
            let r = inverse_rms(x, eps);
            let outputs = dw.iter_mut().zip(&mut *dx).zip(dz);
            for ((((dw, dx), dz), ((dy, x), z)), w) in outputs.zip(dy.iter().zip(x).zip(z)).zip(w) {
                let s = sigmoid(*z);
                let gate = z * s;
                let u = x * r;
                *dw += dy * u * gate;
                *dz = dy * w * u * (s * z.mul_add(1.0 - s, 1.0));
                *dx = dy * w * gate;
            }
            let mean = dot(dx, x) * r / d as f32; // of du u
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = r * (*dx - x * r * mean);
            }
        }
    }
}

#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "part of loops that are compiled for wider instructions"
)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}
