//! Launches of `kernels/columns.cu`.

use candle_core::{Result, Tensor};

use crate::ops::cuda::Argument::{Int, View};
use crate::ops::cuda::{each, launch, output, row_stride};

pub(super) fn split(x: &Tensor, rows: usize, widths: &[usize]) -> Result<Vec<Tensor>> {
    let mut start = 0;
    widths
        .iter()
        .map(|&width| {
            let part = output(x, x.dtype(), (rows, width))?;
            copy(&x.narrow(1, start, width)?, &part)?;
            start += width;
            Ok(part)
        })
        .collect()
}

pub(super) fn join(parts: &[&Tensor], rows: usize, widths: &[usize]) -> Result<Tensor> {
    let joined = output(
        parts[0],
        parts[0].dtype(),
        (rows, widths.iter().sum::<usize>()),
    )?;
    let mut start = 0;
    for (part, &width) in parts.iter().zip(widths) {
        copy(part, &joined.narrow(1, start, width)?)?;
        start += width;
    }
    Ok(joined)
}

/// Copies `from` into `to`, views `[M, C]`.
fn copy(from: &Tensor, to: &Tensor) -> Result<()> {
    let (rows, width) = from.dims2()?;
    let pack = 16 / from.dtype().size_in_bytes();
    launch(
        "columns",
        "columns_copy",
        from,
        each(from, rows * width.next_multiple_of(pack)),
        &[
            View(from),
            View(to),
            Int(rows),
            Int(width),
            Int(row_stride(from)?),
            Int(row_stride(to)?),
        ],
    )
}
