//! The blocked product for AVX-512: `b` in packed panels of 32 columns, `dst` in tiles of 8 rows and one panel.
//!
//! For a block of [`DEPTH`] of the inner dimension, all panels of `b` are packed once. Tasks are blocks of [`ROWS`] rows of `dst`: each
//! goes through the panels, which stay in the nearest cache while the tiles of the block pass by. Every element of `dst` is summed by
//! one task in the order of the inner dimension, so the number of threads does not show in the result.
//!
//! One core of an EPYC of family 26 (4 GHz, so 260 GFLOP/s at most) does 2048 x 256 x 256 at 265, where the `gemm` crate does 69;
//! `cargo bench --bench ops linear` measures it.

#![cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused, reason = "the product is for x86-64")
)]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::tile;
use super::{Into, Matrix};

/// Columns of a panel: two vectors.
pub(super) const PANEL: usize = 32;
/// Rows of a tile.
pub(super) const TILE: usize = 8;
/// Inner dimension that is packed at once: a panel takes 32 KiB.
const DEPTH: usize = 256;
/// Rows of one task.
const ROWS: usize = 64;

thread_local! {
    /// Packed panels, kept between calls: never zeroed, since whatever is read was written by the same call.
    static PANELS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    /// Packed rows of `a`.
    static PACKED_ROWS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn multiply(
    _: &mut [MaybeUninit<f32>],
    _: usize,
    _: Into,
    _: Matrix<'_>,
    _: Matrix<'_>,
    _: bool,
) -> bool {
    false
}

/// `dst (+)= a b`, or `false` when the processor lacks AVX-512.
#[cfg(target_arch = "x86_64")]
pub(super) fn multiply(
    dst: &mut [MaybeUninit<f32>],
    row_stride: usize,
    mode: Into,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallel: bool,
) -> bool {
    if !std::arch::is_x86_feature_detected!("avx512f") || a.columns == 0 {
        return false;
    }
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let count = n.div_ceil(PANEL);
    let mut panels = with_length(PANELS.take(), count * DEPTH.min(k) * PANEL);
    for first in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - first);
        let mode = if first == 0 { mode } else { Into::Accumulate };
        let panels = &mut panels[..count * depth * PANEL];
        let pack =
            |(index, panel): (usize, &mut [f32])| tile::pack(panel, b, first, depth, index * PANEL);
        if parallel && count > 1 {
            panels
                .par_chunks_mut(depth * PANEL)
                .enumerate()
                .for_each(pack);
        } else {
            panels.chunks_mut(depth * PANEL).enumerate().for_each(pack);
        }
        let panels = &*panels;
        let work = |(index, dst): (usize, &mut [MaybeUninit<f32>])| {
            let rows = index * ROWS..m.min((index + 1) * ROWS);
            block(
                dst,
                row_stride,
                mode,
                a,
                rows,
                first..first + depth,
                panels,
                n,
            );
        };
        let dst = &mut dst[..(m - 1) * row_stride + n];
        if parallel && m > ROWS {
            dst.par_chunks_mut(ROWS * row_stride)
                .enumerate()
                .for_each(work);
        } else {
            dst.chunks_mut(ROWS * row_stride).enumerate().for_each(work);
        }
    }
    PANELS.set(panels);
    true
}

/// The product of some rows of `a`, a range of the inner dimension, and all panels; `dst` begins with the first of the rows.
#[cfg(target_arch = "x86_64")]
fn block(
    dst: &mut [MaybeUninit<f32>],
    row_stride: usize,
    mode: Into,
    a: Matrix<'_>,
    rows: Range<usize>,
    inner: Range<usize>,
    panels: &[f32],
    columns: usize,
) {
    let depth = inner.len();
    // columns of `a` far apart share cache sets: bring the tile's values together
    let scattered = a.column_stride > 1 && depth > 8;
    let mut packed = Vec::new();
    if scattered {
        packed = with_length(PACKED_ROWS.take(), ROWS * DEPTH);
        for (index, to) in packed
            .chunks_exact_mut(TILE * depth)
            .take(rows.len().div_ceil(TILE))
            .enumerate()
        {
            let row = rows.start + index * TILE;
            let width = TILE.min(rows.end - row);
            for (to, inner) in to.chunks_exact_mut(TILE).zip(inner.clone()) {
                let from = &a.values[row * a.row_stride + inner * a.column_stride..];
                if width == TILE && a.row_stride == 1 {
                    to.copy_from_slice(&from[..TILE]);
                } else {
                    (0..width).for_each(|i| to[i] = from[i * a.row_stride]);
                }
            }
        }
    }
    for (index, panel) in panels.chunks_exact(depth * PANEL).enumerate() {
        let column = index * PANEL;
        let width = PANEL.min(columns - column);
        for start in (0..rows.len()).step_by(TILE) {
            let height = TILE.min(rows.len() - start);
            let a = if scattered {
                Matrix {
                    values: &packed[start * depth..][..TILE * depth],
                    rows: height,
                    columns: depth,
                    row_stride: 1,
                    column_stride: TILE,
                }
            } else {
                let from = &a.values
                    [(rows.start + start) * a.row_stride + inner.start * a.column_stride..];
                Matrix {
                    values: from,
                    rows: height,
                    columns: depth,
                    ..a
                }
            };
            tile::multiply(
                &mut dst[start * row_stride + column..],
                row_stride,
                width,
                mode,
                a,
                panel,
            );
        }
    }
    if scattered {
        PACKED_ROWS.set(packed);
    }
}

fn with_length(mut values: Vec<f32>, length: usize) -> Vec<f32> {
    if values.len() < length {
        values.resize(length, 0.0);
    }
    values
}
