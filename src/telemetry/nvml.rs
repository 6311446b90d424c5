//! NVIDIA's driver library, loaded at run time.

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::driver::{Driver, Holder, Memory, Reading, Refusal, Throttle};
use crate::base::Bytes;

/// The library, if the machine has it, or why it cannot be used.
pub(super) fn load() -> Result<Box<dyn Driver>, String> {
    match Nvml::init() {
        Ok(nvml) => Ok(Box::new(nvml)),
        Err(NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound) => {
            Err("no NVIDIA driver on this machine".into())
        }
        Err(NvmlError::DriverNotLoaded) => Err("the NVIDIA driver is not running".into()),
        Err(NvmlError::NoPermission) => Err("no permission to ask the NVIDIA driver".into()),
        Err(error) => Err(format!("the NVIDIA driver does not answer: {error}")),
    }
}

fn refusal(error: NvmlError) -> Refusal {
    match error {
        NvmlError::NotSupported
        | NvmlError::FunctionNotFound
        | NvmlError::FailedToLoadSymbol(_) => Refusal::Unsupported,
        NvmlError::NoPermission => Refusal::NotPermitted,
        NvmlError::GpuLost => Refusal::Lost,
        other => Refusal::Other(other.to_string()),
    }
}

fn ask<'n, T>(
    nvml: &'n Nvml,
    gpu: u32,
    question: impl FnOnce(&Device<'n>) -> Result<T, NvmlError>,
) -> Reading<T> {
    nvml.device_by_index(gpu)
        .and_then(|device| question(&device))
        .map_err(refusal)
}

/// KiB a second, which is how NVML counts, as bytes a second.
fn kib(rate: u32) -> Bytes {
    Bytes(u64::from(rate) << 10)
}

impl Driver for Nvml {
    fn count(&self) -> Reading<u32> {
        self.device_count().map_err(refusal)
    }

    fn name(&self, gpu: u32) -> Reading<String> {
        ask(self, gpu, Device::name)
    }

    fn utilization(&self, gpu: u32) -> Reading<u32> {
        ask(self, gpu, |d| d.utilization_rates().map(|rates| rates.gpu))
    }

    fn memory(&self, gpu: u32) -> Reading<Memory> {
        let memory = ask(self, gpu, Device::memory_info)?;
        Ok(Memory {
            used: Bytes(memory.used),
            free: Bytes(memory.free),
            total: Bytes(memory.total),
        })
    }

    fn sm_clock(&self, gpu: u32) -> Reading<u32> {
        ask(self, gpu, |d| d.clock_info(Clock::SM))
    }

    fn memory_clock(&self, gpu: u32) -> Reading<u32> {
        ask(self, gpu, |d| d.clock_info(Clock::Memory))
    }

    fn power(&self, gpu: u32) -> Reading<u32> {
        ask(self, gpu, Device::power_usage)
    }

    fn power_limit(&self, gpu: u32) -> Reading<u32> {
        ask(self, gpu, Device::enforced_power_limit)
    }

    fn temperature(&self, gpu: u32) -> Reading<u32> {
        ask(self, gpu, |d| d.temperature(TemperatureSensor::Gpu))
    }

    fn throttles(&self, gpu: u32) -> Reading<Vec<Throttle>> {
        let reasons = ask(self, gpu, Device::current_throttle_reasons)?;
        let names = [
            (ThrottleReasons::GPU_IDLE, Throttle::Idle),
            (
                ThrottleReasons::APPLICATIONS_CLOCKS_SETTING,
                Throttle::Setting,
            ),
            (ThrottleReasons::DISPLAY_CLOCK_SETTING, Throttle::Setting),
            (ThrottleReasons::SW_POWER_CAP, Throttle::PowerCap),
            (ThrottleReasons::SW_THERMAL_SLOWDOWN, Throttle::Thermal),
            (
                ThrottleReasons::HW_THERMAL_SLOWDOWN,
                Throttle::HardwareThermal,
            ),
            (
                ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN,
                Throttle::PowerBrake,
            ),
            (ThrottleReasons::HW_SLOWDOWN, Throttle::HardwareSlowdown),
            (ThrottleReasons::SYNC_BOOST, Throttle::SyncBoost),
        ];
        let mut throttles: Vec<Throttle> = names
            .into_iter()
            .filter(|(bit, _)| reasons.contains(*bit))
            .map(|(_, throttle)| throttle)
            .collect();
        throttles.dedup();
        Ok(throttles)
    }

    fn pcie_sent(&self, gpu: u32) -> Reading<Bytes> {
        ask(self, gpu, |d| d.pcie_throughput(PcieUtilCounter::Send)).map(kib)
    }

    fn pcie_received(&self, gpu: u32) -> Reading<Bytes> {
        ask(self, gpu, |d| d.pcie_throughput(PcieUtilCounter::Receive)).map(kib)
    }

    fn holders(&self, gpu: u32) -> Reading<Vec<Holder>> {
        let processes = ask(self, gpu, Device::running_compute_processes)?;
        let holder = |process: nvml_wrapper::struct_wrappers::device::ProcessInfo| Holder {
            pid: process.pid,
            memory: match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
                UsedGpuMemory::Unavailable => None,
            },
        };
        Ok(processes.into_iter().map(holder).collect())
    }
}
