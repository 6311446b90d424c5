//! The gated RMSNorm of the gated delta net, `y = w x r silu(z)`, `r = (mean(x^2) + eps)^-1/2`: norm first, gate after, plain gain.
//!
//! With `u = x r` and `du = dy w silu(z)`: `dw += sum dy u silu(z)`, `dz = dy w u silu'(z)`, `dx = r (du - u mean(du u))`.
//! The gate may be columns of a joint projection. On a GPU the gain may be f32 beside bf16 activations.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;

/// The norm of every row of `D` values times its gate.
///
/// # Shapes
/// `x [.., D]` contiguous, `w [D]`, `z [.., D]` or `[N, H D]` with its last dimension contiguous, `y` as `z`
pub fn forward(x: &Tensor, z: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let n = rows(x, z, w)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::forward(x, z, w, n, eps);
    }
    debug_assert_eq!(n * w.elem_count(), x.elem_count());
    let y = reference::forward(
        &host::read("gated_norm", x)?,
        &host::read("gated_norm", z)?,
        &host::read("gated_norm", w)?,
        eps as f32,
    );
    host::tensor(y, z.shape())
}

/// The gradients of input and gate, `(dx, dz)`; adds that of the gain to `dw`.
///
/// # Shapes
/// `dx` as `x`, `dy`, `dz` as `z`, `w`, `dw` `[D]`
pub fn backward(
    dy: &Tensor,
    x: &Tensor,
    z: &Tensor,
    w: &Tensor,
    eps: f64,
    dw: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let n = check_backward(dy, x, z, w, dw)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let dz = crate::ops::cuda::output(x, x.dtype(), z.shape())?;
        let dx = cuda::backward(dy, x, z, w, n, eps, dw, &dz, None)?;
        return Ok((dx, dz));
    }
    debug_assert_eq!(n * w.elem_count(), x.elem_count());
    let (dx, dz) = reference_backward(dy, x, z, w, eps, dw)?;
    Ok((host::tensor(dx, x.shape())?, host::tensor(dz, z.shape())?))
}

/// As [`backward`], with the gradient of the gate written into `dz`; returns `(dx, y)`, `y` being the output of [`forward`] again.
///
/// # Shapes
/// `dz` as `z`, with strides of its own
pub fn backward_into(
    dy: &Tensor,
    x: &Tensor,
    z: &Tensor,
    w: &Tensor,
    eps: f64,
    dw: &Tensor,
    dz: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let n = check_backward(dy, x, z, w, dw)?;
    host::check("gated_norm", "dz", dz, z.dims())?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let y = crate::ops::cuda::output(x, x.dtype(), z.shape())?;
        let dx = cuda::backward(dy, x, z, w, n, eps, dw, dz, Some(&y))?;
        return Ok((dx, y));
    }
    debug_assert_eq!(n * w.elem_count(), x.elem_count());
    let (dx, dz_values) = reference_backward(dy, x, z, w, eps, dw)?;
    host::write_view("gated_norm", dz, &dz_values)?;
    Ok((host::tensor(dx, x.shape())?, forward(x, z, w, eps)?))
}

fn reference_backward(
    dy: &Tensor,
    x: &Tensor,
    z: &Tensor,
    w: &Tensor,
    eps: f64,
    dw: &Tensor,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (dy, x) = (host::read("gated_norm", dy)?, host::read("gated_norm", x)?);
    let (z, w) = (host::read("gated_norm", z)?, host::read("gated_norm", w)?);
    host::update("gated_norm", dw, |dw| {
        reference::backward(&dy, &x, &z, &w, eps as f32, dw)
    })
}

/// Rows of `x`, after a look at the shapes.
fn rows(x: &Tensor, z: &Tensor, w: &Tensor) -> Result<usize> {
    let d = w.dims1()?;
    let n = host::rows("gated_norm", "x", x, d)?;
    let fits = match z.dims() {
        [_, width] => d > 0 && width.is_multiple_of(d),
        dims => dims == x.dims(),
    };
    if !fits || z.elem_count() != x.elem_count() {
        bail!(
            "gated_norm: z is {:?}, x is {:?}, heads are {d} wide",
            z.dims(),
            x.dims()
        );
    }
    Ok(n)
}

fn check_backward(dy: &Tensor, x: &Tensor, z: &Tensor, w: &Tensor, dw: &Tensor) -> Result<usize> {
    host::check("gated_norm", "dy", dy, z.dims())?;
    host::check("gated_norm", "dw", dw, w.dims())?;
    rows(x, z, w)
}
