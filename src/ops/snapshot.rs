//! Copies of large tensors in the host's memory, made while the device goes on.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Tensor};

use super::Mark;

/// Tensors as they are when the device has done what was queued before [`Snapshot::take`].
///
/// The copy itself is made by [`Snapshot::copy`], on any thread. Until that returns, whoever took the snapshot must not queue a change of
/// the tensors; everything else may go on, on CUDA by a stream of its own.
#[derive(Debug)]
pub struct Snapshot {
    tensors: Vec<Tensor>,
    taken: Mark,
}

impl Snapshot {
    /// Remembers contiguous f32 tensors of one device.
    pub fn take(tensors: &[&Tensor]) -> Result<Self> {
        let Some(first) = tensors.first() else {
            candle_core::bail!("a snapshot of no tensor");
        };
        Ok(Self {
            taken: Mark::record(first.device())?,
            tensors: tensors.iter().map(|&tensor| tensor.clone()).collect(),
        })
    }

    /// Waits until the device has come so far and copies the values, in the order of the tensors.
    ///
    /// # Errors
    /// When a tensor is not f32, or the device fails.
    pub fn copy(self) -> Result<Vec<Vec<f32>>> {
        self.taken.wait()?;
        #[cfg(feature = "cuda")]
        if self.tensors.iter().all(|tensor| tensor.device().is_cuda()) {
            return cuda::copy(&self.tensors);
        }
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
        self.tensors.iter().map(values).collect()
    }
}
