//! Numbers between host and device without waiting.
//!
//! Copies to and from a GPU go through page-locked buffers that are kept and used again, so the host goes on at once: an upload is
//! queued after the work that is queued already, and a [`Readback`] is waited for when its numbers are wanted.

#[cfg(feature = "cuda")]
mod cuda;

use bytemuck::Pod;
use candle_core::{DType, Device, Result, Tensor, WithDType, bail};

/// Numbers on their way from a device.
#[derive(Debug)]
pub struct Readback(Numbers);

#[derive(Debug)]
enum Numbers {
    /// They were on the CPU.
    Here(Vec<f64>),
    #[cfg(feature = "cuda")]
    Coming(cuda::Copy),
}

impl Readback {
    /// Queues the copy of `numbers` as they are after the work queued so far.
    ///
    /// # Errors
    /// When the tensor is not f64 or not contiguous.
    pub fn start(numbers: &Tensor) -> Result<Self> {
        if numbers.dtype() != DType::F64 {
            bail!("readback: expected f64, found {}", numbers.dtype().as_str());
        }
        match numbers.device() {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Ok(Self(Numbers::Coming(cuda::start(device, numbers)?))),
            _ => Ok(Self(Numbers::Here(
                numbers.flatten_all()?.to_vec1::<f64>()?,
            ))),
        }
    }

    /// Whether [`wait`](Self::wait) would return at once.
    pub fn is_ready(&self) -> Result<bool> {
        match &self.0 {
            Numbers::Here(_) => Ok(true),
            #[cfg(feature = "cuda")]
            Numbers::Coming(copy) => copy.is_ready(),
        }
    }

    /// The numbers, once the device has come so far.
    pub fn wait(self) -> Result<Vec<f64>> {
        match self.0 {
            Numbers::Here(numbers) => Ok(numbers),
            #[cfg(feature = "cuda")]
            Numbers::Coming(copy) => copy.wait(),
        }
    }
}

/// `values` as a tensor `[n]` on `device`.
pub fn upload_u32(values: &[u32], device: &Device) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::upload(values, device),
        device => Tensor::from_slice(values, values.len(), device),
    }
}

/// `values` as a tensor `[n]` on `device`.
pub fn upload_f32(values: &[f32], device: &Device) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::upload(values, device),
        device => Tensor::from_slice(values, values.len(), device),
    }
}

/// Puts `values` in the place of those of `tensor`, `[n]` u32: behind the work that is queued already, and at the same address.
///
/// # Errors
/// When there are more or fewer than the tensor has, or it has another type or is not contiguous.
pub fn refill_u32(tensor: &Tensor, values: &[u32]) -> Result<()> {
    refill(tensor, values)
}

/// As [`refill_u32`], for f32.
///
/// # Errors
/// As there.
pub fn refill_f32(tensor: &Tensor, values: &[f32]) -> Result<()> {
    refill(tensor, values)
}

fn refill<T: WithDType + Pod>(tensor: &Tensor, values: &[T]) -> Result<()> {
    if tensor.elem_count() != values.len() || tensor.dtype() != T::DTYPE {
        bail!(
            "transfer: {} values of {} for a tensor of {} of {}",
            values.len(),
            T::DTYPE.as_str(),
            tensor.elem_count(),
            tensor.dtype().as_str()
        );
    }
    match tensor.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::refill(tensor, values, device),
        device => tensor.slice_set(&Tensor::from_slice(values, values.len(), device)?, 0, 0),
    }
}
