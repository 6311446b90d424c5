//! Launches of `kernels/gated_norm.cu`.

use candle_core::{DType, Result, Tensor, bail};

use crate::ops::cuda::Argument::{Float, Int, Typed, Values};
use crate::ops::cuda::{add_rows, grid, launch, output};

/// Most blocks of the backward, so most rows of partial sums: enough for the largest device, and the same on every one.
const BLOCKS: usize = 1024;
/// Widest row whose sums fit in shared memory, one set a warp.
const WIDEST: usize = 1536;
/// Warps of a block.
const WARPS: usize = 8;

pub(super) fn forward(x: &Tensor, z: &Tensor, w: &Tensor, n: usize, eps: f64) -> Result<Tensor> {
    let y = output(x, x.dtype(), x.shape())?;
    launch(
        "gated_norm",
        "gated_norm_forward",
        x,
        grid(n.div_ceil(WARPS), 0),
        &[
            Values(x),
            Values(z),
            Values(w),
            Values(&y),
            Int(n),
            Int(w.elem_count()),
            Float(eps as f32),
        ],
    )?;
    Ok(y)
}

pub(super) fn backward(
    dy: &Tensor,
    x: &Tensor,
    z: &Tensor,
    w: &Tensor,
    n: usize,
    eps: f64,
    dw: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let d = w.elem_count();
    if d > WIDEST {
        bail!("gated_norm: rows of {d}, the CUDA kernel takes up to {WIDEST}");
    }
    let rows = n.div_ceil(BLOCKS).next_multiple_of(WARPS);
    let blocks = n.div_ceil(rows.max(1));
    let dx = output(x, x.dtype(), x.shape())?;
    let dz = output(x, x.dtype(), x.shape())?;
    let partial = output(x, DType::F32, (blocks, d))?;
    launch(
        "gated_norm",
        "gated_norm_backward",
        x,
        grid(blocks, WARPS * d * 4),
        &[
            Values(dy),
            Values(x),
            Values(z),
            Values(w),
            Values(&dx),
            Values(&dz),
            Typed(DType::F32, &partial),
            Int(n),
            Int(d),
            Int(rows),
            Float(eps as f32),
        ],
    )?;
    add_rows(&partial, dw)?;
    Ok((dx, dz))
}
