//! The gated RMSNorm of the gated delta net, `y = w x r silu(z)`, `r = (mean(x^2) + eps)^-1/2`: norm first, gate after, plain gain.
//!
//! With `u = x r` and `du = dy w silu(z)`: `dw += sum dy u silu(z)`, `dz = dy w u silu'(z)`, `dx = r (du - u mean(du u))`.

mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// The norm of every row times its gate.
///
/// # Shapes
/// `x`, `z`, `y` `[.., D]`, `w [D]`
pub fn forward(x: &Tensor, z: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let d = w.dims1()?;
    host::rows("gated_norm", "x", x, d)?;
    host::check("gated_norm", "z", z, x.dims())?;
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
    host::rows("gated_norm", "x", x, d)?;
    host::check("gated_norm", "z", z, x.dims())?;
    host::check("gated_norm", "dy", dy, x.dims())?;
    host::check("gated_norm", "dw", dw, &[d])?;
    let (dy, values) = (host::read("gated_norm", dy)?, host::read("gated_norm", x)?);
    let (z, w) = (host::read("gated_norm", z)?, host::read("gated_norm", w)?);
    let (dx, dz) = host::update("gated_norm", dw, |dw| {
        reference::backward(&dy, &values, &z, &w, eps as f32, dw)
    })?;
    Ok((host::tensor(dx, x.shape())?, host::tensor(dz, x.shape())?))
}
