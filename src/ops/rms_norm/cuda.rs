//! Launches of `kernels/rms_norm.cu`.

use candle_core::{DType, Result, Tensor, bail};

use crate::ops::cuda::Argument::{Absent, Float, Int, Typed, Values};
use crate::ops::cuda::{add_rows, grid, launch, output};

/// Most blocks of the backward, so most rows of partial sums: enough for the largest device, and the same on every one.
const BLOCKS: usize = 512;
/// Widest row that a warp takes by itself.
const WARP_WIDTH: usize = 1024;
/// Widest row whose sums fit in shared memory.
const WIDEST: usize = 12_288;
/// Warps of a block.
const WARPS: usize = 8;

/// `(h, y)` of `n` rows; without a residual `h` is `x`.
pub(super) fn forward(
    x: &Tensor,
    residual: Option<&Tensor>,
    w: &Tensor,
    n: usize,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let y = output(x, x.dtype(), x.shape())?;
    let h = match residual {
        Some(_) => output(x, x.dtype(), x.shape())?,
        None => x.clone(),
    };
    launch(
        "rms_norm",
        "rms_norm_forward",
        x,
        grid(n.div_ceil(WARPS), 0),
        &[
            Values(x),
            residual.map_or(Absent, Values),
            Values(w),
            residual.map_or(Absent, |_| Values(&h)),
            Values(&y),
            Int(n),
            Int(w.elem_count()),
            Float(eps as f32),
        ],
    )?;
    Ok((h, y))
}

/// The gradient of `n` rows, plus `dh` where there is one.
pub(super) fn backward(
    dy: &Tensor,
    h: &Tensor,
    w: &Tensor,
    dh: Option<&Tensor>,
    n: usize,
    eps: f64,
    dw: &Tensor,
) -> Result<Tensor> {
    let d = w.elem_count();
    if d > WIDEST {
        bail!("rms_norm: rows of {d}, the CUDA kernel takes up to {WIDEST}");
    }
    let (name, groups) = if d <= WARP_WIDTH {
        ("rms_norm_backward_warp", WARPS)
    } else {
        ("rms_norm_backward_block", 1)
    };
    let rows = n.div_ceil(BLOCKS).next_multiple_of(groups);
    let blocks = n.div_ceil(rows.max(1));
    let dx = output(h, h.dtype(), h.shape())?;
    let partial = output(h, DType::F32, (blocks, d))?;
    launch(
        "rms_norm",
        name,
        h,
        grid(blocks, groups * d * 4),
        &[
            Values(dy),
            Values(h),
            Values(w),
            dh.map_or(Absent, Values),
            Values(&dx),
            Typed(DType::F32, &partial),
            Int(n),
            Int(d),
            Int(rows),
            Float(eps as f32),
        ],
    )?;
    add_rows(&partial, dw)?;
    Ok(dx)
}
