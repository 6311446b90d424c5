//! What forward and backward of a chunk share: keys and queries, decays, the triangular systems.
//!
//! `c` is the number of tokens in the chunk, at most 64. Queries lie above keys in one `[2 c, dk]` matrix, so that products with the
//! state or with the keys are one product each.

use std::ops::Range;

use crate::ops::CuSeqlens;
use crate::ops::gated_delta::CHUNK;
use crate::ops::matrix::{Into, Matrix, product_here};
use crate::ops::scalar::{dot, exp};
use crate::ops::wide::wide;

#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) key_heads: usize,
    pub(super) value_heads: usize,
    pub(super) dk: usize,
    pub(super) dv: usize,
}

impl Geometry {
    /// Value heads that read one key head.
    pub(super) fn shared(&self) -> usize {
        self.value_heads / self.key_heads
    }
}

pub(super) struct Inputs<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) g: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) geometry: Geometry,
}

impl Inputs<'_> {
    /// The values of one value head, `[c, dv]`.
    pub(super) fn value_rows<'a>(
        &self,
        values: &'a [f32],
        tokens: &Range<usize>,
        head: usize,
    ) -> impl Iterator<Item = &'a [f32]> {
        let Geometry {
            value_heads, dv, ..
        } = self.geometry;
        let stride = value_heads * dv;
        values[tokens.start * stride..tokens.end * stride]
            .chunks_exact(stride)
            .map(move |row| &row[head * dv..(head + 1) * dv])
    }
}

/// One key head of one sequence: what one thread works through.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) sequence: usize,
    pub(super) segment: Range<usize>,
    pub(super) key_head: usize,
}

impl Task {
    pub(super) fn all(cu: &CuSeqlens, key_heads: usize) -> Vec<Self> {
        let of = |(sequence, segment): (usize, Range<usize>)| {
            (0..key_heads).map(move |key_head| Self {
                sequence,
                segment: segment.clone(),
                key_head,
            })
        };
        cu.segments().enumerate().flat_map(of).collect()
    }

    pub(super) fn chunks(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let Range { start, end } = self.segment;
        (0..(end - start).div_ceil(CHUNK))
            .map(move |index| start + index * CHUNK..end.min(start + (index + 1) * CHUNK))
    }
}

/// `(x . x + 1e-6)^-1/2`.
pub(super) fn inverse_length(x: &[f32]) -> f32 {
    1.0 / (dot(x, x) + 1e-6).sqrt()
}

/// Queries and keys of a chunk, and their products with the keys.
pub(super) struct Keys {
    /// `[2 c, dk]`: unit queries times `dk^-1/2`, then unit keys.
    pub(super) qk: Vec<f32>,
    /// `[2 c]`: the factors that made them.
    pub(super) factors: Vec<f32>,
    /// `[2 c, c]`: `Q K^T`, then `K K^T`.
    pub(super) products: Vec<f32>,
}

impl Keys {
    pub(super) fn new(dk: usize) -> Self {
        Self {
            qk: vec![0f32; 2 * CHUNK * dk],
            factors: vec![0f32; 2 * CHUNK],
            products: vec![0f32; 2 * CHUNK * CHUNK],
        }
    }

    pub(super) fn load(&mut self, inputs: &Inputs<'_>, tokens: &Range<usize>, key_head: usize) {
        let Geometry { key_heads, dk, .. } = inputs.geometry;
        let c = tokens.len();
        let query_scale = 1.0 / (dk as f32).sqrt();
        for (half, (source, scale)) in [(inputs.q, query_scale), (inputs.k, 1.0)]
            .into_iter()
            .enumerate()
        {
            for (row, token) in tokens.clone().enumerate() {
                let source = &source[(token * key_heads + key_head) * dk..][..dk];
                let factor = inverse_length(source);
                self.factors[half * c + row] = factor;
                let factor = factor * scale;
                for (to, from) in self.qk[(half * c + row) * dk..][..dk]
                    .iter_mut()
                    .zip(source)
                {
                    *to = from * factor;
                }
            }
        }
        let both = Matrix::new(&self.qk, 2 * c, dk);
        let keys = Matrix::new(&self.qk[c * dk..], c, dk);
        product_here(&mut self.products, c, Into::Overwrite, both, keys.t());
    }
}

/// Decays of a chunk for one value head.
pub(super) struct Decays {
    /// `exp(G_i)`.
    pub(super) from_start: [f32; CHUNK],
    /// `exp(G_last - G_i)`.
    pub(super) to_end: [f32; CHUNK],
    /// `beta_i`.
    pub(super) beta: [f32; CHUNK],
    /// `D [c, c]`, lower triangle with diagonal; above it whatever was there.
    pub(super) between: Vec<f32>,
}

