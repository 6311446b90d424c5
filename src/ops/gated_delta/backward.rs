//! The chunked backward, from the last chunk to the first.
//!
//! With `dS` the gradient of the state after the chunk and `f = exp(G_last - G)`:
//!
//! ```text
//! dN = P^T dO + f K dS              (I + A)^T dR = dN           dV = beta dR
//! E = (dO N^T) o D                  M = -(dR N^T) o D, strictly lower
//! dQ = exp(G) dO S^T + E K          Y = M K - exp(G) dR S^T
//! dK = beta Y + E^T Q + (beta M)^T K + f N dS^T
//! dS <- exp(G_last) dS + Q^T (exp(G) dO) - K^T (beta exp(G) dR)
//! dbeta_i = dR_i . V_i + K_i . Y_i
//! ```
//!
//! `g_t` decays whatever passes token `t`: what tokens from `t` on read of earlier ones, what they read of the state before the
//! chunk, what earlier tokens leave for the state after it, and what that state keeps of the one before:
//!
//! ```text
//! dg_t = sum_{j < t <= i} W_ij + sum_{i >= t} u_i + sum_{j < t} w_j + exp(G_last) <S, dS>
//! W = E o Q K^T + beta M o K K^T     u_i = Q_i . exp(G_i) (dO S^T)_i - beta_i K_i . exp(G_i) (dR S^T)_i     w_j = K_j . f_j (N dS^T)_j
//! ```
//!
//! (`Q . dQ - K . dK` summed from the end is the same number, as a difference of large sums that loses digits where memory is short.)

use rayon::prelude::*;

use super::CHUNK;
use super::chunk::{Decays, Geometry, Inputs, Keys, Task, solve_lower_transposed};
use super::forward::{TaskSaved, gather};
use crate::ops::CuSeqlens;
use crate::ops::matrix::{Into, Matrix, product_here};
use crate::ops::scalar::{dot, multiply};
use crate::ops::wide::wide;

pub(super) struct Gradients {
    pub(super) dq: Vec<f32>,
    pub(super) dk: Vec<f32>,
    pub(super) dv: Vec<f32>,
    pub(super) dg: Vec<f32>,
    pub(super) dbeta: Vec<f32>,
    pub(super) dstate: Vec<f32>,
}

/// The gradients of one task: `dq`, `dk` `[L, dk]`, `dv [L, S, dv]`, `dg`, `dbeta` `[L, S]`, `dstate [S, dk, dv]`.
struct TaskGradients {
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    dg: Vec<f32>,
    dbeta: Vec<f32>,
    dstate: Vec<f32>,
}

pub(super) fn backward(
    inputs: &Inputs<'_>,
    cu: &CuSeqlens,
    saved: &[TaskSaved],
    d_o: &[f32],
    d_state: Option<&[f32]>,
) -> Gradients {
    let geometry = inputs.geometry;
    let shared = geometry.shared();
    let parts: Vec<TaskGradients> = Task::all(cu, geometry.key_heads)
        .into_par_iter()
        .zip(saved)
        .map(|(task, saved)| backward_task(inputs, &task, saved, d_o, d_state))
        .collect();
    let (mut dq, mut dk, mut dv) = (Vec::new(), Vec::new(), Vec::new());
    let (mut dg, mut dbeta, mut dstate) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        dq.push(part.dq);
        dk.push(part.dk);
        dv.push(part.dv);
        dg.push(part.dg);
        dbeta.push(part.dbeta);
        dstate.extend(part.dstate);
    }
    Gradients {
        dq: gather(cu, geometry, geometry.dk, &dq),
        dk: gather(cu, geometry, geometry.dk, &dk),
        dv: gather(cu, geometry, shared * geometry.dv, &dv),
        dg: gather(cu, geometry, shared, &dg),
        dbeta: gather(cu, geometry, shared, &dbeta),
        dstate,
    }
}

