//! Linear layers without bias, `y = x W^T`, and the two products of their backward.
//!
//! On the CPU all is f32. On CUDA activations and weights are both bf16 or both f32, weight gradients are f32, and sums are f32; rows
//! of activations may lie apart, as columns of a joint buffer do.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;

/// `y = x W^T`.
///
/// # Shapes
/// `x [N, I]`, `w [O, I]`, `y [N, O]`
pub fn forward(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (n, i, o) = output_shape(x, w)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::forward(x, w, None);
    }
    let y = reference::forward(
        &host::read("linear", x)?,
        &host::read("linear", w)?,
        n,
        i,
        o,
    );
    host::tensor(y, (n, o))
}

/// `y = residual + x W^T`.
///
/// # Shapes
/// `x [N, I]`, `w [O, I]`, `residual`, `y` `[N, O]`
pub fn forward_add(x: &Tensor, w: &Tensor, residual: &Tensor) -> Result<Tensor> {
    let (n, i, o) = output_shape(x, w)?;
    host::check("linear", "residual", residual, &[n, o])?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::forward(x, w, Some(residual));
    }
    let mut y = host::read("linear", residual)?.to_vec();
    let (x, w) = (host::read("linear", x)?, host::read("linear", w)?);
    reference::forward_into(&x, &w, n, i, o, &mut y);
    host::tensor(y, (n, o))
}

/// `dx = dy W`.
///
/// # Shapes
/// `dy [N, O]`, `w [O, I]`, `dx [N, I]`
pub fn backward_input(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (n, o, i) = input_shape(dy, w)?;
    #[cfg(feature = "cuda")]
    if dy.device().is_cuda() {
        return cuda::backward_input(dy, w, None);
    }
    let dx = reference::backward_input(
        &host::read("linear", dy)?,
        &host::read("linear", w)?,
        n,
        i,
        o,
    );
    host::tensor(dx, (n, i))
}

/// `dx = other + dy W`, for an input that several layers read.
///
/// # Shapes
/// `dy [N, O]`, `w [O, I]`, `other`, `dx` `[N, I]`
pub fn backward_input_add(dy: &Tensor, w: &Tensor, other: &Tensor) -> Result<Tensor> {
    let (n, o, i) = input_shape(dy, w)?;
    host::check("linear", "other", other, &[n, i])?;
    #[cfg(feature = "cuda")]
    if dy.device().is_cuda() {
        return cuda::backward_input(dy, w, Some(other));
    }
    let mut dx = host::read("linear", other)?.to_vec();
    let (dy, w) = (host::read("linear", dy)?, host::read("linear", w)?);
    reference::backward_input_into(&dy, &w, n, i, o, &mut dx);
    host::tensor(dx, (n, i))
}

/// `dx += dy W` in place, for an input that several layers read.
///
/// # Shapes
/// `dy [N, O]`, `w [O, I]`, `dx [N, I]`
pub fn backward_input_into(dy: &Tensor, w: &Tensor, dx: &Tensor) -> Result<()> {
    let (n, o, i) = input_shape(dy, w)?;
    host::check("linear", "dx", dx, &[n, i])?;
    #[cfg(feature = "cuda")]
    if dy.device().is_cuda() {
        return cuda::backward_input_into(dy, w, dx);
    }
    let (dy, w) = (host::read("linear", dy)?, host::read("linear", w)?);
    host::update("linear", dx, |dx| {
        reference::backward_input_into(&dy, &w, n, i, o, dx);
    })
}

/// `dW += dy^T x`, in place.
///
/// # Shapes
/// `dy [N, O]`, `x [N, I]`, `dw [O, I]`
pub fn backward_weight(dy: &Tensor, x: &Tensor, dw: &Tensor) -> Result<()> {
    let (n, o) = dy.dims2()?;
    let i = x.dim(1)?;
    host::check("linear", "x", x, &[n, i])?;
    host::check("linear", "dw", dw, &[o, i])?;
    #[cfg(feature = "cuda")]
    if dy.device().is_cuda() {
        return cuda::backward_weight(dy, x, dw);
    }
    let (dy, x) = (host::read("linear", dy)?, host::read("linear", x)?);
    host::update("linear", dw, |dw| {
        reference::backward_weight(&dy, &x, n, i, o, dw);
    })
}

fn output_shape(x: &Tensor, w: &Tensor) -> Result<(usize, usize, usize)> {
    let (n, i) = x.dims2()?;
    let (o, width) = w.dims2()?;
    if i != width {
        bail!("linear: x is [{n}, {i}] and w is [{o}, {width}]");
    }
    Ok((n, i, o))
}

fn input_shape(dy: &Tensor, w: &Tensor) -> Result<(usize, usize, usize)> {
    let (n, o) = dy.dims2()?;
    let (rows, i) = w.dims2()?;
    if o != rows {
        bail!("linear: dy is [{n}, {o}] and w is [{rows}, {i}]");
    }
    Ok((n, o, i))
}
