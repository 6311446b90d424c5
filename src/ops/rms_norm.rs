//! RMSNorm with a zero-centred gain, `y = x r (1 + w)`, `r = (mean(x^2) + eps)^-1/2`.
//!
//! With `u = x r` and `du = dy (1 + w)`: `dw += sum_n dy u` and `dx = r (du - u mean(du u))`; `r` is computed again, not saved.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::{arithmetic, host};

/// The norm of every row.
///
/// # Shapes
/// `x [.., D]`, `w [D]`, `y` as `x`
pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let d = w.dims1()?;
    let n = host::rows("rms_norm", "x", x, d)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Ok(cuda::forward(x, None, w, n, eps)?.1);
    }
    debug_assert_eq!(n * d, x.elem_count());
    let y = reference::forward(
        &host::read("rms_norm", x)?,
        &host::read("rms_norm", w)?,
        eps as f32,
    );
    host::tensor(y, x.shape())
}

/// The gradient of the input; adds that of the gain to `dw`.
///
/// # Shapes
/// `dy`, `x`, `dx` `[.., D]`, `w`, `dw` `[D]`
pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64, dw: &Tensor) -> Result<Tensor> {
    let d = w.dims1()?;
    let n = host::rows("rms_norm", "x", x, d)?;
    host::check("rms_norm", "dy", dy, x.dims())?;
    host::check("rms_norm", "dw", dw, &[d])?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::backward(dy, x, w, None, n, eps, dw);
    }
    debug_assert_eq!(n * d, x.elem_count());
    let (dy, values, w) = (
        host::read("rms_norm", dy)?,
        host::read("rms_norm", x)?,
        host::read("rms_norm", w)?,
    );
    let dx = host::update("rms_norm", dw, |dw| {
        reference::backward(&dy, &values, &w, eps as f32, dw)
    })?;
    host::tensor(dx, x.shape())
}

/// The residual add and the norm of its result, `(h, y)` with `h = x + residual` and `y` the norm of `h`.
///
/// # Shapes
/// `x`, `residual`, `h`, `y` `[.., D]`, `w [D]`
pub fn add_forward(
    x: &Tensor,
    residual: &Tensor,
    w: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    host::check("rms_norm", "residual", residual, x.dims())?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let n = host::rows("rms_norm", "x", x, w.dims1()?)?;
        return cuda::forward(x, Some(residual), w, n, eps);
    }
    let h = arithmetic::add(x, residual)?;
    let y = forward(&h, w, eps)?;
    Ok((h, y))
}

/// The gradient of `x` and of `residual`, which are equal, from those of `y` and `h`; adds that of the gain to `dw`.
///
/// # Shapes
/// `dy`, `dh`, `h`, the result `[.., D]`, `w`, `dw` `[D]`
pub fn add_backward(
    dy: &Tensor,
    dh: &Tensor,
    h: &Tensor,
    w: &Tensor,
    eps: f64,
    dw: &Tensor,
) -> Result<Tensor> {
    host::check("rms_norm", "dh", dh, h.dims())?;
    #[cfg(feature = "cuda")]
    if h.device().is_cuda() {
        let d = w.dims1()?;
        let n = host::rows("rms_norm", "h", h, d)?;
        host::check("rms_norm", "dy", dy, h.dims())?;
        host::check("rms_norm", "dw", dw, &[d])?;
        return cuda::backward(dy, h, w, Some(dh), n, eps, dw);
    }
    arithmetic::add(&backward(dy, h, w, eps, dw)?, dh)
}
