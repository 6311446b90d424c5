//! The CPU form: blocks in parallel, lanes within a block.

use rayon::prelude::*;

const BLOCK: usize = 16 * 1024;
const LANES: usize = 16;

pub(super) fn sum_of_squares(x: &[f32]) -> f64 {
    let blocks: Vec<f64> = x
        .par_chunks(BLOCK)
        .map(|block| {
            let mut lanes = [0f64; LANES];
            for chunk in block.chunks(LANES) {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += f64::from(*x) * f64::from(*x);
                }
            }
            lanes.iter().sum()
        })
        .collect();
    blocks.iter().sum()
}

pub(super) fn non_finite(x: &[f32]) -> u64 {
    x.par_chunks(BLOCK)
        .map(|block| block.iter().map(|x| u64::from(!x.is_finite())).sum::<u64>())
        .sum()
}
