//! Launches of `kernels/gated_delta_*.cu`.
//!
//! bf16 with `dk = dv = 128` takes the chunked tensor core kernels, everything else the plain one. The forward keeps no tensor of its
//! own; the backward computes tiles and states again.
//!
//! Workspace of the chunked kernels, freed at their end, for `n` chunks (`N / 64`, and up to one more for each sequence): forward
//! `42_496 n Hv` bytes (W, U, P, scalars), backward `157_184 n Hv` (W, U, L, T, scalars, N, dN and the states S, dS at every chunk), and
//! `1024 N Hv` more where value heads share a key head.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor, bail};

use super::chunk::Geometry;
use super::{CHUNK, Grads, Saved, heads};
use crate::ops::CuSeqlens;
use crate::ops::cuda::Argument::{self, Absent, Int, Typed, Values, View};
use crate::ops::cuda::{grid, launch, output, row_stride};

/// `dk` and `dv` of the tensor core kernels.
const WIDTH: usize = 128;
/// Vectors of scalars of a chunk.
const SCALARS: usize = 6;
/// Columns of `dv` that a block of the plain kernels takes.
const COLUMNS: usize = 32;
/// Blocks of the plain backward: each has `64 x 32 dk` floats of scratch.
const PLAIN_BLOCKS: usize = 264;
/// Most shared memory that a block may ask for.
const MOST_SHARED: usize = 99 * 1024;

/// Dynamic shared memory of the steps, in bytes; the kernel files say what lies there.
const PREPARE_FORWARD: usize = 90_112;
const PREPARE_BACKWARD: usize = 114_688;
const GRADIENTS: usize = 199_168;

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

fn is_chunked(geometry: Geometry, q: &Tensor) -> bool {
    geometry.dk == WIDTH && geometry.dv == WIDTH && q.dtype() == DType::BF16
}

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

/// Blocks of 2 warps share fewer reads, of 4 more: as many blocks as fill the device.
fn scan_warps(chunks: &Chunks, geometry: Geometry) -> usize {
    if chunks.sequences * geometry.value_heads > 64 {
        4
    } else {
        2
    }
}

/// `(o, final_state)`.
pub(super) fn forward(
    saved: &Saved,
    geometry: Geometry,
    state_shape: &[usize; 4],
) -> Result<(Tensor, Tensor)> {
    let Saved { q, k, v, .. } = saved;
    let chunks = Chunks::new(&saved.kept.cu_seqlens, q)?;
    let o = output(q, q.dtype(), v.shape())?;
    let final_state = output(q, DType::F32, &state_shape[..])?;
    if !is_chunked(geometry, q) {
        plain_forward(
            saved,
            geometry,
            &chunks,
            Values(&o),
            f32s(&final_state),
            Absent,
        )?;
        return Ok((o, final_state));
    }
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
        blocks(chunks.count * heads, 128, PREPARE_FORWARD),
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
    let warps = scan_warps(&chunks, geometry);
    let stage = 2 * (3 * CHUNK * WIDTH + CHUNK * CHUNK + warps * 16 * CHUNK) + 8 * CHUNK;
    launch(
        "gated_delta_scan",
        &format!("gated_delta_scan_{warps}"),
        &q,
        blocks(chunks.sequences * heads * 8 / warps, 32 * warps, 3 * stage),
        &[
            View(&q),
            View(&k),
            Values(&w),
            Values(&u),
            Values(&p),
            f32s(&scalars),
            optional(saved.kept.initial.as_ref()),
            chunks.table(),
            Values(&o),
            f32s(&final_state),
            Int(stride_q),
            Int(stride_k),
            Int(chunks.sequences),
            Int(chunks.count),
            Int(geometry.key_heads),
            Int(heads),
        ],
    )?;
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
    if is_chunked(geometry, q) {
        chunked_backward(d_o, d_state, saved, geometry, &chunks, &grads)?;
    } else {
        plain_backward(d_o, d_state, saved, geometry, &chunks, &grads)?;
    }
    Ok(grads)
}

fn chunked_backward(
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
            blocks(chunks.count * heads, 128, PREPARE_BACKWARD),
            &arguments,
        )?;
        let warps = scan_warps(chunks, geometry);
        let stage = 2 * (3 * CHUNK * WIDTH + 2 * warps * 16 * CHUNK) + 8 * CHUNK;
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
            &format!("gated_delta_scans_{warps}"),
            &q,
            blocks(
                2 * chunks.sequences * heads * 8 / warps,
                32 * warps,
                2 * stage,
            ),
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

fn plain_forward(
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

fn plain_backward(
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
    plain_forward(saved, geometry, chunks, Absent, Absent, f32s(&states))?;

    let shared = 2 * (COLUMNS + 1) * dk * 4;
    check_shared(geometry, shared)?;
    let parts = dv.div_ceil(COLUMNS);
    let blocks = PLAIN_BLOCKS.min(chunks.sequences * value_heads * parts);
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
