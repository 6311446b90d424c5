//! Launches of `kernels/qk_norm_rope.cu`.

use candle_core::{DType, Result, Tensor, bail};

use crate::ops::cuda::Argument::{Float, Int, Typed, Values, View};
use crate::ops::cuda::{add_rows, grid, head_strides, launch, output};
use crate::ops::rope::Table;

/// Most blocks of the backward, so most rows of partial sums: two on each multiprocessor of an H100, as many as run together there; the
/// same on every device.
const BLOCKS: usize = 264;
/// Widest head whose sums fit in shared memory, one set a warp.
const WIDEST: usize = 1536;
/// Warps of a block.
const WARPS: usize = 8;
/// Heads of a warp in the forward, and in the backward at once.
const ROWS: usize = 4;
const BACK: usize = 2;

pub(super) fn forward(x: &Tensor, w: &Tensor, eps: f64, table: &Table) -> Result<Tensor> {
    let (n, h, d) = x.dims3()?;
    let (cos, sin) = table.resident(x)?;
    let (row, head) = head_strides(x)?;
    let y = output(x, x.dtype(), x.shape())?;
    launch(
        "qk_norm_rope",
        "qk_norm_rope_forward",
        x,
        grid((n * h).div_ceil(WARPS * ROWS), 0),
        &[
            View(x),
            Values(w),
            Typed(DType::F32, &cos),
            Typed(DType::F32, &sin),
            Values(&y),
            Int(n * h),
            Int(h),
            Int(d),
            Int(table.rotary_dim() / 2),
            Int(row),
            Int(head),
            Float(eps as f32),
        ],
    )?;
    Ok(y)
}

pub(super) fn backward(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    eps: f64,
    table: &Table,
    dw: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    let (n, h, d) = x.dims3()?;
    if d > WIDEST {
        bail!("qk_norm_rope: heads of {d}, the CUDA kernel takes up to {WIDEST}");
    }
    let (cos, sin) = table.resident(x)?;
    let ((row, head), (d_row, d_head)) = (head_strides(x)?, head_strides(dx)?);
    let run = (n * h).div_ceil(BLOCKS).next_multiple_of(WARPS * BACK);
    let blocks = (n * h).div_ceil(run.max(1));
    let partial = output(x, DType::F32, (blocks, d))?;
    launch(
        "qk_norm_rope",
        "qk_norm_rope_backward",
        x,
        grid(blocks, WARPS * d * 4),
        &[
            Values(dy),
            View(x),
            Values(w),
            Typed(DType::F32, &cos),
            Typed(DType::F32, &sin),
            View(dx),
            Typed(DType::F32, &partial),
            Int(n * h),
            Int(h),
            Int(d),
            Int(table.rotary_dim() / 2),
            Int(row),
            Int(head),
            Int(d_row),
            Int(d_head),
            Int(run),
            Float(eps as f32),
        ],
    )?;
    add_rows(&partial, dw)
}
