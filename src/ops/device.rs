//! The device that a model computes on: opening it, what it is, how much memory it has.
//!
//! A GPU is opened once a process and has one stream, in which all its work is queued, whatever thread queues it. Its memory comes
//! from a stream-ordered pool that keeps what is freed, so an allocation in a training step neither waits nor asks the driver.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Device, Result};

use crate::base::Bytes;

/// What a GPU is.
#[derive(Debug, Clone, PartialEq)]
pub struct Properties {
    /// As the driver names it.
    pub name: String,
    /// Major and minor number.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Memory of the whole device.
    pub memory: Bytes,
}

/// The memory of a GPU at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the pool holds for tensors, and graphs for those inside them.
    pub reserved: Bytes,
    /// Most of that since [`reset_peak`].
    pub reserved_peak: Bytes,
    /// What tensors and graphs take of that.
    pub used: Bytes,
    /// Most of that since [`reset_peak`]: the sum of both peaks, which need not be at one time.
    pub used_peak: Bytes,
    /// What nobody has taken of the device, by the driver.
    pub free: Bytes,
    /// The whole device, by the driver.
    pub total: Bytes,
}

/// GPU `ordinal`; later calls give the same device.
///
/// # Errors
/// When this build has no CUDA, or there is no such GPU.
#[cfg_attr(
    not(feature = "cuda"),
    expect(unused_variables, reason = "no GPU in this build")
)]
pub fn open(ordinal: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return cuda::open(ordinal);
    #[cfg(not(feature = "cuda"))]
    candle_core::bail!("this build has no CUDA; build it with `--features cuda`")
}

/// How many GPUs this process can open; 0 without CUDA in the build, or without a driver.
pub fn count() -> usize {
    #[cfg(feature = "cuda")]
    return cuda::count();
    #[cfg(not(feature = "cuda"))]
    0
}

/// What `device` is; nothing for the CPU.
pub fn properties(device: &Device) -> Result<Option<Properties>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::properties(device).map(Some),
        _ => Ok(None),
    }
}

/// How the memory of `device` stands, without waiting for its work; nothing for the CPU.
pub fn memory(device: &Device) -> Result<Option<Memory>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::memory(device).map(Some),
        _ => Ok(None),
    }
}

/// Lets the peaks of [`memory`] begin again at what is held now.
pub fn reset_peak(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::reset_peak(device),
        _ => Ok(()),
    }
}

/// Gives memory that the pool holds beyond its tensors back to the driver, once the queued work is done.
pub fn trim(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::trim(device),
        _ => Ok(()),
    }
}
