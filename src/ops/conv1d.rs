//! Depthwise causal convolution over time, without bias, then `SiLU`: `y[t] = silu(sum_j w[j] x[t - W + 1 + j])`.
//!
//! Tap `W - 1` is the current token; before the begin of each sequence there are zeros. With `c` the convolution and
//! `dc = dy silu'(c)`: `dx[s] = sum_j w[j] dc[s + W - 1 - j]` within the sequence, `dw[j] += sum_t dc[t] x[t - W + 1 + j]`.
//! `c` is computed again, not saved. The `linear` pair is the same without `SiLU`. `x` and `dx` may be columns of a joint projection.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};
use reference::Activation;

use super::{CuSeqlens, host};

/// The convolution and `SiLU`.
///
/// # Shapes
/// `x`, `y` `[N, C]`, `w [C, W]`
pub fn forward(x: &Tensor, w: &Tensor, cu_seqlens: &CuSeqlens) -> Result<Tensor> {
    run(x, w, cu_seqlens, Activation::Silu)
}

/// The gradient of the input of [`forward`]; adds that of the taps to `dw`.
///
/// # Shapes
/// `dy`, `x`, `dx` `[N, C]`, `w`, `dw` `[C, W]`
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    cu_seqlens: &CuSeqlens,
    dw: &Tensor,
) -> Result<Tensor> {
    run_backward(dy, x, w, cu_seqlens, dw, Activation::Silu)
}

/// As [`backward`], with the gradient of the input written into `dx`.
///
/// # Shapes
/// `dx [N, C]`, its last dimension contiguous
pub fn backward_into(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    cu_seqlens: &CuSeqlens,
    dw: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    let taps = check_backward(dy, x, w, cu_seqlens, dw)?;
    host::check("conv1d", "dx", dx, x.dims())?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::backward(dy, x, w, cu_seqlens, dw, dx, Activation::Silu);
    }
    let values = reference_backward(dy, x, w, taps, cu_seqlens, dw, Activation::Silu)?;
    host::write_view("conv1d", dx, &values)
}

/// The convolution alone.
///
/// # Shapes
/// `x`, `y` `[N, C]`, `w [C, W]`
pub fn linear_forward(x: &Tensor, w: &Tensor, cu_seqlens: &CuSeqlens) -> Result<Tensor> {
    run(x, w, cu_seqlens, Activation::None)
}

/// The gradient of the input of [`linear_forward`]; adds that of the taps to `dw`.
///
/// # Shapes
/// `dy`, `x`, `dx` `[N, C]`, `w`, `dw` `[C, W]`
pub fn linear_backward(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    cu_seqlens: &CuSeqlens,
    dw: &Tensor,
) -> Result<Tensor> {
    run_backward(dy, x, w, cu_seqlens, dw, Activation::None)
}

fn run(x: &Tensor, w: &Tensor, cu_seqlens: &CuSeqlens, activation: Activation) -> Result<Tensor> {
    let taps = check(x, w, cu_seqlens)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::forward(x, w, cu_seqlens, activation);
    }
    let y = reference::forward(
        &host::read("conv1d", x)?,
        &host::read("conv1d", w)?,
        taps,
        cu_seqlens,
        activation,
    );
    host::tensor(y, x.shape())
}

fn run_backward(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    cu_seqlens: &CuSeqlens,
    dw: &Tensor,
    activation: Activation,
) -> Result<Tensor> {
    let taps = check_backward(dy, x, w, cu_seqlens, dw)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let dx = crate::ops::cuda::output(x, x.dtype(), x.shape())?;
        cuda::backward(dy, x, w, cu_seqlens, dw, &dx, activation)?;
        return Ok(dx);
    }
    let dx = reference_backward(dy, x, w, taps, cu_seqlens, dw, activation)?;
    host::tensor(dx, x.shape())
}

fn reference_backward(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    taps: usize,
    cu_seqlens: &CuSeqlens,
    dw: &Tensor,
    activation: Activation,
) -> Result<Vec<f32>> {
    let (dy, values, w) = (
        host::read("conv1d", dy)?,
        host::read("conv1d", x)?,
        host::read("conv1d", w)?,
    );
    host::update("conv1d", dw, |dw| {
        reference::backward(&dy, &values, &w, taps, cu_seqlens, activation, dw)
    })
}

fn check_backward(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    cu_seqlens: &CuSeqlens,
    dw: &Tensor,
) -> Result<usize> {
    let taps = check(x, w, cu_seqlens)?;
    host::check("conv1d", "dy", dy, x.dims())?;
    host::check("conv1d", "dw", dw, w.dims())?;
    Ok(taps)
}

fn check(x: &Tensor, w: &Tensor, cu_seqlens: &CuSeqlens) -> Result<usize> {
    let (n, channels) = x.dims2()?;
    let taps = w.dim(1)?;
    host::check("conv1d", "w", w, &[channels, taps])?;
    cu_seqlens.check("conv1d", n)?;
    Ok(taps)
}
