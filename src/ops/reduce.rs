//! Numbers about a whole arena: the sum of squares, how many values are not finite.

mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// `sum x^2` in f64, over fixed blocks in their order; NaN or infinite when a value is.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    Ok(reference::sum_of_squares(&host::read("sum_of_squares", x)?))
}

/// How many values are NaN or infinite.
pub fn non_finite(x: &Tensor) -> Result<u64> {
    Ok(reference::non_finite(&host::read("non_finite", x)?))
}
