//! Samples of a process and the host it runs on.

use std::fs;
use std::time::{Duration, Instant};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::gpu::{Gpus, Source};
use crate::base::Bytes;

/// What one process uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// Resident memory.
    pub resident: Bytes,
    /// Processor time since the last sample in percent of one core.
    pub cpu_percent: f32,
}

/// What the whole machine uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Host {
    /// Memory in use.
    pub memory_used: Bytes,
    /// Memory that a process could get without swapping.
    pub memory_free: Bytes,
    /// Memory in all.
    pub memory_total: Bytes,
    /// Processor time since the last sample in percent of all cores.
    pub cpu_percent: f32,
    /// Cores.
    pub cores: usize,
}

/// The machine at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The process asked about; `None` when it is gone.
    pub process: Option<Process>,
    /// The machine; `None` where the system does not say.
    pub host: Option<Host>,
    /// Its NVIDIA GPUs, or why there are none.
    pub gpus: Gpus,
    /// How long the sample took.
    pub cost: Duration,
}

/// Takes samples; rates are those since the last one, and 0 in the first.
#[derive(Debug)]
pub struct Sampler {
    system: Option<System>,
    gpus: Source,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler {
    /// Looks for what there is to measure.
    pub fn new() -> Self {
        Self {
            system: System::new().ok(),
            gpus: Source::find(),
        }
    }

    /// The machine now, with the process `pid` if it lives on it.
    ///
    /// Takes about 40 ms a GPU with `traffic`, the counters of the bus, and one or two without.
    pub fn sample(&mut self, pid: Option<u32>, traffic: bool) -> Sample {
        let start = Instant::now();
        let mut sample = Sample {
            process: None,
            host: None,
            gpus: self.gpus.sample(traffic),
            cost: Duration::ZERO,
        };
        self.system(pid, &mut sample);
        sample.cost = start.elapsed();
        sample
    }

    fn system(&mut self, pid: Option<u32>, sample: &mut Sample) {
        let Some(system) = &mut self.system else {
            return;
        };
        system.refresh_memory();
        system.refresh_cpu_usage();
        sample.host = Some(Host {
            memory_used: Bytes(system.used_memory()),
            memory_free: Bytes(system.available_memory()),
            memory_total: Bytes(system.total_memory()),
            cpu_percent: system.global_cpu_usage(),
            cores: system.cpus().len(),
        });
        if let Some(pid) = pid.map(Pid::from_u32) {
            system.refresh_processes_specifics(
                ProcessesToUpdate::Some(&[pid]),
                true,
                ProcessRefreshKind::nothing().with_memory().with_cpu(),
            );
            sample.process = system.process(pid).map(|p| Process {
                resident: Bytes(p.memory()),
                cpu_percent: p.cpu_usage(),
            });
        }
    }
}

/// Resident bytes of this process, read in some ten microseconds; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_machine_are_seen() {
        let mut sampler = Sampler::new();
        let sample = sampler.sample(Some(std::process::id()), true);
        let process = sample.process.expect("this process lives");
        assert!(process.resident.0 > 1 << 20);
        let host = sample.host.expect("this machine says what it has");
        assert!(host.memory_total > host.memory_used && host.cores > 0);
        assert!(host.memory_free.0 > 0 && host.memory_free <= host.memory_total);
        assert!(sample.cost < Duration::from_secs(5));
        let resident = resident_bytes();
        assert!(resident > process.resident.0 / 2 && resident < process.resident.0 * 2);
    }

    #[test]
    fn a_machine_without_a_driver_says_so() {
        let first = Sampler::new().sample(None, false);
        let second = Sampler::new().sample(None, false);
        match (first.gpus, second.gpus) {
            (Ok(gpus), Ok(again)) => assert_eq!(gpus.len(), again.len()),
            (Err(why), Err(again)) => {
                assert!(why.contains("NVIDIA driver"), "{why}");
                assert_eq!(why, again);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_process_that_is_gone_is_none() {
        let mut child = std::process::Command::new("true")
            .spawn()
            .expect("`true` starts");
        child.wait().expect("`true` ends");
        assert_eq!(Sampler::new().sample(Some(child.id()), false).process, None);
    }
}
