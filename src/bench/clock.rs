//! Times of single calls, by the device's own clock where it has one.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor};

use super::Spread;
use crate::ops;

/// Calls before the first timed one; on the CPU there is nothing to load.
const WARM_UP: usize = 3;

/// How long a GPU that may have been idle works before anything is timed: its clocks rise over tenths of a second.
const AWAKE: Duration = Duration::from_millis(500);

/// More than any GPU's second-level cache, in `f32`; writing it also takes longer than a launch.
const FLUSH: usize = 128 << 20;

/// Times calls on a device.
#[derive(Debug)]
pub(super) struct Clock {
    device: Device,
    repeat: usize,
    /// Written over before each timed call; none on the CPU.
    flush: Option<Tensor>,
}

impl Clock {
    pub(super) fn new(device: &Device, repeat: usize) -> Result<Self> {
        let flush = match device {
            Device::Cpu => None,
            _ => Some(Tensor::zeros(FLUSH, DType::F32, device)?),
        };
        if let Some(flush) = &flush {
            let begin = Instant::now();
            while begin.elapsed() < AWAKE {
                ops::fill_zero(flush)?;
                device.synchronize()?;
            }
        }
        Ok(Self {
            device: device.clone(),
            repeat: repeat.max(1),
            flush,
        })
    }

    /// Runs `call` to warm up, then as often as was asked.
    pub(super) fn time<T>(&self, mut call: impl FnMut() -> Result<T>) -> Result<Spread> {
        let warm_up = if self.flush.is_some() { WARM_UP } else { 1 };
        for _ in 0..warm_up {
            call()?;
        }
        self.device.synchronize()?;
        let mut seconds = Vec::with_capacity(self.repeat);
        for _ in 0..self.repeat {
            if let Some(flush) = &self.flush {
                ops::fill_zero(flush)?;
            }
            let (_, time) = elapsed(&self.device, &mut call)?;
            seconds.push(time);
        }
        Ok(Spread::of(seconds))
    }
}

/// A point in the work of a device.
#[derive(Debug)]
pub(super) enum Mark {
    Host(Instant),
    #[cfg(feature = "cuda")]
    Device(candle_core::cuda_backend::cudarc::driver::CudaEvent),
}

impl Mark {
    /// Behind all that is queued on `device`; on the CPU now.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::unnecessary_wraps, reason = "a GPU's clock can fail")
    )]
    pub(super) fn set(device: &Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(cuda) = device {
            use candle_core::cuda_backend::WrapErr;
            use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
            let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
            return Ok(Self::Device(cuda.cuda_stream().record_event(flags).w()?));
        }
        let _ = device;
        Ok(Self::Host(Instant::now()))
    }

    /// Seconds from this mark to a later one; both must have been passed by the device.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::unnecessary_wraps, reason = "a GPU's clock can fail")
    )]
    pub(super) fn until(&self, later: &Self) -> Result<f64> {
        match (self, later) {
            (Self::Host(start), Self::Host(end)) => Ok((*end - *start).as_secs_f64()),
            #[cfg(feature = "cuda")]
            (Self::Device(start), Self::Device(end)) => {
                use candle_core::cuda_backend::WrapErr;
                Ok(f64::from(start.elapsed_ms(end).w()?) * 1e-3)
            }
            #[cfg(feature = "cuda")]
            _ => candle_core::bail!("marks of two devices"),
        }
    }
}

/// Runs `call` and waits for its end; the seconds that the device took for it.
pub(super) fn elapsed<T>(device: &Device, call: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Mark::set(device)?;
    let result = call()?;
    let end = Mark::set(device)?;
    device.synchronize()?;
    Ok((result, start.until(&end)?))
}
