//! The CPU form: blocks of queries in parallel forwards, (sequence, head) pairs in parallel backwards, small matrix products within.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::CuSeqlens;
use crate::ops::host::BLOCK_ROWS;
use crate::ops::matrix::{Into, Matrix, product_here};
use crate::ops::scalar::{dot, exp, multiply};
use crate::ops::wide::wide;

/// Queries whose scores exist at once.
const BLOCK: usize = 64;
const LANES: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) scale: f32,
}

/// What the backward reads of the forward.
pub(super) struct Forward<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) o: &'a [f32],
    pub(super) lse: &'a [f32],
}

impl Geometry {
    /// The rows `tokens` of one head within `[N, heads, D]`.
    fn head<'a>(
        &self,
        values: &'a [f32],
        tokens: &Range<usize>,
        heads: usize,
        head: usize,
    ) -> Matrix<'a> {
        let stride = heads * self.head_dim;
        let first = tokens.start * stride + head * self.head_dim;
        Matrix::strided(&values[first..], tokens.len(), self.head_dim, stride)
    }

    fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }
}

/// A block of queries and the keys that its last query sees.
struct Block {
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Block {
    fn all(segment: Range<usize>) -> impl Iterator<Item = Self> {
        segment.clone().step_by(BLOCK).map(move |start| {
            let end = segment.end.min(start + BLOCK);
            Self {
                queries: start..end,
                keys: segment.start..end,
            }
        })
    }

    /// How many keys query `row` of the block sees.
    fn visible(&self, row: usize) -> usize {
        self.queries.start + row + 1 - self.keys.start
    }
}

pub(super) fn forward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    cu: &CuSeqlens,
    geometry: Geometry,
) -> (Vec<f32>, Vec<f32>) {
    let Geometry {
        heads, head_dim, ..
    } = geometry;
    let (mut o, mut lse) = (vec![0f32; q.len()], vec![0f32; cu.tokens() * heads]);
    let (mut o_rest, mut lse_rest) = (&mut o[..], &mut lse[..]);
    let mut tasks = Vec::new();
    for block in cu.segments().flat_map(Block::all) {
        let (o, o_after) = o_rest.split_at_mut(block.queries.len() * heads * head_dim);
        let (lse, lse_after) = lse_rest.split_at_mut(block.queries.len() * heads);
        (o_rest, lse_rest) = (o_after, lse_after);
        tasks.push((block, o, lse));
    }
    tasks.into_par_iter().for_each(|(block, o, lse)| {
        let keys = block.keys.len();
        let mut scores = vec![0f32; block.queries.len() * keys];
        for head in 0..heads {
            let q = geometry.head(q, &block.queries, heads, head);
            let k = geometry.head(k, &block.keys, geometry.kv_heads, geometry.kv_head(head));
            let v = geometry.head(v, &block.keys, geometry.kv_heads, geometry.kv_head(head));
            product_here(&mut scores, keys, Into::Overwrite, q, k.t());
            for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
                lse[row * heads + head] = softmax(scores, block.visible(row), geometry.scale);
            }
            product_here(
                &mut o[head * head_dim..],
                heads * head_dim,
                Into::Overwrite,
                Matrix::new(&scores, block.queries.len(), keys),
                v,
            );
        }
    });
    (o, lse)
}

wide! {
    /// Softmax over the first `visible` scores times `scale`, zeros behind; returns `ln sum exp`.
    fn softmax(scores: &mut [f32], visible: usize, scale: f32) -> f32 {
        let (scores, hidden) = scores.split_at_mut(visible);
        hidden.fill(0.0);
        let highest = highest(scores) * scale;
        let mut lanes = [0f32; LANES];
        let mut chunks = scores.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            for (lane, score) in lanes.iter_mut().zip(chunk) {
                *score = exp(score.mul_add(scale, -highest));
                *lane += *score;
            }
        }
        for (lane, score) in lanes.iter_mut().zip(chunks.into_remainder()) {
            *score = exp(score.mul_add(scale, -highest));
            *lane += *score;
        }
        let total: f32 = lanes.iter().sum();
        multiply(scores, 1.0 / total);
        highest + total.ln()
    }
}

wide! {
    /// From scores to `P` in `p`, from `do V^T` to `scale dS` in `ds`, zeros behind the `visible` first.
    fn backward_row(p: &mut [f32], ds: &mut [f32], visible: usize, scale: f32, lse: f32, delta: f32) {
        for (p, ds) in p[..visible].iter_mut().zip(&mut ds[..visible]) {
            *p = exp(p.mul_add(scale, -lse));
            *ds = *p * (*ds - delta) * scale;
        }
        p[visible..].fill(0.0);
        ds[visible..].fill(0.0);
    }
}

