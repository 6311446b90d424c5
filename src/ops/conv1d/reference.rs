//! The CPU form: tokens in parallel, channels in lanes.

use rayon::prelude::*;

use crate::ops::CuSeqlens;
use crate::ops::host::{BLOCK_ROWS, add_partials};
use crate::ops::scalar::{silu, silu_derivative};
use crate::ops::wide::wide;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Activation {
    Silu,
    None,
}

pub(super) fn forward(
    x: &[f32],
    w: &[f32],
    taps: usize,
    cu: &CuSeqlens,
    activation: Activation,
) -> Vec<f32> {
    let channels = w.len() / taps;
    let (w, places) = (by_tap(w, taps), places(cu));
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(BLOCK_ROWS * channels)
        .enumerate()
        .for_each(|(block, y)| {
            for (row, y) in y.chunks_exact_mut(channels).enumerate() {
                let token = block * BLOCK_ROWS + row;
                convolve(y, x, &w, token, places[token].from_start);
                if activation == Activation::Silu {
                    silu_row(y);
                }
            }
        });
    y
}

pub(super) fn backward(
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    taps: usize,
    cu: &CuSeqlens,
    activation: Activation,
    dw: &mut [f32],
) -> Vec<f32> {
    let channels = w.len() / taps;
    let (w, places) = (by_tap(w, taps), places(cu));
    let block = BLOCK_ROWS * channels;

    // dc = dy silu'(c), and with it the gradient of the taps
    let mut dc = vec![0f32; x.len()];
    let partials: Vec<Vec<f32>> = dc
        .par_chunks_mut(block)
        .zip(dy.par_chunks(block))
        .enumerate()
        .map(|(index, (dc, dy))| {
            let mut dw = vec![0f32; w.len()]; // [W, C]
            for (row, (dc, dy)) in dc
                .chunks_exact_mut(channels)
                .zip(dy.chunks_exact(channels))
                .enumerate()
            {
                let token = index * BLOCK_ROWS + row;
                let from_start = places[token].from_start;
                if activation == Activation::Silu {
                    convolve(dc, x, &w, token, from_start);
                    derive_row(dc, dy);
                } else {
                    dc.copy_from_slice(dy);
                }
                for back in 0..taps.min(from_start + 1) {
                    let dw = &mut dw[(taps - 1 - back) * channels..][..channels];
                    add_products(dw, dc, &x[(token - back) * channels..]);
                }
            }
            dw
        })
        .collect();
    let mut sum = vec![0f32; w.len()];
    add_partials(&mut sum, &partials);
    for (tap, sum) in sum.chunks_exact(channels).enumerate() {
        for (channel, sum) in sum.iter().enumerate() {
            dw[channel * taps + tap] += sum;
        }
    }

    let mut dx = vec![0f32; x.len()];
    dx.par_chunks_mut(block)
        .enumerate()
        .for_each(|(index, dx)| {
            for (row, dx) in dx.chunks_exact_mut(channels).enumerate() {
                let token = index * BLOCK_ROWS + row;
                for ahead in 0..taps.min(places[token].to_end) {
                    let w = &w[(taps - 1 - ahead) * channels..];
                    add_products(dx, &dc[(token + ahead) * channels..], w);
                }
            }
        });
    dx
}

wide! {
    fn silu_row(y: &mut [f32]) {
        for y in y {
            *y = silu(*y);
        }
    }
}

wide! {
    /// `dy silu'(c)` in the place of `c`.
    fn derive_row(c: &mut [f32], dy: &[f32]) {
        for (c, dy) in c.iter_mut().zip(dy) {
            *c = dy * silu_derivative(*c);
        }
    }
}

wide! {
    /// `y += a b`.
    fn add_products(y: &mut [f32], a: &[f32], b: &[f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a.mul_add(*b, *y);
        }
    }
}

/// `c[token]`, overwriting `y`.
fn convolve(y: &mut [f32], x: &[f32], w: &[f32], token: usize, from_start: usize) {
    let channels = y.len();
    let taps = w.len() / channels;
    let now = &x[token * channels..][..channels];
    for ((y, x), w) in y.iter_mut().zip(now).zip(&w[(taps - 1) * channels..]) {
        *y = w * x;
    }
    for back in 1..taps.min(from_start + 1) {
        let w = &w[(taps - 1 - back) * channels..];
        add_products(y, &x[(token - back) * channels..], w);
    }
}

/// `[C, W]` as `[W, C]`.
fn by_tap(w: &[f32], taps: usize) -> Vec<f32> {
    (0..taps)
        .flat_map(|tap| w.iter().skip(tap).step_by(taps).copied())
        .collect()
}

/// Where a token stands in its sequence.
#[derive(Clone, Copy)]
struct Place {
    /// Tokens before it.
    from_start: usize,
    /// Tokens from it to the end, itself included.
    to_end: usize,
}

fn places(cu: &CuSeqlens) -> Vec<Place> {
    let place = |index, len| Place {
        from_start: index,
        to_end: len - index,
    };
    cu.segments()
        .flat_map(|segment| (0..segment.len()).map(move |index| place(index, segment.len())))
        .collect()
}
