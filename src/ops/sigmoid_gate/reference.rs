//! The CPU form: blocks in parallel.

use rayon::prelude::*;

use crate::ops::scalar::sigmoid;
use crate::ops::wide::wide;

const BLOCK: usize = 8 * 1024;

pub(super) fn forward(o: &[f32], gate: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; o.len()];
    y.par_chunks_mut(BLOCK)
        .zip(o.par_chunks(BLOCK))
        .zip(gate.par_chunks(BLOCK))
        .for_each(|((y, o), gate)| forward_block(y, o, gate));
    y
}

wide! {
    fn forward_block(y: &mut [f32], o: &[f32], gate: &[f32]) {
        for ((y, o), gate) in y.iter_mut().zip(o).zip(gate) {
            *y = o * sigmoid(*gate);
        }
    }
}

pub(super) fn backward(dy: &[f32], o: &[f32], gate: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut d_o, mut d_gate) = (vec![0f32; o.len()], vec![0f32; o.len()]);
    let outputs = d_o.par_chunks_mut(BLOCK).zip(d_gate.par_chunks_mut(BLOCK));
    let inputs = dy
        .par_chunks(BLOCK)
        .zip(o.par_chunks(BLOCK))
        .zip(gate.par_chunks(BLOCK));
    outputs
        .zip(inputs)
        .for_each(|((d_o, d_gate), ((dy, o), gate))| backward_block(d_o, d_gate, dy, o, gate));
    (d_o, d_gate)
}

wide! {
    fn backward_block(d_o: &mut [f32], d_gate: &mut [f32], dy: &[f32], o: &[f32], gate: &[f32]) {
        for ((((d_o, d_gate), dy), o), gate) in d_o.iter_mut().zip(d_gate).zip(dy).zip(o).zip(gate) {
            let s = sigmoid(*gate);
            *d_o = dy * s;
            *d_gate = dy * o * (s * (1.0 - s));
        }
    }
}
