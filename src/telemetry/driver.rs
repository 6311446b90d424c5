//! What is asked of a GPU's driver, and how it may refuse.
//!
//! [`Driver`] has two implementations: NVML, and one in the tests that refuses whatever it is told to.

use std::fmt;

use crate::base::Bytes;

/// Why a driver gives no number. Every one of them is an ordinary state of some machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This device or driver does not have it.
    Unsupported,
    /// The user may not ask for it.
    NotPermitted,
    /// The device fell off the bus.
    Lost,
    /// Something else, in the driver's words.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unsupported => "not supported",
            Self::NotPermitted => "not permitted",
            Self::Lost => "GPU lost",
            Self::Other(why) => why,
        })
    }
}

/// A number, or why there is none.
pub type Reading<T> = Result<T, Refusal>;

/// A device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use by all processes.
    pub used: Bytes,
    /// What a process could still get, before fragmentation.
    pub free: Bytes,
    /// In all.
    pub total: Bytes,
}

/// A process that has a device open for computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its id, as the driver sees it: from inside a container it may be another than the process itself sees.
    pub pid: u32,
    /// Its memory on the device; `None` if the driver does not say.
    pub memory: Option<Bytes>,
}

/// Why a GPU's clocks are below what they could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Throttle {
    /// Nothing to do.
    Idle,
    /// Somebody set the clocks.
    Setting,
    /// The power limit, in software.
    PowerCap,
    /// Too hot, in software: half measures.
    Thermal,
    /// Too hot, in hardware: clocks at half or below.
    HardwareThermal,
    /// The power supply asked for less.
    PowerBrake,
    /// Hardware slowdown for heat, power or the supply.
    HardwareSlowdown,
    /// Another GPU of its group is slower.
    SyncBoost,
}

impl Throttle {
    /// Whether work is slowed down by something that somebody should look at.
    pub fn is_bad(self) -> bool {
        !matches!(self, Self::Idle | Self::Setting | Self::SyncBoost)
    }

    /// A word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Setting => "clocks set",
            Self::PowerCap => "power cap",
            Self::Thermal => "thermal",
            Self::HardwareThermal => "hw thermal",
            Self::PowerBrake => "power brake",
            Self::HardwareSlowdown => "hw slowdown",
            Self::SyncBoost => "sync boost",
        }
    }
}

/// What is asked of a driver; `gpu` counts from 0 in the driver's order.
pub trait Driver: fmt::Debug + Send {
    /// How many GPUs there are.
    fn count(&self) -> Reading<u32>;
    /// Product name.
    fn name(&self, gpu: u32) -> Reading<String>;
    /// Share of the last moments in which a kernel ran, percent.
    fn utilization(&self, gpu: u32) -> Reading<u32>;
    /// Memory.
    fn memory(&self, gpu: u32) -> Reading<Memory>;
    /// Clock of the multiprocessors, MHz.
    fn sm_clock(&self, gpu: u32) -> Reading<u32>;
    /// Clock of the memory, MHz.
    fn memory_clock(&self, gpu: u32) -> Reading<u32>;
    /// Power drawn, milliwatts.
    fn power(&self, gpu: u32) -> Reading<u32>;
    /// Power allowed, milliwatts.
    fn power_limit(&self, gpu: u32) -> Reading<u32>;
    /// Temperature, degrees Celsius.
    fn temperature(&self, gpu: u32) -> Reading<u32>;
    /// What holds the clocks back; empty if nothing does.
    fn throttles(&self, gpu: u32) -> Reading<Vec<Throttle>>;
    /// Bytes a second sent to the host over the last 20 ms, which the question takes.
    fn pcie_sent(&self, gpu: u32) -> Reading<Bytes>;
    /// Bytes a second received from the host, likewise.
    fn pcie_received(&self, gpu: u32) -> Reading<Bytes>;
    /// Who computes on it.
    fn holders(&self, gpu: u32) -> Reading<Vec<Holder>>;
}
