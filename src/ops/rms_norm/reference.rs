//! The CPU form: rows in parallel, sums in lanes.

use rayon::prelude::*;

use crate::ops::host::{BLOCK_ROWS, add_partials};
use crate::ops::scalar::dot;
use crate::ops::wide::wide;

pub(super) fn forward(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let d = w.len();
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(BLOCK_ROWS * d)
        .zip(x.par_chunks(BLOCK_ROWS * d))
        .for_each(|(y, x)| forward_block(y, x, w, eps));
    y
}

wide! {
    fn forward_block(y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
        let d = w.len();
        for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            let r = inverse_rms(x, eps);
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * r * (1.0 + w);
            }
        }
    }
}

pub(super) fn backward(dy: &[f32], x: &[f32], w: &[f32], eps: f32, dw: &mut [f32]) -> Vec<f32> {
    let d = w.len();
    let mut dx = vec![0f32; x.len()];
    let partials: Vec<Vec<f32>> = dx
        .par_chunks_mut(BLOCK_ROWS * d)
        .zip(dy.par_chunks(BLOCK_ROWS * d))
        .zip(x.par_chunks(BLOCK_ROWS * d))
        .map(|((dx, dy), x)| {
            let mut dw = vec![0f32; d];
            backward_block(dx, &mut dw, dy, x, w, eps);
            dw
        })
        .collect();
    add_partials(dw, &partials);
    dx
}

wide! {
    fn backward_block(dx: &mut [f32], dw: &mut [f32], dy: &[f32], x: &[f32], w: &[f32], eps: f32) {
        let d = w.len();
        for ((dx, dy), x) in dx.chunks_exact_mut(d).zip(dy.chunks_exact(d)).zip(x.chunks_exact(d)) {
            let r = inverse_rms(x, eps);
            for ((((dx, dy), x), w), dw) in dx.iter_mut().zip(dy).zip(x).zip(w).zip(&mut *dw) {
                *dw += dy * x * r;
                *dx = dy * (1.0 + w);
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
