//! The CPU form: blocks in parallel.

use rayon::prelude::*;

use crate::ops::scalar::{sigmoid, silu};
use crate::ops::wide::wide;

const BLOCK: usize = 8 * 1024;

pub(super) fn forward(g: &[f32], u: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; g.len()];
    y.par_chunks_mut(BLOCK)
        .zip(g.par_chunks(BLOCK))
        .zip(u.par_chunks(BLOCK))
        .for_each(|((y, g), u)| forward_block(y, g, u));
    y
}

wide! {
    fn forward_block(y: &mut [f32], g: &[f32], u: &[f32]) {
        for ((y, g), u) in y.iter_mut().zip(g).zip(u) {
            *y = silu(*g) * u;
        }
    }
}

pub(super) fn backward(dy: &[f32], g: &[f32], u: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut dg, mut du) = (vec![0f32; g.len()], vec![0f32; g.len()]);
    let outputs = dg.par_chunks_mut(BLOCK).zip(du.par_chunks_mut(BLOCK));
    let inputs = dy
        .par_chunks(BLOCK)
        .zip(g.par_chunks(BLOCK))
        .zip(u.par_chunks(BLOCK));
    outputs
        .zip(inputs)
        .for_each(|((dg, du), ((dy, g), u))| backward_block(dg, du, dy, g, u));
    (dg, du)
}

wide! {
    fn backward_block(dg: &mut [f32], du: &mut [f32], dy: &[f32], g: &[f32], u: &[f32]) {
        for ((((dg, du), dy), g), u) in dg.iter_mut().zip(du).zip(dy).zip(g).zip(u) {
            let s = sigmoid(*g);
            *dg = dy * u * (s * g.mul_add(1.0 - s, 1.0));
            *du = dy * (g * s);
        }
    }
}
