//! The chunked form on tensor cores: tiles of every chunk, walks over the chunks, the gradients of every chunk.
//!
//! Workspace, freed at the end, for `n` chunks (`N / 64`, and up to one more for each sequence): forward `42_496 n Hv` bytes (W, U, P,
//! scalars), backward `157_184 n Hv` (W, U, L, T, scalars, N, dN and the states S, dS at every chunk), and `1024 N Hv` more where value
//! heads share a key head.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor};

use super::super::chunk::Geometry;
use super::super::{CHUNK, Grads, Saved};
use super::{Chunks, WIDTH, blocks, f32s, lengths, optional};
use crate::ops::cuda::Argument::{Int, Values, View};
use crate::ops::cuda::{launch, output, row_stride};

/// Vectors of scalars of a chunk.
const SCALARS: usize = 6;
/// Dynamic shared memory of the first and the last step, in bytes; the kernel files say what lies there.
const PREPARE: usize = 73_984;
const GRADIENTS: usize = 115_712;

/// A view that the tensor core kernels can read 16 bytes at a time: itself, or a copy where its rows begin elsewhere.
fn in_pieces(view: &Tensor) -> Result<Tensor> {
    let aligned = row_stride(view).is_ok_and(|stride| stride % 8 == 0)
        && view.layout().start_offset().is_multiple_of(8);
    if aligned {
        Ok(view.clone())
    } else {
        view.copy()
    }
}

/// The shape of a kernel that walks over chunks, as `kernels/gated_delta_scan.cu` is compiled.
struct Walk {
    /// Walks in one launch.
    walks: usize,
    /// Groups of warps of a block; each holds 16 columns of `dv`.
    groups: usize,
    /// Warps of a group.
    split: usize,
    /// Tiles of `[64, 16]` that a stage holds for every group, besides W, K and Q.
    shares: usize,
    /// Values that a stage holds for the block, besides those.
    values: usize,
    /// Operands of 512 bytes that the warps of a group pass on.
    told: usize,
}

const OUTPUT: Walk = Walk {
    walks: 1,
    groups: 2,
    split: 4,
    shares: 1,
    values: CHUNK * CHUNK,
    told: 16,
};
const GRADIENT: Walk = Walk {
    walks: 2,
    groups: 4,
    split: 2,
    shares: 2,
    values: 0,
    told: 12,
};
/// Stages of a walk's pipeline.
const STAGES: usize = 2;

impl Walk {
    fn config(&self, chunks: &Chunks, geometry: Geometry) -> LaunchConfig {
        let values = 3 * CHUNK * WIDTH + self.values + self.groups * self.shares * 16 * CHUNK;
        let stage = 2 * values + 2 * 4 * CHUNK; // and two vectors of scalars
        blocks(
            self.walks * chunks.sequences * geometry.value_heads * (WIDTH / 16 / self.groups),
            32 * self.groups * self.split,
            STAGES * stage + 512 * self.told * self.groups,
        )
    }
}

