//! Launches of `kernels/attention.cu`, `kernels/attention_wgmma.cu` and `kernels/attention_wgmma_backward.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor, bail};

use super::{Geometry, host};
use crate::ops::CuSeqlens;
use crate::ops::cuda::Argument::{Float, Int, Typed, Values, View};
use crate::ops::cuda::{compute_capability, grid, head_strides, launch, output};

/// Widest head of any kernel.
const WIDEST: usize = 256;
/// Rows of a block of `attention.cu`.
const ROWS: usize = 32;
/// Rows of a block of its `attention_delta`.
const DELTA_ROWS: usize = 32;
/// The kernels of the `attention_wgmma` files: their head dim, the queries of a block, its keys, and bytes of a tile of 64 rows.
const HOPPER_DIM: usize = 256;
const HOPPER_QUERIES: usize = 128;
const HOPPER_KEYS: usize = 64;
const TILE: usize = 64 * HOPPER_DIM * 2;
/// Bytes of a tile of the 80 keys that the forward takes at a time.
const FORWARD_TILE: usize = 80 * HOPPER_DIM * 2;
/// Room for the barriers behind the tiles.
const BARRIERS: usize = 128;

/// What all kernels take.
pub(super) struct Inputs<'a> {
    pub(super) q: &'a Tensor,
    pub(super) k: &'a Tensor,
    pub(super) v: &'a Tensor,
    pub(super) cu_seqlens: &'a CuSeqlens,
    pub(super) geometry: Geometry,
}

impl Inputs<'_> {
    /// `[H, K]` as arguments.
    fn heads(&self) -> [usize; 2] {
        [self.geometry.heads, self.geometry.kv_heads]
    }

    /// Whether the tensor cores of Hopper take this: bf16 at the one head dim, rows that begin at multiples of 16 bytes.
    fn is_for_hopper(&self, others: &[&Tensor]) -> Result<bool> {
        let whole = |tensor: &Tensor| {
            let (start, strides) = (tensor.layout().start_offset(), tensor.stride());
            start % 8 == 0
                && strides
                    .split_last()
                    .is_some_and(|(_, s)| s.iter().all(|s| s % 8 == 0))
        };
        Ok(self.q.dtype() == DType::BF16
            && self.geometry.head_dim == HOPPER_DIM
            && [self.q, self.k, self.v]
                .into_iter()
                .chain(others.iter().copied())
                .all(whole)
            && compute_capability(self.q)? == (9, 0))
    }

    /// Blocks of `rows` tokens, `[blocks, 3]`: where the document begins and ends, where the block does. Those with the most work come
    /// first: as queries the last of their documents, as keys the first.
    fn blocks(&self, key: &'static str, rows: usize, keys: bool) -> Result<(Tensor, usize)> {
        let table = self.cu_seqlens.resident(self.q.device(), key, || {
            let mut blocks: Vec<[usize; 3]> = self
                .cu_seqlens
                .segments()
                .flat_map(|s| {
                    s.clone()
                        .step_by(rows)
                        .map(move |first| [s.start, s.end, first])
                })
                .collect();
            blocks.sort_by_key(|[start, end, first]| {
                usize::MAX
                    - if keys {
                        end - first
                    } else {
                        end.min(&(first + rows)) - start
                    }
            });
            blocks.iter().flatten().map(|token| *token as u32).collect()
        })?;
        let count = table.elem_count() / 3;
        Ok((table, count))
    }

    fn check(&self) -> Result<()> {
        let Geometry { head_dim, .. } = self.geometry;
        if head_dim > WIDEST {
            bail!("attention: head dim {head_dim}, the CUDA kernels take up to {WIDEST}");
        }
        if self.cu_seqlens.tokens() > i32::MAX as usize {
            bail!(
                "attention: {} tokens, the CUDA kernels take less than 2^31",
                self.cu_seqlens.tokens()
            );
        }
        Ok(())
    }

    /// The suffix of a kernel of `attention.cu`.
    fn width(&self) -> usize {
        self.geometry.head_dim.next_power_of_two().clamp(64, WIDEST)
    }

    /// Shared memory of a block of `attention.cu` that keeps `own` tiles besides the one that goes round.
    fn shared(&self, own: usize) -> usize {
        4 * ROWS * ((own + 1) * self.geometry.head_dim + 1)
    }
}

/// Elements from one token of `[N, K, D]` to the next, whose heads must be side by side.
fn stride(name: &str, view: &Tensor) -> Result<usize> {
    let (row, head) = head_strides(view)?;
    if head != view.dim(2)? {
        bail!(
            "attention: the heads of {name} are {head} apart, expected {}",
            view.dim(2)?
        );
    }
    Ok(row)
}

/// `x` by `y` blocks of one warpgroup that copies and two that multiply.
fn hopper_grid(x: usize, y: usize, shared: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (x as u32, y as u32, 1),
        block_dim: (384, 1, 1),
        shared_mem_bytes: shared as u32,
    }
}

fn plane(x: usize, y: usize, shared: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (x as u32, y as u32, 1),
        ..grid(x, shared)
    }
}

