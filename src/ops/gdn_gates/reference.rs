//! The CPU form: blocks of tokens in parallel.

use rayon::prelude::*;

use crate::ops::scalar::{exp, sigmoid, softplus};

/// Tokens that one task handles.
const BLOCK: usize = 128;

pub(super) struct Gradients {
    pub(super) da: Vec<f32>,
    pub(super) db: Vec<f32>,
    pub(super) da_log: Vec<Vec<f32>>,   // one [Hv] a block
    pub(super) ddt_bias: Vec<Vec<f32>>, // one [Hv] a block
}

pub(super) fn forward(
    a: &[f32],
    b: &[f32],
    a_log: &[f32],
    dt_bias: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let heads = a_log.len();
    let rate: Vec<f32> = a_log.iter().map(|a_log| a_log.exp()).collect();
    let (mut g, mut beta) = (vec![0f32; a.len()], vec![0f32; a.len()]);
    let block = BLOCK * heads;
    let outputs = g.par_chunks_mut(block).zip(beta.par_chunks_mut(block));
    outputs
        .zip(a.par_chunks(block).zip(b.par_chunks(block)))
        .for_each(|((g, beta), (a, b))| {
            for (g, a) in g.chunks_exact_mut(heads).zip(a.chunks_exact(heads)) {
                for head in 0..heads {
                    g[head] = -rate[head] * softplus(a[head] + dt_bias[head]);
                }
            }
            for (beta, b) in beta.iter_mut().zip(b) {
                *beta = sigmoid(*b);
            }
        });
    (g, beta)
}

pub(super) fn backward(
    dg: &[f32],
    dbeta: &[f32],
    a: &[f32],
    b: &[f32],
    a_log: &[f32],
    dt_bias: &[f32],
) -> Gradients {
    let heads = a_log.len();
    let rate: Vec<f32> = a_log.iter().map(|a_log| a_log.exp()).collect();
    let (mut da, mut db) = (vec![0f32; a.len()], vec![0f32; a.len()]);
    let block = BLOCK * heads;
    let outputs = da.par_chunks_mut(block).zip(db.par_chunks_mut(block));
    let inputs = dg
        .par_chunks(block)
        .zip(dbeta.par_chunks(block))
        .zip(a.par_chunks(block))
        .zip(b.par_chunks(block));
    let partials: Vec<(Vec<f32>, Vec<f32>)> = outputs
        .zip(inputs)
        .map(|((da, db), (((dg, dbeta), a), b))| {
            let (mut da_log, mut ddt_bias) = (vec![0f32; heads], vec![0f32; heads]);
            for (index, da) in da.iter_mut().enumerate() {
                let head = index % heads;
                let x = a[index] + dt_bias[head];
                *da = -dg[index] * rate[head] * sigmoid(x);
                da_log[head] -= dg[index] * rate[head] * softplus(x);
                ddt_bias[head] += *da;
            }
            for ((db, dbeta), b) in db.iter_mut().zip(dbeta).zip(b) {
                let s = 1.0 / (1.0 + exp(-b));
                *db = dbeta * s * (1.0 - s);
            }
            (da_log, ddt_bias)
        })
        .collect();
    let (da_log, ddt_bias) = partials.into_iter().unzip();
    Gradients {
        da,
        db,
        da_log,
        ddt_bias,
    }
}
