//! The activation of SwiGLU, `y = silu(g) u`.
//!
//! `dg = dy u silu'(g)` and `du = dy silu(g)`.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// `silu(g) u`, elementwise.
///
/// # Shapes
/// `g`, `u`, `y` equal
pub fn forward(g: &Tensor, u: &Tensor) -> Result<Tensor> {
    host::check("silu_mul", "u", u, g.dims())?;
    #[cfg(feature = "cuda")]
    if g.device().is_cuda() {
        return cuda::forward(g, u);
    }
    host::tensor(
        reference::forward(&host::read("silu_mul", g)?, &host::read("silu_mul", u)?),
        g.shape(),
    )
}

/// The gradients `(dg, du)`.
///
/// # Shapes
/// all equal
pub fn backward(dy: &Tensor, g: &Tensor, u: &Tensor) -> Result<(Tensor, Tensor)> {
    host::check("silu_mul", "u", u, g.dims())?;
    host::check("silu_mul", "dy", dy, g.dims())?;
    #[cfg(feature = "cuda")]
    if g.device().is_cuda() {
        return cuda::backward(dy, g, u);
    }
    let (dy, gate, u) = (
        host::read("silu_mul", dy)?,
        host::read("silu_mul", g)?,
        host::read("silu_mul", u)?,
    );
    let (dg, du) = reference::backward(&dy, &gate, &u);
    Ok((host::tensor(dg, g.shape())?, host::tensor(du, g.shape())?))
}
