//! Moments in a device's work, between which time can be measured without waiting.

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::WrapErr;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, sys::CUevent_flags};
use candle_core::{Device, Result};

#[cfg(feature = "cuda")]
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "cuda")]
use super::graph;

/// The moment at which a device has done what was queued before; on the CPU, where nothing is queued, the moment of the call.
#[derive(Debug)]
pub struct Mark(At);

#[derive(Debug)]
enum At {
    /// The CPU's clock.
    Host(Instant),
    /// A CUDA event in the device's stream.
    #[cfg(feature = "cuda")]
    Device(Arc<CudaEvent>),
}

impl Mark {
    /// Marks the end of what is queued on `device`, without waiting for it.
    ///
    /// # Errors
    /// While a graph is recorded, which has marks of its own kind: [`graph::mark`](super::graph::mark).
    pub fn record(device: &Device) -> Result<Self> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                graph::refuse("a mark of the host's")?;
                let stream = device.cuda_stream();
                let event = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
                Ok(Self(At::Device(Arc::new(event.w()?))))
            }
            _ => Ok(Self(At::Host(Instant::now()))),
        }
    }

    /// The moment that `event` records.
    #[cfg(feature = "cuda")]
    pub(super) fn of_event(event: Arc<CudaEvent>) -> Self {
        Self(At::Device(event))
    }

    /// Whether the device has come this far.
    pub fn is_past(&self) -> Result<bool> {
        match &self.0 {
            At::Host(_) => Ok(true),
            #[cfg(feature = "cuda")]
            At::Device(event) => event.try_is_complete().w(),
        }
    }

    /// Waits until the device has come this far.
    pub fn wait(&self) -> Result<()> {
        match &self.0 {
            At::Host(_) => Ok(()),
            #[cfg(feature = "cuda")]
            At::Device(event) => event.synchronize().w(),
        }
    }

    /// Seconds by the device's own clock since `earlier`, a mark of the same device; resolution on CUDA is about half a microsecond.
    ///
    /// # Errors
    /// When the device has not come this far, or the marks are of different devices.
    pub fn seconds_since(&self, earlier: &Self) -> Result<f64> {
        match (&self.0, &earlier.0) {
            (At::Host(now), At::Host(earlier)) => Ok(now.duration_since(*earlier).as_secs_f64()),
            #[cfg(feature = "cuda")]
            (At::Device(now), At::Device(earlier)) => {
                Ok(f64::from(earlier.elapsed_ms(now).w()?) * 1e-3)
            }
            #[cfg(feature = "cuda")]
            _ => candle_core::bail!("marks of two devices have no time between them"),
        }
    }
}
