//! Numbers about a whole arena: the sum of squares, how many values are not finite.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// `sum x^2` in f64, over fixed blocks in their order; NaN or infinite when a value is.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::total("reduce_squares", x);
    }
    Ok(reference::sum_of_squares(&host::read("sum_of_squares", x)?))
}

/// How many values are NaN or infinite.
pub fn non_finite(x: &Tensor) -> Result<u64> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Ok(cuda::total("reduce_non_finite", x)? as u64);
    }
    Ok(reference::non_finite(&host::read("non_finite", x)?))
}
