//! Launches of `kernels/gated_delta_*.cu`.
//!
//! bf16 with `dk = dv = 128` takes the chunked tensor core kernels, everything else the plain ones. The forward keeps no tensor of its
//! own; the backward computes tiles and states again.

mod chunked;
mod plain;

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor};

use super::chunk::Geometry;
use super::{CHUNK, Grads, Saved, heads};
use crate::ops::CuSeqlens;
use crate::ops::cuda::Argument::{self, Absent, Int, Typed, Values, View};
use crate::ops::cuda::{compute_capability, grid, launch, output, row_stride};

/// `dk` and `dv` of the tensor core kernels.
const WIDTH: usize = 128;

/// The chunks of a batch on the device.
struct Chunks {
    /// First chunk of every sequence and one past the last, first token of every chunk, its tokens.
    table: Tensor,
    count: usize,
    sequences: usize,
}

impl Chunks {
    fn new(cu: &CuSeqlens, like: &Tensor) -> Result<Self> {
        let count = cu.segments().map(|s| s.len().div_ceil(CHUNK)).sum();
        let table = cu.resident(like.device(), "gated_delta", || {
            let (mut first, mut start, mut length) = (vec![0], Vec::new(), Vec::new());
            for segment in cu.segments() {
                for token in segment.clone().step_by(CHUNK) {
                    start.push(token as u32);
                    length.push(CHUNK.min(segment.end - token) as u32);
                }
                first.push(start.len() as u32);
            }
            [first, start, length].concat()
        })?;
        Ok(Self {
            table,
            count,
            sequences: cu.len(),
        })
    }

    fn table(&self) -> Argument<'_> {
        Typed(DType::U32, &self.table)
    }
}

fn f32s(tensor: &Tensor) -> Argument<'_> {
    Typed(DType::F32, tensor)
}

fn optional(tensor: Option<&Tensor>) -> Argument<'_> {
    tensor.map_or(Absent, f32s)
}

fn blocks(count: usize, threads: usize, shared: usize) -> LaunchConfig {
    LaunchConfig {
        block_dim: (threads as u32, 1, 1),
        ..grid(count, shared)
    }
}

/// Whether the tensor core kernels do it: on GPUs with 164 KB of shared memory, that is `sm_80` and from `sm_90` on.
fn is_chunked(geometry: Geometry, q: &Tensor) -> Result<bool> {
    let made_for = geometry.dk == WIDTH && geometry.dv == WIDTH && q.dtype() == DType::BF16;
    Ok(made_for && matches!(compute_capability(q)?, (8, 0) | (9.., _)))
}

/// `(o, final_state)`.
pub(super) fn forward(
    saved: &Saved,
    geometry: Geometry,
    state_shape: &[usize; 4],
) -> Result<(Tensor, Tensor)> {
    let Saved { q, v, .. } = saved;
    let chunks = Chunks::new(&saved.kept.cu_seqlens, q)?;
    let o = output(q, q.dtype(), v.shape())?;
    let final_state = output(q, DType::F32, &state_shape[..])?;
    if is_chunked(geometry, q)? {
        chunked::forward(saved, geometry, &chunks, &o, &final_state)?;
    } else {
        let (o, final_state) = (Values(&o), f32s(&final_state));
        plain::forward(saved, geometry, &chunks, o, final_state, Absent)?;
    }
    Ok((o, final_state))
}

pub(super) fn backward(
    d_o: &Tensor,
    d_state: Option<&Tensor>,
    saved: &Saved,
    geometry: Geometry,
    state_shape: &[usize; 4],
) -> Result<Grads> {
    let (q, v) = (&saved.q, &saved.v);
    let tokens = q.dim(0)?;
    let Geometry {
        key_heads,
        value_heads,
        dk,
        dv,
    } = geometry;
    let (keys, values) = (key_heads * dk, value_heads * dv);
    let joined = output(q, q.dtype(), (tokens, 2 * keys + values))?;
    let grads = Grads {
        dq: heads(&joined, 0, key_heads, dk)?,
        dk: heads(&joined, keys, key_heads, dk)?,
        dv: heads(&joined, 2 * keys, value_heads, dv)?,
        dg: output(q, DType::F32, saved.g.shape())?,
        dbeta: output(q, DType::F32, saved.beta.shape())?,
        dstate: output(q, DType::F32, &state_shape[..])?,
        joined: Some(joined),
    };
    let chunks = Chunks::new(&saved.kept.cu_seqlens, v)?;
    if is_chunked(geometry, q)? {
        chunked::backward(d_o, d_state, saved, geometry, &chunks, &grads)?;
    } else {
        plain::backward(d_o, d_state, saved, geometry, &chunks, &grads)?;
    }
    Ok(grads)
}

/// The gradient `dx` of `x` from that of its unit lengths, `units [parts, N, Hv, dk]`, summed over parts and over the heads that share `x`.
fn lengths(x: &Tensor, units: &Tensor, dx: &Tensor, geometry: Geometry) -> Result<()> {
    let tokens = x.dim(0)?;
    launch(
        "gated_delta_plain",
        "gated_delta_lengths",
        x,
        grid((tokens * geometry.key_heads).div_ceil(8), 0),
        &[
            View(x),
            f32s(units),
            View(dx),
            Int(row_stride(x)?),
            Int(row_stride(dx)?),
            Int(tokens),
            Int(geometry.key_heads),
            Int(geometry.value_heads),
            Int(geometry.dk),
            Int(units.dim(0)?),
        ],
    )
}
