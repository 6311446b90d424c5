//! Memory that several ops fill part by part.

use candle_core::{Result, Shape, Tensor};

/// A tensor of the type and on the device of `like` whose values somebody writes before anyone reads them.
///
/// On a GPU the memory is not set (NaN in debug builds); on the CPU it is 0.
pub fn buffer(like: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if like.device().is_cuda() {
        return super::cuda::output(like, like.dtype(), shape);
    }
    Tensor::zeros(shape, like.dtype(), like.device())
}