/// Writes `o` and `final_state`.
pub(super) fn forward(
    saved: &Saved,
    geometry: Geometry,
    chunks: &Chunks,
    o: &Tensor,
    final_state: &Tensor,
) -> Result<()> {
    let Saved { q, k, v, .. } = saved;
    let (q, k, v) = (in_pieces(q)?, in_pieces(k)?, in_pieces(v)?);
    let heads = geometry.value_heads;
    let tile =
        |rows: usize, columns: usize| output(&q, DType::BF16, (chunks.count, heads, rows, columns));
    let (w, u, p) = (
        tile(CHUNK, WIDTH)?,
        tile(WIDTH, CHUNK)?,
        tile(CHUNK, CHUNK)?,
    );
    let scalars = output(&q, DType::F32, (chunks.count, heads, SCALARS, CHUNK))?;
    let (stride_q, stride_k, stride_v) = (row_stride(&q)?, row_stride(&k)?, row_stride(&v)?);
    launch(
        "gated_delta_prepare",
        "gated_delta_prepare_forward",
        &q,
        blocks(chunks.count * heads, 128, PREPARE),
        &[
            View(&q),
            View(&k),
            View(&v),
            f32s(&saved.g),
            f32s(&saved.beta),
            chunks.table(),
            Values(&w),
            Values(&u),
            Values(&p),
            f32s(&scalars),
            Int(stride_q),
            Int(stride_k),
            Int(stride_v),
            Int(chunks.sequences),
            Int(chunks.count),
            Int(geometry.key_heads),
            Int(heads),
        ],
    )?;
    launch(
        "gated_delta_scan",
        "gated_delta_scan",
        &q,
        OUTPUT.config(chunks, geometry),
        &[
            View(&q),
            View(&k),
            Values(&w),
            Values(&u),
            Values(&p),
            f32s(&scalars),
            optional(saved.kept.initial.as_ref()),
            chunks.table(),
            Values(o),
            f32s(final_state),
            Int(stride_q),
            Int(stride_k),
            Int(chunks.sequences),
            Int(chunks.count),
            Int(geometry.key_heads),
            Int(heads),
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
    let (q, k, v) = (
        in_pieces(&saved.q)?,
        in_pieces(&saved.k)?,
        in_pieces(&saved.v)?,
    );
    let d_o = in_pieces(d_o)?;
    let heads = geometry.value_heads;
    let tile =
        |rows: usize, columns: usize| output(&q, DType::BF16, (chunks.count, heads, rows, columns));
    let (states, d_states) = (tile(WIDTH, WIDTH)?, tile(WIDTH, WIDTH)?);
    let (n, d_n) = (tile(WIDTH, CHUNK)?, tile(WIDTH, CHUNK)?);
    let t = tile(CHUNK, CHUNK)?;
    let scalars = output(&q, DType::F32, (chunks.count, heads, SCALARS, CHUNK))?;
    let (stride_q, stride_k) = (row_stride(&q)?, row_stride(&k)?);
    let (stride_v, stride_do) = (row_stride(&v)?, row_stride(&d_o)?);
    let counts = || {
        [
            Int(chunks.sequences),
            Int(chunks.count),
            Int(geometry.key_heads),
            Int(heads),
        ]
    };
    {
        let (w, u, l) = (
            tile(CHUNK, WIDTH)?,
            tile(WIDTH, CHUNK)?,
            tile(WIDTH, CHUNK)?,
        );
        let mut arguments = vec![
            View(&q),
            View(&k),
            View(&v),
            View(&d_o),
            f32s(&saved.g),
            f32s(&saved.beta),
            chunks.table(),
            Values(&w),
            Values(&u),
            Values(&t),
            Values(&l),
            f32s(&scalars),
            Int(stride_q),
            Int(stride_k),
            Int(stride_v),
            Int(stride_do),
        ];
        arguments.extend(counts());
        launch(
            "gated_delta_prepare",
            "gated_delta_prepare_backward",
            &q,
            blocks(chunks.count * heads, 128, PREPARE),
            &arguments,
        )?;
        let mut arguments = vec![
            View(&q),
            View(&k),
            View(&d_o),
            Values(&w),
            Values(&u),
            Values(&l),
            f32s(&scalars),
            optional(saved.kept.initial.as_ref()),
            optional(d_state),
            chunks.table(),
            Values(&states),
            Values(&n),
            Values(&d_states),
            Values(&d_n),
            f32s(&grads.dstate),
            Int(stride_q),
            Int(stride_k),
            Int(stride_do),
        ];
        arguments.extend(counts());
        launch(
            "gated_delta_scan",
            "gated_delta_scans",
            &q,
            GRADIENT.config(chunks, geometry),
            &arguments,
        )?;
    }
    let units = if geometry.shared() == 1 {
        None
    } else {
        let shape = (1, q.dim(0)?, heads, WIDTH);
        Some((
            output(&q, DType::F32, shape)?,
            output(&q, DType::F32, shape)?,
        ))
    };
    let mut arguments = vec![
        View(&q),
        View(&k),
        View(&v),
        View(&d_o),
        chunks.table(),
        Values(&t),
        f32s(&scalars),
        Values(&states),
        Values(&n),
        Values(&d_states),
        Values(&d_n),
        View(&grads.dq),
        View(&grads.dk),
        View(&grads.dv),
        optional(units.as_ref().map(|units| &units.0)),
        optional(units.as_ref().map(|units| &units.1)),
        f32s(&grads.dg),
        f32s(&grads.dbeta),
        Int(stride_q),
        Int(stride_k),
        Int(stride_v),
        Int(stride_do),
        Int(row_stride(&grads.dq)?),
        Int(row_stride(&grads.dk)?),
        Int(row_stride(&grads.dv)?),
    ];
    arguments.extend(counts());
    launch(
        "gated_delta_gradients",
        "gated_delta_gradients",
        &q,
        blocks(chunks.count * heads, 256, GRADIENTS),
        &arguments,
    )?;
    match &units {
        None => Ok(()),
        Some((dq, dk)) => {
            lengths(&q, dq, &grads.dq, geometry)?;
            lengths(&k, dk, &grads.dk, geometry)
        }
    }
}
