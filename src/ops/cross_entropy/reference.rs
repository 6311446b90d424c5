//! The CPU form: chunk by chunk two to four matrix products on all threads, the rows between them in parallel.

use rayon::prelude::*;

use crate::ops::matrix::{Into, Matrix, product};
use crate::ops::scalar::{exp, multiply};
use crate::ops::wide::wide;

/// Rows of logits that one task handles.
const BLOCK: usize = 8;
const LANES: usize = 64;
/// Logits among which the highest is looked for at once.
const PIECE: usize = 512;

pub(super) struct Head<'a> {
    pub(super) x: &'a [f32],
    pub(super) w: &'a [f32],
    pub(super) hidden: usize,
    pub(super) labels: &'a [u32],
    pub(super) weights: &'a [f32],
    pub(super) chunk: usize,
}

impl Head<'_> {
    fn vocabulary(&self) -> usize {
        self.w.len() / self.hidden
    }

    /// `[rows, h]` of the tokens from `first` on.
    fn x(&self, first: usize, rows: usize) -> Matrix<'_> {
        Matrix::new(&self.x[first * self.hidden..], rows, self.hidden)
    }

    fn w(&self) -> Matrix<'_> {
        Matrix::new(self.w, self.vocabulary(), self.hidden)
    }
}

/// What the loss says about a batch.
pub(super) struct Losses {
    pub(super) loss_sum: f64,
    pub(super) correct: f64,
    pub(super) ce: Vec<f32>,
    pub(super) lse: Vec<f32>,
    pub(super) argmax: Vec<u32>,
}

/// What one row of logits says.
struct Row {
    ce: f32,
    lse: f32,
    argmax: u32,
}

pub(super) fn forward(head: &Head<'_>) -> Losses {
    run(head, |_, _, _| {}, None)
}

pub(super) fn forward_backward(head: &Head<'_>, scale: f32, dw: &mut [f32]) -> (Losses, Vec<f32>) {
    let hidden = head.hidden;
    let mut dx = vec![0f32; head.x.len()];
    let output = run(
        head,
        |first, rows, dlogits| {
            let dlogits = Matrix::new(dlogits, rows, head.vocabulary());
            product(
                &mut dx[first * hidden..],
                Into::Overwrite,
                dlogits,
                head.w(),
            );
            product(dw, Into::Accumulate, dlogits.t(), head.x(first, rows));
        },
        Some(scale),
    );
    (output, dx)
}

/// Goes through the chunks; with a `scale`, `then` gets the first token, the rows and the gradient of the logits of each.
fn run(head: &Head<'_>, mut then: impl FnMut(usize, usize, &[f32]), scale: Option<f32>) -> Losses {
    let (n, vocabulary) = (head.labels.len(), head.vocabulary());
    let mut logits = vec![0f32; head.chunk.min(n) * vocabulary];
    let mut output = Losses {
        loss_sum: 0.0,
        ce: Vec::with_capacity(n),
        lse: Vec::with_capacity(n),
        argmax: Vec::with_capacity(n),
        correct: 0.0,
    };
    for first in (0..n).step_by(head.chunk) {
        let rows = head.chunk.min(n - first);
        let logits = &mut logits[..rows * vocabulary];
        product(logits, Into::Overwrite, head.x(first, rows), head.w().t());
        let labels = head.labels[first..first + rows].par_chunks(BLOCK);
        let weights = head.weights[first..first + rows].par_chunks(BLOCK);
        let found: Vec<Vec<Row>> = logits
            .par_chunks_mut(BLOCK * vocabulary)
            .zip(labels.zip(weights))
            .map(|(logits, (labels, weights))| {
                let rows = logits
                    .chunks_exact_mut(vocabulary)
                    .zip(labels.iter().zip(weights));
                rows.map(|(logits, (label, weight))| row(logits, *label, *weight, scale))
                    .collect()
            })
            .collect();
        for (found, index) in found.into_iter().flatten().zip(first..) {
            let weight = head.weights[index];
            output.loss_sum += f64::from(weight) * f64::from(found.ce);
            let correct = weight != 0.0 && found.argmax == head.labels[index];
            output.correct += f64::from(u8::from(correct));
            output.ce.push(found.ce);
            output.lse.push(found.lse);
            output.argmax.push(found.argmax);
        }
        if scale.is_some() {
            then(first, rows, logits);
        }
    }
    output
}

wide! {
    /// Cross entropy of one row; with a `scale`, its gradient takes the place of the logits.
    fn row(logits: &mut [f32], label: u32, weight: f32, scale: Option<f32>) -> Row {
        let (highest, argmax) = highest(logits);
        let target = if weight == 0.0 { 0.0 } else { logits[label as usize] };
        let mut lanes = [0f32; LANES];
        let mut chunks = logits.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            for (lane, logit) in lanes.iter_mut().zip(chunk) {
                *logit = exp(*logit - highest);
                *lane += *logit;
            }
        }
        for (lane, logit) in lanes.iter_mut().zip(chunks.into_remainder()) {
            *logit = exp(*logit - highest);
            *lane += *logit;
        }
        let total: f32 = lanes.iter().sum();
        let log_total = total.ln();
        let ce = if weight == 0.0 { 0.0 } else { log_total + (highest - target) };
        if let Some(scale) = scale {
            let factor = scale * weight;
            if factor == 0.0 {
                logits.fill(0.0);
            } else {
                multiply(logits, factor / total);
                logits[label as usize] -= factor;
            }
        }
        Row { ce, lse: highest + log_total, argmax }
    }
}

/// The highest value and the first place where it stands; NaN is passed over.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "part of a loop that is compiled for wider instructions"
)]
fn highest(values: &[f32]) -> (f32, u32) {
    let (mut highest, mut piece) = (f32::NEG_INFINITY, 0);
    for (index, values) in values.chunks(PIECE).enumerate() {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = if *value > *lane { *value } else { *lane };
            }
        }
        let here = lanes
            .iter()
            .chain(rest)
            .fold(f32::NEG_INFINITY, |highest, lane| highest.max(*lane));
        if here > highest {
            (highest, piece) = (here, index);
        }
    }
    let first = piece * PIECE;
    let within = values
        .iter()
        .skip(first)
        .position(|value| *value == highest);
    (highest, (first + within.unwrap_or(0)) as u32)
}
