//! Work of a GPU that is recorded once and then launched as a whole, again and again.
//!
//! A CUDA graph holds kernels with their arguments: addresses and counts of the time of the recording. So what a recording reads and
//! leaves must lie in tensors made before it and alive as long as the graph; tensors made inside must be dropped inside, and get memory
//! that is the graph's own. Nothing may wait for the device, or come from the host, while it is recorded: that is an error, after which
//! the device is as it was before, and none of the work was done.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Device, Error, Result};

use super::Mark;
#[cfg(feature = "cuda")]
use super::device::Memory;

/// Recorded work.
#[derive(Debug)]
pub struct Graph {
    #[cfg(feature = "cuda")]
    recorded: cuda::Recorded,
    /// Nobody can have one.
    #[cfg(not(feature = "cuda"))]
    recorded: std::convert::Infallible,
}

impl Graph {
    /// Records what `work` queues on `device` from this thread, without doing it. What `work` returns must hold no tensor that it made.
    ///
    /// # Errors
    /// What `work` says; when it did something that cannot be recorded or left a tensor behind; always on the CPU.
    pub fn record<R, E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<R, E>,
    ) -> std::result::Result<(Self, R), E> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let (recorded, result) = cuda::record(device, work)?;
                Ok((Self { recorded }, result))
            }
            _ => {
                let _ = work;
                Err(Error::Msg("only a GPU has graphs".to_owned()).into())
            }
        }
    }

    /// Queues all of the work. The marks are those that it was recorded with, in their order.
    ///
    /// # Errors
    /// When the device has not the memory that was recorded, or failed before.
    pub fn launch(&mut self) -> Result<Vec<Mark>> {
        #[cfg(feature = "cuda")]
        return self.recorded.launch();
        #[cfg(not(feature = "cuda"))]
        match self.recorded {}
    }

    /// Kernels, copies, allocations and marks.
    pub fn nodes(&self) -> usize {
        #[cfg(feature = "cuda")]
        return self.recorded.nodes();
        #[cfg(not(feature = "cuda"))]
        match self.recorded {}
    }
}

/// Inside a recording: a mark here, for every [`Graph::launch`].
///
/// # Errors
/// When nothing is recorded by this thread.
pub fn mark(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::mark(device),
        _ => Err(Error::Msg("only a GPU has graphs".to_owned())),
    }
}

/// Gives memory of graphs back that do not run now; they take it again at their next launch.
pub fn trim(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::trim(device),
        _ => Ok(()),
    }
}

/// Fails while this thread records a graph: `what` waits for the device, or comes from the host.
#[cfg(feature = "cuda")]
pub(super) fn refuse(what: &str) -> Result<()> {
    if cuda::is_recording() {
        candle_core::bail!("{what} cannot be part of a graph");
    }
    Ok(())
}

/// Adds what graphs hold to the figures of the pool.
#[cfg(feature = "cuda")]
pub(super) fn add_memory(device: &candle_core::CudaDevice, pool: Memory) -> Result<Memory> {
    cuda::add_memory(device, pool)
}

/// Lets the peaks of graphs begin again at what they hold now.
#[cfg(feature = "cuda")]
pub(super) fn reset_peak(device: &candle_core::CudaDevice) -> Result<()> {
    cuda::reset_peak(device)
}
