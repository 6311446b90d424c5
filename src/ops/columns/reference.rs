//! The CPU form: rows in parallel.

use rayon::prelude::*;

/// Rows that one task copies.
const BLOCK: usize = 64;

pub(super) fn split(x: &[f32], rows: usize, widths: &[usize]) -> Vec<Vec<f32>> {
    let width: usize = widths.iter().sum();
    let mut begin = 0;
    let mut part = |part_width: usize| {
        let first = begin;
        begin += part_width;
        let mut part = vec![0f32; rows * part_width];
        if part_width > 0 {
            part.par_chunks_mut(BLOCK * part_width)
                .zip(x.par_chunks(BLOCK * width))
                .for_each(|(part, x)| {
                    for (part, x) in part.chunks_exact_mut(part_width).zip(x.chunks_exact(width)) {
                        part.copy_from_slice(&x[first..first + part_width]);
                    }
                });
        }
        part
    };
    widths.iter().map(|width| part(*width)).collect()
}

pub(super) fn join(parts: &[&[f32]], rows: usize, widths: &[usize]) -> Vec<f32> {
    let width: usize = widths.iter().sum();
    let mut joined = vec![0f32; rows * width];
    if width > 0 {
        joined
            .par_chunks_mut(BLOCK * width)
            .enumerate()
            .for_each(|(block, joined)| {
                for (row, mut joined) in joined.chunks_exact_mut(width).enumerate() {
                    let row = block * BLOCK + row;
                    for (part, width) in parts.iter().zip(widths) {
                        let (head, tail) = joined.split_at_mut(*width);
                        head.copy_from_slice(&part[row * width..][..*width]);
                        joined = tail;
                    }
                }
            });
    }
    joined
}
