//! Numbers between host and device without waiting.
//!
//! Copies to and from a GPU go through page-locked buffers that are kept and used again, so the host goes on at once: an upload is
//! queued after the work that is queued already, and a [`Readback`] is waited for when its numbers are wanted.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{DType, Device, Result, Tensor, bail};

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