/// Buffers of one chunk; pairs of matrices lie one above the other.
struct Scratch {
    a: Vec<f32>,       // [c, c]
    p: Vec<f32>,       // [c, c]
    d_o_d_r: Vec<f32>, // [2 c, dv]: dO, then dR; later times their decays
    e_m: Vec<f32>,     // [2 c, c]: E, then M
    dq_y: Vec<f32>,    // [2 c, dk]: dQ, then Y
    dk_rest: Vec<f32>, // [c, dk]
    dq_sum: Vec<f32>,  // [c, dk]: over value heads
    dk_sum: Vec<f32>,  // [c, dk]
}

fn backward_task(
    inputs: &Inputs<'_>,
    task: &Task,
    saved: &TaskSaved,
    d_o: &[f32],
    d_state: Option<&[f32]>,
) -> TaskGradients {
    let Geometry {
        value_heads,
        dk,
        dv,
        ..
    } = inputs.geometry;
    let shared = inputs.geometry.shared();
    let (state_size, tokens) = (dk * dv, task.segment.len());
    let first = (task.sequence * value_heads + task.key_head * shared) * state_size;
    let mut gradients = TaskGradients {
        dq: vec![0f32; tokens * dk],
        dk: vec![0f32; tokens * dk],
        dv: vec![0f32; tokens * shared * dv],
        dg: vec![0f32; tokens * shared],
        dbeta: vec![0f32; tokens * shared],
        dstate: d_state.map_or_else(
            || vec![0f32; shared * state_size],
            |d| d[first..][..shared * state_size].to_vec(),
        ),
    };
    let mut scratch = Scratch {
        a: vec![0f32; CHUNK * CHUNK],
        p: vec![0f32; CHUNK * CHUNK],
        d_o_d_r: vec![0f32; 2 * CHUNK * dv],
        e_m: vec![0f32; 2 * CHUNK * CHUNK],
        dq_y: vec![0f32; 2 * CHUNK * dk],
        dk_rest: vec![0f32; CHUNK * dk],
        dq_sum: vec![0f32; CHUNK * dk],
        dk_sum: vec![0f32; CHUNK * dk],
    };
    let (mut keys, mut decays) = (Keys::new(dk), Decays::new());
    for (index, chunk) in task
        .chunks()
        .enumerate()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let c = chunk.len();
        let done = chunk.start - task.segment.start;
        keys.load(inputs, &chunk, task.key_head);
        scratch.dq_sum.fill(0.0);
        scratch.dk_sum.fill(0.0);
        for member in 0..shared {
            let head = task.key_head * shared + member;
            decays.load(inputs, &chunk, head);
            let state =
                |at: usize| &saved.states[(at * shared + member) * state_size..][..state_size];
            let view = ChunkView {
                c,
                dk,
                dv,
                keys: &keys,
                decays: &decays,
                state: state(index),
                corrected: &saved.corrected[(done * shared + member * c) * dv..][..c * dv],
            };
            for (to, from) in scratch
                .d_o_d_r
                .chunks_exact_mut(dv)
                .zip(inputs.value_rows(d_o, &chunk, head))
            {
                to.copy_from_slice(from);
            }
            let d_state = &mut gradients.dstate[member * state_size..][..state_size];
            view.solve(&mut scratch, d_state);
            for (row, v) in inputs.value_rows(inputs.v, &chunk, head).enumerate() {
                let d_r = &scratch.d_o_d_r[(c + row) * dv..][..dv];
                let at = (done + row) * shared + member;
                gradients.dbeta[at] = dot(d_r, v);
                for (to, d_r) in gradients.dv[at * dv..][..dv].iter_mut().zip(d_r) {
                    *to = decays.beta[row] * d_r;
                }
            }
            let d_decay = view.finish(&mut scratch, d_state, |row, d_beta| {
                gradients.dbeta[(done + row) * shared + member] += d_beta;
            });
            for (row, d_g) in d_decay.into_iter().take(c).enumerate() {
                gradients.dg[(done + row) * shared + member] = d_g;
            }
        }
        let query_scale = 1.0 / (dk as f32).sqrt();
        for (to, half, scale, d_unit) in [
            (&mut gradients.dq, 0, query_scale, &scratch.dq_sum),
            (&mut gradients.dk, 1, 1.0, &scratch.dk_sum),
        ] {
            for row in 0..c {
                let unit = &keys.qk[(half * c + row) * dk..][..dk]; // times scale
                let d_unit = &d_unit[row * dk..][..dk];
                let factor = keys.factors[half * c + row];
                let along = dot(unit, d_unit) / scale;
                for ((to, unit), d_unit) in to[(done + row) * dk..][..dk]
                    .iter_mut()
                    .zip(unit)
                    .zip(d_unit)
                {
                    *to = factor * (scale * d_unit - unit * along);
                }
            }
        }
    }
    gradients
}

