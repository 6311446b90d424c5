//! The CPU form: tokens in parallel.

use rayon::prelude::*;

use super::Table;
use crate::ops::host::BLOCK_ROWS;

pub(super) fn rotate(x: &[f32], table: &Table, sign: f32, h: usize, d: usize) -> Vec<f32> {
    let half = table.rotary_dim() / 2;
    let angles = table.angles();
    let mut y = vec![0f32; x.len()];
    let block = BLOCK_ROWS * h * d;
    y.par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .enumerate()
        .for_each(|(index, (y, x))| {
            for (row, (y, x)) in y
                .chunks_exact_mut(h * d)
                .zip(x.chunks_exact(h * d))
                .enumerate()
            {
                let token = index * BLOCK_ROWS + row;
                let (cos, sin) = (
                    &angles.cos[token * half..][..half],
                    &angles.sin[token * half..][..half],
                );
                for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    rotate_head(y, x, cos, sin, sign);
                }
            }
        });
    y
}

fn rotate_head(y: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], sign: f32) {
    let half = cos.len();
    let (x_low, x_rest) = x.split_at(half);
    let (y_low, y_rest) = y.split_at_mut(half);
    let (x_high, x_pass) = x_rest.split_at(half);
    let (y_high, y_pass) = y_rest.split_at_mut(half);
    for j in 0..half {
        let sine = sign * sin[j];
        y_low[j] = x_low[j] * cos[j] - x_high[j] * sine;
        y_high[j] = x_high[j] * cos[j] + x_low[j] * sine;
    }
    y_pass.copy_from_slice(x_pass);
}
