//! What each GPU does, asked question by question.

use super::driver::{Driver, Holder, Memory, Reading, Throttle};
use super::nvml;
use crate::base::Bytes;

/// What one GPU does. A number that the driver does not give says why.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Number in the driver's order.
    pub index: u32,
    /// Product name.
    pub name: Reading<String>,
    /// Share of the last moments in which a kernel ran, percent.
    pub utilization_percent: Reading<u32>,
    /// Memory, of all processes.
    pub memory: Reading<Memory>,
    /// Clock of the multiprocessors, MHz.
    pub sm_clock_mhz: Reading<u32>,
    /// Clock of the memory, MHz.
    pub memory_clock_mhz: Reading<u32>,
    /// Power drawn, watts.
    pub power_watts: Reading<f64>,
    /// Power allowed, watts.
    pub power_limit_watts: Reading<f64>,
    /// Temperature, degrees Celsius.
    pub temperature_celsius: Reading<u32>,
    /// What holds the clocks back.
    pub throttles: Reading<Vec<Throttle>>,
    /// Bytes a second sent to the host.
    pub pcie_sent: Reading<Bytes>,
    /// Bytes a second received from the host.
    pub pcie_received: Reading<Bytes>,
    /// Who computes on it.
    pub holders: Reading<Vec<Holder>>,
}

/// The GPUs of a machine, or why there are none.
pub type Gpus = Result<Vec<Gpu>, String>;

/// Asks a driver about all its GPUs.
///
/// The counters of bus traffic are measured while they are asked for, 20 ms each; `traffic` says whether they are wanted.
pub fn ask(driver: &dyn Driver, traffic: bool) -> Gpus {
    let count = driver
        .count()
        .map_err(|refusal| format!("the NVIDIA driver names no GPU: {refusal}"))?;
    Ok((0..count)
        .map(|index| gpu(driver, index, traffic))
        .collect())
}

fn gpu(driver: &dyn Driver, index: u32, traffic: bool) -> Gpu {
    let watts = |milliwatts: u32| f64::from(milliwatts) / 1000.0;
    let unasked = || Err(super::Refusal::Other("not asked".into()));
    Gpu {
        index,
        name: driver.name(index),
        utilization_percent: driver.utilization(index),
        memory: driver.memory(index),
        sm_clock_mhz: driver.sm_clock(index),
        memory_clock_mhz: driver.memory_clock(index),
        power_watts: driver.power(index).map(watts),
        power_limit_watts: driver.power_limit(index).map(watts),
        temperature_celsius: driver.temperature(index),
        throttles: driver.throttles(index),
        pcie_sent: if traffic {
            driver.pcie_sent(index)
        } else {
            unasked()
        },
        pcie_received: if traffic {
            driver.pcie_received(index)
        } else {
            unasked()
        },
        holders: driver.holders(index),
    }
}

/// The driver's library, if there is one.
#[derive(Debug)]
pub(super) struct Source(Result<Box<dyn Driver>, String>);

impl Source {
    pub(super) fn find() -> Self {
        Self(nvml::load())
    }

    pub(super) fn sample(&self, traffic: bool) -> Gpus {
        match &self.0 {
            Ok(driver) => ask(driver.as_ref(), traffic),
            Err(why) => Err(why.clone()),
        }
    }
}