impl Decays {
    pub(super) fn new() -> Self {
        Self {
            from_start: [0.0; CHUNK],
            to_end: [0.0; CHUNK],
            beta: [0.0; CHUNK],
            between: vec![0f32; CHUNK * CHUNK],
        }
    }

    pub(super) fn load(&mut self, inputs: &Inputs<'_>, tokens: &Range<usize>, head: usize) {
        let heads = inputs.geometry.value_heads;
        let c = tokens.len();
        let mut running = [0f32; CHUNK];
        let mut sum = 0.0;
        for (row, token) in tokens.clone().enumerate() {
            sum += inputs.g[token * heads + head];
            running[row] = sum;
            self.beta[row] = inputs.beta[token * heads + head];
        }
        for row in 0..c {
            self.from_start[row] = exp(running[row]);
            self.to_end[row] = exp(sum - running[row]);
            exp_differences(
                &mut self.between[row * c..=row * c + row],
                running[row],
                &running,
            );
        }
    }

    /// `a = beta (K K^T) o D` below the diagonal, `p = (Q K^T) o D` with it, zeros elsewhere.
    pub(super) fn weigh(&self, keys: &Keys, c: usize, a: &mut [f32], p: &mut [f32]) {
        for row in 0..c {
            let at = row * c;
            let between = &self.between[at..at + c];
            let (queries, key_products) = (&keys.products[at..], &keys.products[c * c + at..]);
            weigh_row(&mut p[at..at + c], 1.0, &queries[..=row], between);
            weigh_row(
                &mut a[at..at + c],
                self.beta[row],
                &key_products[..row],
                between,
            );
        }
    }
}

/// Solves `(I + A) x = b` in place, `A [c, c]` strictly lower, `x [c, width]`.
pub(super) fn solve_lower(a: &[f32], x: &mut [f32], c: usize, width: usize) {
    for row in 1..c {
        let (done, rest) = x.split_at_mut(row * width);
        subtract_rows(&mut rest[..width], done, &a[row * c..], 1);
    }
}

/// Solves `(I + A)^T x = b` in place.
pub(super) fn solve_lower_transposed(a: &[f32], x: &mut [f32], c: usize, width: usize) {
    for row in (0..c.saturating_sub(1)).rev() {
        let (rest, done) = x[..c * width].split_at_mut((row + 1) * width);
        subtract_rows(&mut rest[row * width..], done, &a[(row + 1) * c + row..], c);
    }
}

wide! {
    /// `y -= sum_i factors[i stride] rows_i`: 32 columns at a time, whose sums stay in registers.
    fn subtract_rows(y: &mut [f32], rows: &[f32], factors: &[f32], stride: usize) {
        const COLUMNS: usize = 32;
        let width = y.len();
        let mut pieces = y.chunks_exact_mut(COLUMNS);
        let mut first = 0;
        for y in &mut pieces {
            let mut sums = [[0f32; COLUMNS]; 2];
            let mut pairs = rows.chunks_exact(2 * width);
            let mut at = 0;
            for pair in &mut pairs {
                let (even, odd) = (&pair[first..first + COLUMNS], &pair[width + first..][..COLUMNS]);
                let (f, g) = (factors[at], factors[at + stride]);
                for column in 0..COLUMNS {
                    sums[0][column] = f.mul_add(even[column], sums[0][column]);
                    sums[1][column] = g.mul_add(odd[column], sums[1][column]);
                }
                at += 2 * stride;
            }
            for row in pairs.remainder().chunks_exact(width) {
                for column in 0..COLUMNS {
                    sums[0][column] = factors[at].mul_add(row[first + column], sums[0][column]);
                }
            }
            for column in 0..COLUMNS {
                y[column] -= sums[0][column] + sums[1][column];
            }
            first += COLUMNS;
        }
        let rest = pieces.into_remainder();
        for (row, factor) in rows.chunks_exact(width).zip(factors.iter().step_by(stride)) {
            for (y, row) in rest.iter_mut().zip(&row[first..]) {
                *y = (-factor).mul_add(*row, *y);
            }
        }
    }
}

wide! {
    /// `exp(x - y_i)`.
    fn exp_differences(to: &mut [f32], x: f32, y: &[f32]) {
        for (to, y) in to.iter_mut().zip(y) {
            *to = exp(x - y);
        }
    }
}

wide! {
    /// `x_i y_i factor`, zeros behind the shorter of the two.
    fn weigh_row(to: &mut [f32], factor: f32, x: &[f32], y: &[f32]) {
        let (written, rest) = to.split_at_mut(x.len());
        for ((to, x), y) in written.iter_mut().zip(x).zip(y) {
            *to = factor * x * y;
        }
        rest.fill(0.0);
    }
}
