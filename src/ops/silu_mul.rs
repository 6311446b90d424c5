//! The activation of SwiGLU, `y = silu(g) u`.
//!
//! `dg = dy u silu'(g)` and `du = dy silu(g)`. In the joined form `g` and `u` are the halves of one tensor, as one projection gives them.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor, bail};

use super::{columns, host};

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

/// `silu(g) u` of the halves of every row.
///
/// # Shapes
/// `gate_up [N, 2 I]`, `g` first, contiguous; `y [N, I]`
pub fn joined_forward(gate_up: &Tensor) -> Result<Tensor> {
    let (n, i) = halves(gate_up)?;
    #[cfg(feature = "cuda")]
    if gate_up.device().is_cuda() {
        return cuda::joined_forward(gate_up, n, i);
    }
    debug_assert_eq!(2 * n * i, gate_up.elem_count());
    forward(&gate_up.narrow(1, 0, i)?, &gate_up.narrow(1, i, i)?)
}

/// The gradients of both halves, and the output of [`joined_forward`] again, so that it need not be kept.
///
/// # Shapes
/// `dy`, `y` `[N, I]`, `gate_up`, `d_gate_up` `[N, 2 I]`; the result is `(d_gate_up, y)`
pub fn joined_backward(dy: &Tensor, gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, i) = halves(gate_up)?;
    host::check("silu_mul", "dy", dy, &[n, i])?;
    #[cfg(feature = "cuda")]
    if gate_up.device().is_cuda() {
        return cuda::joined_backward(dy, gate_up, n, i);
    }
    let (gate, up) = (gate_up.narrow(1, 0, i)?, gate_up.narrow(1, i, i)?);
    let (d_gate, d_up) = backward(dy, &gate, &up)?;
    Ok((columns::join(&[&d_gate, &d_up])?, forward(&gate, &up)?))
}

/// Rows and half of their width.
fn halves(gate_up: &Tensor) -> Result<(usize, usize)> {
    let (n, width) = gate_up.dims2()?;
    if !width.is_multiple_of(2) {
        bail!("silu_mul: gate_up is [{n}, {width}], which has no halves");
    }
    Ok((n, width / 2))
}
