//! Numbers about a whole arena: the sum of squares, how many values are not finite.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::host;

/// `sum x^2` in f64, over fixed blocks in their order; NaN or infinite when a value is.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::total("reduce_squares", x);
    }
    Ok(reference::sum_of_squares(&host::read("sum_of_squares", x)?))
}

/// [`sum_of_squares`] into `out`, without waiting for the device.
///
/// # Shapes
/// `x` any, `out [1]` f64
///
/// # Errors
/// When `out` is another tensor than that, or lies on another device.
pub fn sum_of_squares_into(x: &Tensor, out: &Tensor) -> Result<()> {
    host::check("sum_of_squares", "out", out, &[1])?;
    if out.dtype() != DType::F64 {
        bail!(
            "sum_of_squares: out is {}, expected f64",
            out.dtype().as_str()
        );
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::total_into("reduce_squares", x, out);
    }
    let sum = reference::sum_of_squares(&host::read("sum_of_squares", x)?);
    out.slice_set(&Tensor::new(&[sum], &Device::Cpu)?, 0, 0)
}

/// How many values are NaN or infinite.
pub fn non_finite(x: &Tensor) -> Result<u64> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Ok(cuda::total("reduce_non_finite", x)? as u64);
    }
    Ok(reference::non_finite(&host::read("non_finite", x)?))
}