/// `(o, lse)`.
pub(super) fn forward(inputs: &Inputs<'_>) -> Result<(Tensor, Tensor)> {
    inputs.check()?;
    let Inputs {
        q, k, v, geometry, ..
    } = *inputs;
    let [heads, kv_heads] = inputs.heads();
    let o = output(q, q.dtype(), q.shape())?;
    let lse = output(q, DType::F32, (q.dim(0)?, heads))?;
    let (row, scale) = (Int(stride("v", v)?), Float(geometry.scale));
    if inputs.is_for_hopper(&[])? {
        let (table, count) = inputs.blocks("attention_queries", HOPPER_QUERIES, false)?;
        launch(
            "attention_wgmma",
            "attention_wgmma_forward",
            q,
            hopper_grid(heads, count, 2 * TILE + 4 * FORWARD_TILE + BARRIERS),
            &[
                Values(q),
                Values(k),
                View(v),
                Values(&o),
                Typed(DType::F32, &lse),
                Typed(DType::U32, &table),
                Int(heads),
                Int(kv_heads),
                row,
                scale,
            ],
        )?;
    } else {
        let (table, count) = inputs.blocks("attention_rows", ROWS, false)?;
        launch(
            "attention",
            &format!("attention_forward_{}", inputs.width()),
            q,
            plane(count, heads, inputs.shared(1)),
            &[
                Values(q),
                Values(k),
                View(v),
                Values(&o),
                Typed(DType::F32, &lse),
                Typed(DType::U32, &table),
                Int(heads),
                Int(kv_heads),
                Int(geometry.head_dim),
                row,
                scale,
            ],
        )?;
    }
    Ok((o, lse))
}

/// `(dq, dk)`; writes the gradient of the values into `dv`.
pub(super) fn backward(
    inputs: &Inputs<'_>,
    d_o: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    dv: &Tensor,
) -> Result<(Tensor, Tensor)> {
    inputs.check()?;
    let Inputs { q, k, v, .. } = *inputs;
    host::check("attention", "dv", dv, v.dims())?;
    let dq = output(q, q.dtype(), q.shape())?;
    let dk = output(k, k.dtype(), k.shape())?;
    let delta = output(q, DType::F32, lse.shape())?;
    let rows = lse.elem_count();
    launch(
        "attention",
        "attention_delta",
        q,
        grid(rows.div_ceil(DELTA_ROWS), 0),
        &[
            Values(d_o),
            Values(o),
            Typed(DType::F32, &delta),
            Int(rows),
            Int(inputs.geometry.head_dim),
        ],
    )?;
    let gradients = Gradients {
        d_o,
        lse,
        delta: &delta,
        dq: &dq,
        dk: &dk,
        dv,
    };
    if inputs.is_for_hopper(&[d_o, dv])? {
        backward_hopper(inputs, &gradients)?;
    } else {
        backward_any(inputs, &gradients)?;
    }
    Ok((dq, dk))
}

struct Gradients<'a> {
    d_o: &'a Tensor,
    lse: &'a Tensor,
    delta: &'a Tensor,
    dq: &'a Tensor,
    dk: &'a Tensor,
    dv: &'a Tensor,
}

fn backward_hopper(inputs: &Inputs<'_>, g: &Gradients<'_>) -> Result<()> {
    let Inputs {
        q, k, v, geometry, ..
    } = *inputs;
    let [heads, kv_heads] = inputs.heads();
    let (table, count) = inputs.blocks("attention_queries", HOPPER_QUERIES, false)?;
    launch(
        "attention_wgmma_backward",
        "attention_wgmma_backward_query",
        q,
        hopper_grid(heads, count, 7 * TILE + BARRIERS),
        &[
            Values(g.d_o),
            Values(q),
            Values(k),
            View(v),
            Typed(DType::F32, g.lse),
            Typed(DType::F32, g.delta),
            Values(g.dq),
            Typed(DType::U32, &table),
            Int(heads),
            Int(kv_heads),
            Int(stride("v", v)?),
            Float(geometry.scale),
        ],
    )?;
    let (table, count) = inputs.blocks("attention_keys", HOPPER_KEYS, true)?;
    // beside the tiles: P^T in f32, twice; lse and delta of two tiles
    let shared = 6 * TILE + 2 * 64 * 64 * 4 + 4 * 64 * 4 + BARRIERS;
    launch(
        "attention_wgmma_backward",
        "attention_wgmma_backward_key",
        q,
        hopper_grid(kv_heads, count, shared),
        &[
            Values(g.d_o),
            Values(q),
            Values(k),
            View(v),
            Typed(DType::F32, g.lse),
            Typed(DType::F32, g.delta),
            Values(g.dk),
            View(g.dv),
            Typed(DType::U32, &table),
            Int(heads),
            Int(kv_heads),
            Int(stride("v", v)?),
            Int(stride("dv", g.dv)?),
            Float(geometry.scale),
        ],
    )
}

fn backward_any(inputs: &Inputs<'_>, g: &Gradients<'_>) -> Result<()> {
    let Inputs {
        q, k, v, geometry, ..
    } = *inputs;
    let [heads, kv_heads] = inputs.heads();
    let (table, count) = inputs.blocks("attention_rows", ROWS, false)?;
    let shared = inputs.shared(2);
    launch(
        "attention",
        &format!("attention_backward_query_{}", inputs.width()),
        q,
        plane(count, heads, shared),
        &[
            Values(g.d_o),
            Values(q),
            Values(k),
            View(v),
            Typed(DType::F32, g.lse),
            Typed(DType::F32, g.delta),
            Values(g.dq),
            Typed(DType::U32, &table),
            Int(heads),
            Int(kv_heads),
            Int(geometry.head_dim),
            Int(stride("v", v)?),
            Float(geometry.scale),
        ],
    )?;
    launch(
        "attention",
        &format!("attention_backward_key_{}", inputs.width()),
        q,
        plane(count, kv_heads, shared),
        &[
            Values(g.d_o),
            Values(q),
            Values(k),
            View(v),
            Typed(DType::F32, g.lse),
            Typed(DType::F32, g.delta),
            Values(g.dk),
            View(g.dv),
            Typed(DType::U32, &table),
            Int(heads),
            Int(kv_heads),
            Int(geometry.head_dim),
            Int(stride("v", v)?),
            Int(stride("dv", g.dv)?),
            Float(geometry.scale),
        ],
    )
}
