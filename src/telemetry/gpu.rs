//! NVIDIA GPUs through NVML, which is loaded at run time and may be absent.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

use crate::base::Bytes;

/// What one GPU does. A number that the driver does not give is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Number in the driver's order.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// Share of time in which a kernel ran, percent.
    pub utilization_percent: Option<u32>,
    /// Memory in use by all processes.
    pub memory_used: Bytes,
    /// Memory in all.
    pub memory_total: Bytes,
    /// Power drawn, watts.
    pub power_watts: Option<f64>,
    /// Temperature, degrees Celsius.
    pub temperature_celsius: Option<u32>,
    /// Clock of the multiprocessors, MHz.
    pub clock_mhz: Option<u32>,
}

/// The driver's library, if there is one.
#[derive(Debug)]
pub(super) struct Gpus(Option<Nvml>);

impl Gpus {
    pub(super) fn find() -> Self {
        Self(Nvml::init().ok())
    }

    pub(super) fn sample(&self) -> Vec<Gpu> {
        let Some(nvml) = &self.0 else {
            return vec![];
        };
        let count = nvml.device_count().unwrap_or(0);
        (0..count).filter_map(|index| sample(nvml, index)).collect()
    }
}

fn sample(nvml: &Nvml, index: u32) -> Option<Gpu> {
    let device = nvml.device_by_index(index).ok()?;
    let memory = device.memory_info().ok()?;
    Some(Gpu {
        index,
        name: device.name().unwrap_or_default(),
        utilization_percent: device.utilization_rates().ok().map(|u| u.gpu),
        memory_used: Bytes(memory.used),
        memory_total: Bytes(memory.total),
        power_watts: device.power_usage().ok().map(|mw| f64::from(mw) / 1000.0),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        clock_mhz: device.clock_info(Clock::SM).ok(),
    })
}