#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "part of a loop that is compiled for wider instructions"
)]
fn highest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |highest, value| highest.max(*value))
}

/// The gradients of one head of one sequence, each `[L, D]`.
struct HeadGradients {
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

pub(super) fn backward(
    d_o: &[f32],
    forward: &Forward<'_>,
    cu: &CuSeqlens,
    geometry: Geometry,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let Geometry {
        heads,
        kv_heads,
        head_dim,
        ..
    } = geometry;
    let pairs: Vec<(Range<usize>, usize)> = cu
        .segments()
        .flat_map(|segment| (0..heads).map(move |head| (segment.clone(), head)))
        .collect();
    let gradients: Vec<HeadGradients> = pairs
        .into_par_iter()
        .map(|(segment, head)| backward_head(d_o, forward, segment, head, geometry))
        .collect();

    let place: Vec<(usize, usize)> = cu
        .segments()
        .enumerate()
        .flat_map(|(sequence, segment)| {
            (0..segment.len()).map(move |index| (sequence * heads, index * head_dim))
        })
        .collect();
    let gather = |heads_out: usize, part: fn(&HeadGradients) -> &[f32]| {
        let shared = heads / heads_out;
        let mut out = vec![0f32; cu.tokens() * heads_out * head_dim];
        let rows = out
            .par_chunks_mut(BLOCK_ROWS * heads_out * head_dim)
            .zip(place.par_chunks(BLOCK_ROWS));
        rows.for_each(|(out, place)| {
            for (out, (task, offset)) in out.chunks_exact_mut(heads_out * head_dim).zip(place) {
                for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    for gradient in &gradients[task + head * shared..][..shared] {
                        for (out, value) in out.iter_mut().zip(&part(gradient)[*offset..]) {
                            *out += value;
                        }
                    }
                }
            }
        });
        out
    };
    (
        gather(heads, |g| &g.dq),
        gather(kv_heads, |g| &g.dk),
        gather(kv_heads, |g| &g.dv),
    )
}

fn backward_head(
    d_o: &[f32],
    forward: &Forward<'_>,
    segment: Range<usize>,
    head: usize,
    geometry: Geometry,
) -> HeadGradients {
    let Geometry {
        heads,
        kv_heads,
        head_dim,
        scale,
    } = geometry;
    let kv_head = geometry.kv_head(head);
    let size = segment.len() * head_dim;
    let mut gradients = HeadGradients {
        dq: vec![0f32; size],
        dk: vec![0f32; size],
        dv: vec![0f32; size],
    };
    let most = segment.len().min(BLOCK) * segment.len();
    let (mut p, mut ds) = (vec![0f32; most], vec![0f32; most]);
    let first = segment.start;
    for block in Block::all(segment) {
        let (queries, keys) = (block.queries.len(), block.keys.len());
        let (p, ds) = (&mut p[..queries * keys], &mut ds[..queries * keys]);
        let q = geometry.head(forward.q, &block.queries, heads, head);
        let d_o_block = geometry.head(d_o, &block.queries, heads, head);
        let k = geometry.head(forward.k, &block.keys, kv_heads, kv_head);
        let v = geometry.head(forward.v, &block.keys, kv_heads, kv_head);
        product_here(p, keys, Into::Overwrite, q, k.t());
        product_here(ds, keys, Into::Overwrite, d_o_block, v.t());
        for (row, (p, ds)) in p
            .chunks_exact_mut(keys)
            .zip(ds.chunks_exact_mut(keys))
            .enumerate()
        {
            let token = block.queries.start + row;
            let lse = forward.lse[token * heads + head];
            let at = (token * heads + head) * head_dim;
            let delta = dot(&d_o[at..at + head_dim], &forward.o[at..at + head_dim]);
            let visible = block.visible(row);
            backward_row(p, ds, visible, scale, lse, delta);
        }
        let (p, ds) = (
            Matrix::new(p, queries, keys),
            Matrix::new(ds, queries, keys),
        );
        let dq = &mut gradients.dq[(block.queries.start - first) * head_dim..];
        product_here(dq, head_dim, Into::Overwrite, ds, k);
        product_here(&mut gradients.dk, head_dim, Into::Accumulate, ds.t(), q);
        product_here(
            &mut gradients.dv,
            head_dim,
            Into::Accumulate,
            p.t(),
            d_o_block,
        );
    }
    gradients
}
