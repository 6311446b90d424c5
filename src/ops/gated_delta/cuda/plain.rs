//! The rule token by token, for f32 and for widths that the tensor core kernels were not made for.

use candle_core::{DType, Result, Tensor, bail};

use super::super::chunk::Geometry;
use super::super::{CHUNK, Grads, Saved};
use super::{Chunks, f32s, lengths, optional};
use crate::ops::cuda::Argument::{self, Absent, Int, Values, View};
use crate::ops::cuda::{grid, launch, output, row_stride};

/// Columns of `dv` that a block takes.
const COLUMNS: usize = 32;
/// Most blocks of the backward: each has `64 x 32 dk` floats of scratch.
const BLOCKS: usize = 264;
/// Most shared memory that a block may ask for, in bytes.
const MOST_SHARED: usize = 99 * 1024;

/// Writes `o`, the final state and the states at the begin of every chunk, where they are wanted.
pub(super) fn forward(
    saved: &Saved,
    geometry: Geometry,
    chunks: &Chunks,
    o: Argument<'_>,
    final_state: Argument<'_>,
    states: Argument<'_>,
) -> Result<()> {
    let Saved { q, k, v, .. } = saved;
    let shared = (COLUMNS + 2) * geometry.dk * 4;
    check_shared(geometry, shared)?;
    let parts = geometry.dv.div_ceil(COLUMNS);
    launch(
        "gated_delta_plain",
        "gated_delta_plain_forward",
        q,
        grid(chunks.sequences * geometry.value_heads * parts, shared),
        &[
            View(q),
            View(k),
            View(v),
            f32s(&saved.g),
            f32s(&saved.beta),
            optional(saved.kept.initial.as_ref()),
            chunks.table(),
            o,
            final_state,
            states,
            Int(row_stride(q)?),
            Int(row_stride(k)?),
            Int(row_stride(v)?),
            Int(chunks.sequences),
            Int(chunks.count),
            Int(geometry.key_heads),
            Int(geometry.value_heads),
            Int(geometry.dk),
            Int(geometry.dv),
        ],
    )
}

/// Writes all of `grads`.
pub(super) fn backward(
    d_o: &Tensor,
    d_state: Option<&Tensor>,
    saved: &Saved,
    geometry: Geometry,
    chunks: &Chunks,
    grads: &Grads,
) -> Result<()> {
    let Saved { q, k, v, .. } = saved;
    let Geometry {
        value_heads,
        dk,
        dv,
        ..
    } = geometry;
    let tokens = q.dim(0)?;
    let floats = |shape: &[usize]| output(q, DType::F32, shape);
    let states = floats(&[chunks.count, value_heads, dk, dv])?;
    forward(saved, geometry, chunks, Absent, Absent, f32s(&states))?;

    let shared = 2 * (COLUMNS + 1) * dk * 4;
    check_shared(geometry, shared)?;
    let parts = dv.div_ceil(COLUMNS);
    let blocks = BLOCKS.min(chunks.sequences * value_heads * parts);
    let scratch = floats(&[blocks, CHUNK, dk, COLUMNS])?;
    let (dq_units, dk_units) = (
        floats(&[parts, tokens, value_heads, dk])?,
        floats(&[parts, tokens, value_heads, dk])?,
    );
    let (dg, dbeta) = (
        floats(&[parts, tokens, value_heads])?,
        floats(&[parts, tokens, value_heads])?,
    );
    launch(
        "gated_delta_plain",
        "gated_delta_plain_backward",
        q,
        grid(blocks, shared),
        &[
            View(q),
            View(k),
            View(v),
            View(d_o),
            f32s(&saved.g),
            f32s(&saved.beta),
            f32s(&states),
            optional(d_state),
            chunks.table(),
            f32s(&scratch),
            View(&grads.dv),
            f32s(&dq_units),
            f32s(&dk_units),
            f32s(&dg),
            f32s(&dbeta),
            f32s(&grads.dstate),
            Int(row_stride(q)?),
            Int(row_stride(k)?),
            Int(row_stride(v)?),
            Int(row_stride(d_o)?),
            Int(row_stride(&grads.dv)?),
            Int(chunks.sequences),
            Int(chunks.count),
            Int(tokens),
            Int(geometry.key_heads),
            Int(value_heads),
            Int(dk),
            Int(dv),
        ],
    )?;
    lengths(q, &dq_units, &grads.dq, geometry)?;
    lengths(k, &dk_units, &grads.dk, geometry)?;
    add_parts(&dg, &grads.dg)?;
    add_parts(&dbeta, &grads.dbeta)
}

/// `sum = ` the sum of `parts` over its first dimension.
fn add_parts(parts: &Tensor, sum: &Tensor) -> Result<()> {
    launch(
        "gated_delta_plain",
        "gated_delta_parts",
        parts,
        grid(sum.elem_count().div_ceil(256), 0),
        &[
            Values(parts),
            Values(sum),
            Int(parts.dim(0)?),
            Int(sum.elem_count()),
        ],
    )
}

fn check_shared(geometry: Geometry, shared: usize) -> Result<()> {
    if shared > MOST_SHARED {
        bail!(
            "gated_delta: key heads of {}, the plain CUDA kernel holds {} columns of its state in {MOST_SHARED} bytes",
            geometry.dk,
            COLUMNS
        );
    }
    Ok(())
}
