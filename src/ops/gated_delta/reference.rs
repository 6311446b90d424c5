//! The plainest form: token by token, head by head.

use super::chunk::{Geometry, Inputs, inverse_length};
use crate::ops::CuSeqlens;
use crate::ops::scalar::multiply;

pub(super) fn recurrent(
    inputs: &Inputs<'_>,
    cu: &CuSeqlens,
    initial: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>) {
    let Geometry {
        key_heads,
        value_heads,
        dk,
        dv,
    } = inputs.geometry;
    let mut o = vec![0f32; inputs.v.len()];
    let mut states = initial.map_or_else(
        || vec![0f32; cu.len() * value_heads * dk * dv],
        <[f32]>::to_vec,
    );
    for (sequence, segment) in cu.segments().enumerate() {
        for head in 0..value_heads {
            let state = &mut states[(sequence * value_heads + head) * dk * dv..][..dk * dv];
            for token in segment.clone() {
                let key_at = (token * key_heads + head * key_heads / value_heads) * dk;
                let value_at = (token * value_heads + head) * dv;
                let (q, k) = (&inputs.q[key_at..][..dk], &inputs.k[key_at..][..dk]);
                let (rq, rk) = (inverse_length(q) / (dk as f32).sqrt(), inverse_length(k));
                let decay = inputs.g[token * value_heads + head].exp();
                let beta = inputs.beta[token * value_heads + head];
                multiply(state, decay);
                for column in 0..dv {
                    let read: f32 = (0..dk)
                        .map(|row| state[row * dv + column] * k[row] * rk)
                        .sum();
                    let write = beta * (inputs.v[value_at + column] - read);
                    (0..dk).for_each(|row| state[row * dv + column] += k[row] * rk * write);
                    o[value_at + column] = (0..dk)
                        .map(|row| state[row * dv + column] * q[row] * rq)
                        .sum();
                }
            }
        }
    }
    (o, states)
}
