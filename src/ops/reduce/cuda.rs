//! Launches of `kernels/reduce.cu` over an arena.

use candle_core::{DType, Result, Tensor};

use crate::ops::cuda::Argument::{Int, Typed, Values};
use crate::ops::cuda::{grid, launch, output};

/// Most blocks, so most partial sums: enough for the largest device, and the same on every one.
const BLOCKS: usize = 2048;
/// Values that a block takes at once at most, so that runs begin at whole vectors.
const STRIDE: usize = 2048;

/// What `name` sums over `x`, read back: the caller waits for the device.
pub(super) fn total(name: &str, x: &Tensor) -> Result<f64> {
    let sum = output(x, DType::F64, 1)?;
    total_into(name, x, &sum)?;
    Ok(sum.to_vec1::<f64>()?[0])
}

/// What `name` sums over `x`, into `sum`.
pub(super) fn total_into(name: &str, x: &Tensor, sum: &Tensor) -> Result<()> {
    let n = x.elem_count();
    let run = n.div_ceil(BLOCKS).max(1).next_multiple_of(STRIDE);
    let blocks = n.div_ceil(run);
    let partial = output(x, DType::F64, blocks)?;
    let partials = Typed(DType::F64, &partial);
    launch(
        "reduce",
        name,
        x,
        grid(blocks, 0),
        &[Values(x), partials, Int(n), Int(run)],
    )?;
    launch(
        "reduce",
        "reduce_sum",
        x,
        grid(1, 0),
        &[
            Typed(DType::F64, &partial),
            Typed(DType::F64, sum),
            Int(blocks),
        ],
    )
}
