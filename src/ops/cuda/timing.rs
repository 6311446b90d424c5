//! How long each kernel took, by the device's own clock.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream};
use candle_core::{Device, Result};

/// One launch and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel's name, without its element type.
    pub name: String,
    /// From its start to its end.
    pub seconds: f64,
}

struct Launch {
    name: String,
    start: CudaEvent,
    end: CudaEvent,
}

thread_local! {
    static LAUNCHES: RefCell<Option<Vec<Launch>>> = const { RefCell::new(None) };
}

/// Runs `work` and times every kernel of `kernels/*.cu` that it launches on `device` from this thread, in their order.
///
/// An event before and one after each launch: the times hold no host time, no allocation, no filling of outputs.
pub fn kernel_times<R>(
    device: &Device,
    work: impl FnOnce() -> Result<R>,
) -> Result<(R, Vec<KernelTime>)> {
    LAUNCHES.set(Some(Vec::new()));
    let result = work();
    let launches = LAUNCHES.take().unwrap_or_default();
    let result = result?;
    device.synchronize()?;
    let times = launches
        .into_iter()
        .map(|launch| {
            let seconds = f64::from(launch.start.elapsed_ms(&launch.end).w()?) * 1e-3;
            Ok(KernelTime {
                name: launch.name,
                seconds,
            })
        })
        .collect::<Result<_>>()?;
    Ok((result, times))
}

/// Does the launch, between two events when this thread is being timed.
pub(super) fn around(
    stream: &Arc<CudaStream>,
    name: &str,
    launch: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if !LAUNCHES.with_borrow(Option::is_some) {
        return launch();
    }
    let event = || {
        stream
            .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
            .w()
    };
    let start = event()?;
    launch()?;
    let end = event()?;
    LAUNCHES.with_borrow_mut(|launches| {
        if let Some(launches) = launches {
            launches.push(Launch {
                name: name.to_owned(),
                start,
                end,
            });
        }
    });
    Ok(())
}
