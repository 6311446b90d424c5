//! Launches of `kernels/gated_norm.cu`.

use candle_core::{DType, Result, Tensor, bail};

use crate::ops::cuda::Argument::{Absent, Float, Int, Typed, Values, View};
use crate::ops::cuda::{Argument, add_rows, grid, head_strides, launch, output, row_stride};

/// Most blocks of the backward, so most rows of partial sums: enough for the largest device, and the same on every one.
const BLOCKS: usize = 1024;
/// Widest row whose sums fit in shared memory, one set a warp.
const WIDEST: usize = 1536;
/// Warps of a block.
const WARPS: usize = 8;
/// Rows of a warp, and of half a warp where rows are that narrow, in the forward.
const ROWS: usize = 4;

/// The gain, and whether it is f32.
fn gain<'a>(x: &Tensor, w: &'a Tensor) -> Result<[Argument<'a>; 2]> {
    if w.dtype() != DType::F32 && w.dtype() != x.dtype() {
        bail!(
            "gated_norm: a gain of {} for values of {}",
            w.dtype().as_str(),
            x.dtype().as_str()
        );
    }
    let is_f32 = usize::from(w.dtype() == DType::F32);
    Ok([Typed(w.dtype(), w), Int(is_f32)])
}

/// How the rows of a gate lie: `H` of them a token, tokens and heads so many elements apart.
fn heads(z: &Tensor, d: usize) -> Result<[usize; 3]> {
    Ok(if let [_, h, _] = z.dims() {
        let (row, head) = head_strides(z)?;
        [*h, row, head]
    } else if let [_, width] = z.dims() {
        [width / d, row_stride(z)?, d]
    } else if z.is_contiguous() {
        [1, d, d]
    } else {
        bail!("gated_norm: a gate {:?} must be contiguous", z.dims())
    })
}

pub(super) fn forward(x: &Tensor, z: &Tensor, w: &Tensor, n: usize, eps: f64) -> Result<Tensor> {
    let d = w.elem_count();
    let y = output(x, x.dtype(), z.shape())?;
    let [h, row, head] = heads(z, d)?;
    let [w, w_is_f32] = gain(x, w)?;
    let bytes = d * x.dtype().size_in_bytes();
    let narrow = bytes <= 256 && bytes.is_multiple_of(16);
    let groups = if narrow { 2 * WARPS } else { WARPS };
    launch(
        "gated_norm",
        "gated_norm_forward",
        x,
        grid(n.div_ceil(groups * ROWS), 0),
        &[
            Values(x),
            View(z),
            w,
            Values(&y),
            Int(n),
            Int(h),
            Int(d),
            Int(row),
            Int(head),
            w_is_f32,
            Float(eps as f32),
        ],
    )?;
    Ok(y)
}

/// The gradient of `n` rows; writes that of the gate into `dz`, and the output into `y` where it is asked for.
pub(super) fn backward(
    dy: &Tensor,
    x: &Tensor,
    z: &Tensor,
    w: &Tensor,
    n: usize,
    eps: f64,
    dw: &Tensor,
    dz: &Tensor,
    y: Option<&Tensor>,
) -> Result<Tensor> {
    let d = w.elem_count();
    if d > WIDEST {
        bail!("gated_norm: rows of {d}, the CUDA kernel takes up to {WIDEST}");
    }
    let rows = n.div_ceil(BLOCKS).next_multiple_of(2 * WARPS);
    let blocks = n.div_ceil(rows.max(1));
    let dx = output(x, x.dtype(), x.shape())?;
    let partial = output(x, DType::F32, (blocks, d))?;
    let [h, row, head] = heads(z, d)?;
    let [_, d_row, d_head] = heads(dz, d)?;
    let [w, w_is_f32] = gain(x, w)?;
    // rows of half a warp hold up to 128 values, so twice as many sums need no more room
    let shared = (WARPS * d).max(2 * WARPS * d.min(128)) * 4;
    launch(
        "gated_norm",
        "gated_norm_backward",
        x,
        grid(blocks, shared),
        &[
            Values(dy),
            Values(x),
            View(z),
            w,
            Values(&dx),
            View(dz),
            y.map_or(Absent, Values),
            Typed(DType::F32, &partial),
            Int(n),
            Int(h),
            Int(d),
            Int(row),
            Int(head),
            Int(d_row),
            Int(d_head),
            w_is_f32,
            Int(rows),
            Float(eps as f32),
        ],
    )?;
    add_rows(&partial, dw)?;
    Ok(dx)
}