/// One value head of one chunk.
struct ChunkView<'a> {
    c: usize,
    dk: usize,
    dv: usize,
    keys: &'a Keys,
    decays: &'a Decays,
    state: &'a [f32],
    corrected: &'a [f32],
}

impl ChunkView<'_> {
    fn queries_and_keys(&self) -> Matrix<'_> {
        Matrix::new(&self.keys.qk, 2 * self.c, self.dk)
    }

    fn keys(&self) -> Matrix<'_> {
        Matrix::new(&self.keys.qk[self.c * self.dk..], self.c, self.dk)
    }

    /// From `dO` in the upper half of `d_o_d_r` to `dR` in its lower half.
    fn solve(&self, scratch: &mut Scratch, d_state: &[f32]) {
        let Self {
            c, dk, dv, decays, ..
        } = *self;
        decays.weigh(self.keys, c, &mut scratch.a, &mut scratch.p);
        let (d_o, d_r) = scratch.d_o_d_r.split_at_mut(c * dv);
        let d_r = &mut d_r[..c * dv];
        product_here(
            d_r,
            dv,
            Into::Overwrite,
            self.keys(),
            Matrix::new(d_state, dk, dv),
        );
        for (row, d_r) in d_r.chunks_exact_mut(dv).enumerate() {
            multiply(d_r, decays.to_end[row]);
        }
        product_here(
            d_r,
            dv,
            Into::Accumulate,
            Matrix::new(&scratch.p, c, c).t(),
            Matrix::new(d_o, c, dv),
        );
        solve_lower_transposed(&scratch.a, d_r, c, dv);
    }

    /// From `dO` and `dR` to `dQ`, `dK`, `dS`; returns `dg`, hands out the rest of the gradient of `beta`.
    fn finish(
        &self,
        scratch: &mut Scratch,
        d_state: &mut [f32],
        mut add_d_beta: impl FnMut(usize, f32),
    ) -> [f32; CHUNK] {
        let Self {
            c, dk, dv, decays, ..
        } = *self;
        let corrected = Matrix::new(self.corrected, c, dv);

        // E and M
        product_here(
            &mut scratch.e_m,
            c,
            Into::Overwrite,
            Matrix::new(&scratch.d_o_d_r, 2 * c, dv),
            corrected.t(),
        );
        let (e, m) = scratch.e_m[..2 * c * c].split_at_mut(c * c);
        for row in 0..c {
            let between = &decays.between[row * c..][..c];
            let (e, m) = (&mut e[row * c..][..c], &mut m[row * c..][..c]);
            decay_row(e, 1.0, &between[..=row]);
            decay_row(m, -1.0, &between[..row]);
        }
        let mut d_g = self.decay_between(e, m);

        // dQ and Y
        for row in 0..c {
            let decay = decays.from_start[row];
            multiply(&mut scratch.d_o_d_r[row * dv..][..dv], decay);
            multiply(&mut scratch.d_o_d_r[(c + row) * dv..][..dv], -decay);
        }
        let state = Matrix::new(self.state, dk, dv);
        product_here(
            &mut scratch.dq_y,
            dk,
            Into::Overwrite,
            Matrix::new(&scratch.d_o_d_r, 2 * c, dv),
            state.t(),
        );
        let mut read = 0.0;
        for row in (0..c).rev() {
            let of_query = dot(self.query(row), &scratch.dq_y[row * dk..][..dk]);
            let of_key = dot(self.key(row), &scratch.dq_y[(c + row) * dk..][..dk]);
            read += of_query + decays.beta[row] * of_key;
            d_g[row] += read;
        }
        product_here(
            &mut scratch.dq_y,
            dk,
            Into::Accumulate,
            Matrix::new(&scratch.e_m, 2 * c, c),
            self.keys(),
        );

        // the rest of dK: the part where a key is read by later tokens
        let d_state_matrix = Matrix::new(d_state, dk, dv);
        product_here(
            &mut scratch.dk_rest,
            dk,
            Into::Overwrite,
            corrected,
            d_state_matrix.t(),
        );
        let whole = decays.from_start[c - 1];
        let mut left = whole * dot(self.state, d_state);
        for (row, d_g) in d_g.iter_mut().enumerate().take(c) {
            let (beta, to_end) = (decays.beta[row], decays.to_end[row]);
            let rest = &mut scratch.dk_rest[row * dk..][..dk];
            multiply(rest, to_end);
            *d_g += left;
            left += dot(self.key(row), rest);
            multiply(&mut scratch.e_m[(c + row) * c..][..c], beta);
            multiply(&mut scratch.d_o_d_r[(c + row) * dv..][..dv], beta);
        }
        product_here(
            &mut scratch.dk_rest,
            dk,
            Into::Accumulate,
            Matrix::new(&scratch.e_m, 2 * c, c).t(),
            self.queries_and_keys(),
        );

        // dS
        multiply(d_state, whole);
        product_here(
            d_state,
            dv,
            Into::Accumulate,
            self.queries_and_keys().t(),
            Matrix::new(&scratch.d_o_d_r, 2 * c, dv),
        );

        for row in 0..c {
            let d_q = &scratch.dq_y[row * dk..][..dk];
            let y = &scratch.dq_y[(c + row) * dk..][..dk];
            let rest = &scratch.dk_rest[row * dk..][..dk];
            add_d_beta(row, dot(self.key(row), y));
            let beta = decays.beta[row];
            scratch.dq_sum[row * dk..][..dk]
                .iter_mut()
                .zip(d_q)
                .for_each(|(sum, d)| *sum += d);
            for ((sum, y), rest) in scratch.dk_sum[row * dk..][..dk].iter_mut().zip(y).zip(rest) {
                *sum += beta * y + rest;
            }
        }
        d_g
    }

    /// The part of `dg` from what tokens of the chunk read of each other: `sum_{j < t <= i} W_ij`.
    fn decay_between(&self, e: &[f32], m: &[f32]) -> [f32; CHUNK] {
        let c = self.c;
        let (queries, keys) = self.keys.products[..2 * c * c].split_at(c * c);
        let mut d_g = [0f32; CHUNK];
        let mut columns = [0f32; CHUNK]; // sum_{i >= t} W_ij
        for t in (1..c).rev() {
            let beta = self.decays.beta[t];
            let at = t * c..t * c + t;
            add_products(&mut columns[..t], &e[at.clone()], &queries[at.clone()], 1.0);
            add_products(&mut columns[..t], &m[at.clone()], &keys[at], beta);
            d_g[t] = columns[..t].iter().sum();
        }
        d_g
    }

    fn query(&self, row: usize) -> &[f32] {
        &self.keys.qk[row * self.dk..][..self.dk]
    }

    fn key(&self, row: usize) -> &[f32] {
        &self.keys.qk[(self.c + row) * self.dk..][..self.dk]
    }
}

wide! {
    /// `x_i factor y_i`, zeros behind the last `y`.
    fn decay_row(x: &mut [f32], factor: f32, y: &[f32]) {
        let (kept, rest) = x.split_at_mut(y.len());
        for (x, y) in kept.iter_mut().zip(y) {
            *x *= factor * y;
        }
        rest.fill(0.0);
    }
}

wide! {
    /// `to += factor x y`.
    fn add_products(to: &mut [f32], x: &[f32], y: &[f32], factor: f32) {
        for ((to, x), y) in to.iter_mut().zip(x).zip(y) {
            *to += factor * x * y;
        }
    }
}
