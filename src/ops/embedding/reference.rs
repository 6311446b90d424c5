//! The CPU form.

use rayon::prelude::*;

use crate::ops::host::BLOCK_ROWS;

/// Rows of the table that one task adds to; every task looks at all ids, so there are few.
const TABLE_BLOCKS: usize = 8;

pub(super) fn forward(ids: &[u32], w: &[f32], h: usize) -> Vec<f32> {
    let mut y = vec![0f32; ids.len() * h];
    y.par_chunks_mut(BLOCK_ROWS * h)
        .zip(ids.par_chunks(BLOCK_ROWS))
        .for_each(|(y, ids)| {
            for (y, id) in y.chunks_exact_mut(h).zip(ids) {
                y.copy_from_slice(&w[*id as usize * h..][..h]);
            }
        });
    y
}

pub(super) fn backward(dy: &[f32], ids: &[u32], h: usize, dw: &mut [f32]) {
    let rows = (dw.len() / h).div_ceil(TABLE_BLOCKS);
    dw.par_chunks_mut(rows * h)
        .enumerate()
        .for_each(|(block, dw)| {
            let mine = block * rows..block * rows + dw.len() / h;
            for (id, dy) in ids.iter().zip(dy.chunks_exact(h)) {
                let id = *id as usize;
                if mine.contains(&id) {
                    for (dw, dy) in dw[(id - mine.start) * h..][..h].iter_mut().zip(dy) {
                        *dw += dy;
                    }
                }
            }
        });
}
