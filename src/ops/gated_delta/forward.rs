//! The chunked forward.

use rayon::prelude::*;

use super::CHUNK;
use super::chunk::{Decays, Geometry, Inputs, Keys, Task, solve_lower};
use crate::ops::CuSeqlens;
use crate::ops::host::BLOCK_ROWS;
use crate::ops::matrix::{Into, Matrix, product_here};

/// What the backward reads of one task; `S` stands for the value heads that share the key head.
#[derive(Debug)]
pub(super) struct TaskSaved {
    /// `[chunks + 1, S, dk, dv]`: the state at the begin of every chunk, then the final one.
    pub(super) states: Vec<f32>,
    /// `N`: chunk after chunk `[S, c, dv]`.
    pub(super) corrected: Vec<f32>,
}

pub(super) fn forward(
    inputs: &Inputs<'_>,
    cu: &CuSeqlens,
    initial: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>, Vec<TaskSaved>) {
    let geometry = inputs.geometry;
    let Geometry {
        key_heads,
        value_heads,
        dk,
        dv,
    } = geometry;
    let (shared, state) = (geometry.shared(), dk * dv);
    let tasks = Task::all(cu, key_heads);
    let (outputs, saved): (Vec<Vec<f32>>, Vec<TaskSaved>) = tasks
        .into_par_iter()
        .map(|task| forward_task(inputs, &task, initial))
        .unzip();

    let o = gather(cu, geometry, shared * dv, &outputs);
    let mut final_state = vec![0f32; cu.len() * value_heads * state];
    for (to, saved) in final_state.chunks_exact_mut(shared * state).zip(&saved) {
        to.copy_from_slice(&saved.states[saved.states.len() - shared * state..]);
    }
    (o, final_state, saved)
}

/// Puts `[L, width]` of every task side by side: `[N, key_heads * width]`.
pub(super) fn gather(
    cu: &CuSeqlens,
    geometry: Geometry,
    width: usize,
    parts: &[Vec<f32>],
) -> Vec<f32> {
    let key_heads = geometry.key_heads;
    let place: Vec<(usize, usize)> = cu
        .segments()
        .enumerate()
        .flat_map(|(sequence, segment)| {
            (0..segment.len()).map(move |index| (sequence * key_heads, index))
        })
        .collect();
    let mut out = vec![0f32; cu.tokens() * key_heads * width];
    out.par_chunks_mut(BLOCK_ROWS * key_heads * width)
        .zip(place.par_chunks(BLOCK_ROWS))
        .for_each(|(out, place)| {
            for (out, (task, index)) in out.chunks_exact_mut(key_heads * width).zip(place) {
                for (head, out) in out.chunks_exact_mut(width).enumerate() {
                    out.copy_from_slice(&parts[task + head][index * width..][..width]);
                }
            }
        });
    out
}

fn forward_task(
    inputs: &Inputs<'_>,
    task: &Task,
    initial: Option<&[f32]>,
) -> (Vec<f32>, TaskSaved) {
    let Geometry {
        value_heads,
        dk,
        dv,
        ..
    } = inputs.geometry;
    let shared = inputs.geometry.shared();
    let (state_size, tokens) = (dk * dv, task.segment.len());
    let mut o = vec![0f32; tokens * shared * dv];
    let mut corrected = vec![0f32; tokens * shared * dv];
    let mut states = vec![0f32; (tokens.div_ceil(CHUNK) + 1) * shared * state_size];
    if let Some(initial) = initial {
        let first = (task.sequence * value_heads + task.key_head * shared) * state_size;
        states[..shared * state_size].copy_from_slice(&initial[first..][..shared * state_size]);
    }

    let (mut keys, mut decays) = (Keys::new(dk), Decays::new());
    let (mut a, mut p) = (vec![0f32; CHUNK * CHUNK], vec![0f32; CHUNK * CHUNK]);
    let mut read = vec![0f32; 2 * CHUNK * dv]; // Q S, then K S
    let mut weighted = vec![0f32; CHUNK * dk]; // exp(G_last - G) K
    for (index, chunk) in task.chunks().enumerate() {
        let c = chunk.len();
        keys.load(inputs, &chunk, task.key_head);
        let done = chunk.start - task.segment.start;
        for member in 0..shared {
            let head = task.key_head * shared + member;
            decays.load(inputs, &chunk, head);
            decays.weigh(&keys, c, &mut a, &mut p);

            let (before, after) = states.split_at_mut((index + 1) * shared * state_size);
            let state = &before[(index * shared + member) * state_size..][..state_size];
            let next = &mut after[member * state_size..][..state_size];
            let both = Matrix::new(&keys.qk, 2 * c, dk);
            product_here(
                &mut read,
                dv,
                Into::Overwrite,
                both,
                Matrix::new(state, dk, dv),
            );
            let (query_read, key_read) = read[..2 * c * dv].split_at(c * dv);

            let n = &mut corrected[(done * shared + member * c) * dv..][..c * dv];
            let rows = n
                .chunks_exact_mut(dv)
                .zip(key_read.chunks_exact(dv))
                .zip(inputs.value_rows(inputs.v, &chunk, head));
            for (row, ((n, read), v)) in rows.enumerate() {
                let (beta, decay) = (decays.beta[row], decays.from_start[row]);
                for ((n, read), v) in n.iter_mut().zip(read).zip(v) {
                    *n = beta * (v - decay * read);
                }
            }
            solve_lower(&a, n, c, dv);
            let n = Matrix::new(n, c, dv);

            let stride = shared * dv;
            let o = &mut o[done * stride + member * dv..];
            for (row, read) in query_read.chunks_exact(dv).enumerate() {
                let decay = decays.from_start[row];
                for (o, read) in o[row * stride..][..dv].iter_mut().zip(read) {
                    *o = decay * read;
                }
            }
            product_here(o, stride, Into::Accumulate, Matrix::new(&p, c, c), n);

            let whole = decays.from_start[c - 1];
            next.iter_mut()
                .zip(state)
                .for_each(|(next, state)| *next = whole * state);
            for (row, (to, k)) in weighted
                .chunks_exact_mut(dk)
                .zip(keys.qk[c * dk..][..c * dk].chunks_exact(dk))
                .enumerate()
            {
                to.iter_mut()
                    .zip(k)
                    .for_each(|(to, k)| *to = decays.to_end[row] * k);
            }
            product_here(
                next,
                dv,
                Into::Accumulate,
                Matrix::new(&weighted, c, dk).t(),
                n,
            );
        }
    }
    (o, TaskSaved { states, corrected })
}
