//! RMSNorm with a zero-centred gain, `y = x r (1 + w)`, `r = (mean(x^2) + eps)^-1/2`.
//!
//! With `u = x r` and `du = dy (1 + w)`: `dw += sum_n dy u` and `dx = r (du - u mean(du u))`; `r` is computed again, not saved.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// The norm of every row.
///
/// # Shapes
/// `x [.., D]`, `w [D]`, `y` as `x`
pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let d = w.dims1()?;
    let n = host::rows("rms_norm", "x", x, d)?;
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = x.device() {
        return cuda::forward(device, x, w, n, eps);
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
    if let candle_core::Device::Cuda(device) = x.device() {
        return cuda::backward(device, dy, x, w, n, eps, dw);
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
