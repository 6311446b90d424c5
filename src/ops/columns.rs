//! Cuts the columns of a packed activation into tensors of their own, and joins them again.
//!
//! Query, key and value of the gated delta net are columns of one convolution; query and gate of full attention alternate within a
//! head, which is the same cut on `[N H, 2 D]`. `split` and `join` are each other's inverse and each other's backward.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;

/// Columns `[0, widths[0])`, `[widths[0], widths[0] + widths[1])`, ... of `x`, each contiguous.
///
/// # Shapes
/// `x [M, C]`, results `[M, widths[i]]`
///
/// # Errors
/// When the widths do not add up to `C`.
pub fn split<const N: usize>(x: &Tensor, widths: &[usize; N]) -> Result<[Tensor; N]> {
    let (rows, width) = x.dims2()?;
    if widths.iter().sum::<usize>() != width {
        bail!("columns: {widths:?} do not add up to {width}");
    }
    match parts(x, rows, widths)?.try_into() {
        Ok(parts) => Ok(parts),
        Err(_) => bail!("columns: {N} widths gave another number of parts"),
    }
}

fn parts(x: &Tensor, rows: usize, widths: &[usize]) -> Result<Vec<Tensor>> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::split(x, rows, widths);
    }
    let parts = reference::split(&host::read("columns", x)?, rows, widths);
    let sized = parts.into_iter().zip(widths);
    sized
        .map(|(part, width)| host::tensor(part, (rows, *width)))
        .collect()
}

/// The tensors side by side.
///
/// # Shapes
/// `parts[i] [M, C_i]`, result `[M, sum C_i]`
pub fn join(parts: &[&Tensor]) -> Result<Tensor> {
    let rows = parts.first().map_or(Ok(0), |part| part.dim(0))?;
    let widths = parts
        .iter()
        .map(|part| part.dim(1))
        .collect::<Result<Vec<_>>>()?;
    for (part, width) in parts.iter().zip(&widths) {
        host::check("columns", "a part", part, &[rows, *width])?;
    }
    #[cfg(feature = "cuda")]
    if parts.first().is_some_and(|part| part.device().is_cuda()) {
        return cuda::join(parts, rows, &widths);
    }
    let values = parts
        .iter()
        .map(|part| host::read("columns", part))
        .collect::<Result<Vec<_>>>()?;
    let values: Vec<&[f32]> = values.iter().map(|values| &**values).collect();
    host::tensor(
        reference::join(&values, rows, &widths),
        (rows, widths.iter().sum::<usize>()),
    )
}
