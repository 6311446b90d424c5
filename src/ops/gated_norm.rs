//! The gated RMSNorm of the gated delta net, `y = w x r silu(z)`, `r = (mean(x^2) + eps)^-1/2`: norm first, gate after, plain gain.
//!
//! With `u = x r` and `du = dy w silu(z)`: `dw += sum dy u silu(z)`, `dz = dy w u silu'(z)`, `dx = r (du - u mean(du u))`.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// The norm of every row times its gate.
///
/// # Shapes
/// `x`, `z`, `y` `[.., D]`, `w [D]`
pub fn forward(x: &Tensor, z: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let d = w.dims1()?;
    let n = host::rows("gated_norm", "x", x, d)?;
    host::check("gated_norm", "z", z, x.dims())?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::forward(x, z, w, n, eps);
    }
    debug_assert_eq!(n * d, x.elem_count());
    let (values, z, w) = (
        host::read("gated_norm", x)?,
        host::read("gated_norm", z)?,
        host::read("gated_norm", w)?,
    );
    host::tensor(reference::forward(&values, &z, &w, eps as f32), x.shape())
}

/// The gradients of input and gate, `(dx, dz)`; adds that of the gain to `dw`.
///
/// # Shapes
/// `dy`, `x`, `z`, `dx`, `dz` `[.., D]`, `w`, `dw` `[D]`
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    z: &Tensor,
    w: &Tensor,
    eps: f64,
    dw: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let d = w.dims1()?;
    let n = host::rows("gated_norm", "x", x, d)?;
    host::check("gated_norm", "z", z, x.dims())?;
    host::check("gated_norm", "dy", dy, x.dims())?;
    host::check("gated_norm", "dw", dw, &[d])?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::backward(dy, x, z, w, n, eps, dw);
    }
    debug_assert_eq!(n * d, x.elem_count());
    let (dy, values) = (host::read("gated_norm", dy)?, host::read("gated_norm", x)?);
    let (z, w) = (host::read("gated_norm", z)?, host::read("gated_norm", w)?);
    let (dx, dz) = host::update("gated_norm", dw, |dw| {
        reference::backward(&dy, &values, &z, &w, eps as f32, dw)
    })?;
    Ok((host::tensor(dx, x.shape())?, host::tensor(dz, x.shape())?))
}
