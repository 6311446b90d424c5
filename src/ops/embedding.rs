//! The embedding: rows of a table by token id.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;

/// `y[n] = w[ids[n]]`.
///
/// # Shapes
/// `ids [N]`, `w [V, h]`, `y [N, h]`
///
/// # Errors
/// When an id is `V` or more.
pub fn forward(ids: &[u32], w: &Tensor) -> Result<Tensor> {
    let (rows, h) = w.dims2()?;
    check_ids(ids, rows)?;
    #[cfg(feature = "cuda")]
    if w.device().is_cuda() {
        return cuda::forward(ids, w);
    }
    host::tensor(
        reference::forward(ids, &host::read("embedding", w)?, h),
        (ids.len(), h),
    )
}

/// `dw[ids[n]] += dy[n]`, in the order of the tokens.
///
/// # Shapes
/// `ids [N]`, `dy [N, h]`, `dw [V, h]`
///
/// # Errors
/// When an id is `V` or more.
pub fn backward(dy: &Tensor, ids: &[u32], dw: &Tensor) -> Result<()> {
    let (rows, h) = dw.dims2()?;
    check_ids(ids, rows)?;
    host::check("embedding", "dy", dy, &[ids.len(), h])?;
    #[cfg(feature = "cuda")]
    if dw.device().is_cuda() {
        return cuda::backward(dy, ids, dw);
    }
    let dy = host::read("embedding", dy)?;
    host::update("embedding", dw, |dw| reference::backward(&dy, ids, h, dw))
}

fn check_ids(ids: &[u32], rows: usize) -> Result<()> {
    match ids.iter().find(|id| **id as usize >= rows) {
        Some(id) => bail!("embedding: token id {id}, but the vocabulary has {rows}"),
        None => Ok(()),
    }
}
