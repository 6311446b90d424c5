//! Launches of `kernels/rms_norm.cu`.

use candle_core::{DType, Result, Tensor, bail};

use crate::ops::cuda::Argument::{Absent, Float, Int, Typed, Values};
use crate::ops::cuda::{add_rows, grid, launch, output};

/// Most blocks of the backward, so most rows of partial sums: four, and two, on each multiprocessor of an H100, as many as run together
/// there; the same on every device.
const BLOCKS: [usize; 2] = [528, 264];
/// Widest row whose sums fit in shared memory.
const WIDEST: usize = 12_288;
/// Warps of a block.
const WARPS: usize = 8;

/// Vectors of 16 bytes that hold a row, if it ends with one.
fn vectors(x: &Tensor, d: usize) -> Option<usize> {
    let width = 16 / x.dtype().size_in_bytes();
    d.is_multiple_of(width).then_some(d / width)
}

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
    let name = match vectors(x, w.elem_count()) {
        Some(0..=32) => "rms_norm_forward_kept_1",
        Some(33..=128) => "rms_norm_forward_kept_4",
        Some(129..=256) => "rms_norm_forward_kept_8",
        _ => "rms_norm_forward_any",
    };
    launch(
        "rms_norm",
        name,
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
    // rows that a block has under way together, and blocks
    let (name, groups, most) = match vectors(h, d) {
        Some(0..=32) => ("rms_norm_backward_kept_1_1", WARPS, BLOCKS[0]),
        Some(33..=128) => ("rms_norm_backward_kept_2_2", WARPS / 2, BLOCKS[1]),
        Some(129..=256) => ("rms_norm_backward_kept_2_4", WARPS / 4, BLOCKS[1]),
        Some(257..=512) => ("rms_norm_backward_kept_2_8", 1, BLOCKS[1]),
        Some(513..=1024) => ("rms_norm_backward_kept_4_8", 1, BLOCKS[1]),
        _ => ("rms_norm_backward_any", 1, BLOCKS[0]),
    };
    let rows = n.div_ceil(most).next_multiple_of(groups);
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
