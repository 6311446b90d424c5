//! Where a model computes.

use candle_core::Device;

use super::NnError;

/// The CPU, or with `cuda` the first GPU.
///
/// # Errors
/// When this build has no CUDA, or the machine has no GPU that works.
pub fn open_device(cuda: bool) -> Result<Device, NnError> {
    if !cuda {
        return Ok(Device::Cpu);
    }
    Device::new_cuda(0).map_err(|error| NnError::DeviceUnavailable {
        device: "cuda",
        reason: error.to_string(),
    })
}
