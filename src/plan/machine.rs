//! What the GPUs of a cluster and their links can do.
//!
//! The built-in machines are `assets/hardware.toml`; a user's file of the same form replaces or adds some, see [`with`].

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::Bytes;

/// The machines that come with the program.
const BUILT_IN: &str = include_str!("../../assets/hardware.toml");

/// A link between GPUs, one direction, as one GPU sees it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Bandwidth in GB/s (1e9 bytes).
    pub gb_per_second: f64,
    /// Latency of one step of a collective in microseconds.
    pub latency_us: f64,
}

impl Link {
    /// Seconds to move `bytes` in `steps` steps.
    pub fn seconds(&self, bytes: f64, steps: f64) -> f64 {
        bytes / (self.gb_per_second * 1e9) + steps * self.latency_us * 1e-6
    }
}

/// One kind of GPU in its cluster. Figures are those of one GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name on the command line: `h100`.
    pub name: String,
    /// Its name for people.
    pub gpu: String,
    /// Memory in GiB that programs can have.
    pub memory_gib: f64,
    /// Dense bf16 matrix products, TFLOP/s.
    pub peak_bf16_tflops: f64,
    /// Dense fp8 matrix products, TFLOP/s.
    pub peak_fp8_tflops: f64,
    /// Bandwidth of its memory, GB/s.
    pub hbm_gb_per_second: f64,
    /// GPUs of a node.
    pub gpus_per_node: usize,
    /// GPUs that `NVLink` joins: a node's, or several nodes' where a switch spans them.
    pub nvlink_domain: usize,
    /// The link inside a domain.
    pub nvlink: Link,
    /// The link between domains.
    pub infiniband: Link,
}

/// Why a hardware file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MachineError {
    /// It is not TOML of the right form.
    #[error("{0}")]
    Toml(String),
    /// A figure that cannot be.
    #[error("machine `{machine}`: {key} = {value}, but it must be above 0 and finite")]
    NotPositive {
        /// The machine.
        machine: String,
        /// The key.
        key: &'static str,
        /// Its value as text.
        value: String,
    },
    /// Two machines of one name in one file.
    #[error("machine `{0}` is there twice")]
    Twice(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    machine: Vec<Machine>,
}

impl Machine {
    /// Its memory.
    pub fn memory(&self) -> Bytes {
        Bytes((self.memory_gib * (1u64 << 30) as f64) as u64)
    }

    /// Peak of bf16 matrix products in FLOP/s.
    pub fn peak_bf16(&self) -> f64 {
        self.peak_bf16_tflops * 1e12
    }

    /// Peak of fp8 matrix products in FLOP/s.
    pub fn peak_fp8(&self) -> f64 {
        self.peak_fp8_tflops * 1e12
    }

    /// Bandwidth of its memory in bytes a second.
    pub fn hbm(&self) -> f64 {
        self.hbm_gb_per_second * 1e9
    }

    /// Machines of a hardware file's text, in its order. Fails on text of another form, unknown keys, figures that are not above 0.
    pub fn read(text: &str) -> Result<Vec<Self>, MachineError> {
        let file: File =
            toml::from_str(text).map_err(|error| MachineError::Toml(error.to_string()))?;
        for (index, machine) in file.machine.iter().enumerate() {
            machine.check()?;
            let before = &file.machine[..index];
            if before.iter().any(|other| other.name == machine.name) {
                return Err(MachineError::Twice(machine.name.clone()));
            }
        }
        Ok(file.machine)
    }

    fn check(&self) -> Result<(), MachineError> {
        let figures = [
            ("memory_gib", self.memory_gib),
            ("peak_bf16_tflops", self.peak_bf16_tflops),
            ("peak_fp8_tflops", self.peak_fp8_tflops),
            ("hbm_gb_per_second", self.hbm_gb_per_second),
            ("gpus_per_node", self.gpus_per_node as f64),
            ("nvlink_domain", self.nvlink_domain as f64),
            ("nvlink.gb_per_second", self.nvlink.gb_per_second),
            ("nvlink.latency_us", self.nvlink.latency_us),
            ("infiniband.gb_per_second", self.infiniband.gb_per_second),
            ("infiniband.latency_us", self.infiniband.latency_us),
        ];
        match figures
            .into_iter()
            .find(|(_, value)| !(value.is_finite() && *value > 0.0))
        {
            None => Ok(()),
            Some((key, value)) => Err(MachineError::NotPositive {
                machine: self.name.clone(),
                key,
                value: value.to_string(),
            }),
        }
    }
}

/// The machines that come with the program: `h100`, `h200`, `gb200`.
pub fn machines() -> &'static [Machine] {
    static MACHINES: LazyLock<Vec<Machine>> =
        LazyLock::new(|| Machine::read(BUILT_IN).expect("a test reads the built-in file"));
    &MACHINES
}

/// The built-in machine of a name, any case.
pub fn machine(name: &str) -> Option<&'static Machine> {
    machines()
        .iter()
        .find(|machine| machine.name.eq_ignore_ascii_case(name))
}

/// The built-in machines with a user's: one of the same name is replaced, others are added at the end.
pub fn with(own: Vec<Machine>) -> Vec<Machine> {
    let mut all = machines().to_vec();
    for machine in own {
        match all.iter_mut().find(|other| other.name == machine.name) {
            Some(other) => *other = machine,
            None => all.push(machine),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_file_has_the_three_machines() {
        let machines = Machine::read(BUILT_IN).expect("built in");
        let names: Vec<_> = machines.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["h100", "h200", "gb200"]);
        assert_eq!(machine("GB200").map(|m| m.nvlink_domain), Some(72));
    }

    #[test]
    fn a_machine_of_the_same_name_replaces_and_bad_figures_are_refused() {
        let text = BUILT_IN.replace("memory_gib = 79.6", "memory_gib = 94.0");
        let own = Machine::read(&text).expect("good");
        let all = with(vec![own[0].clone()]);
        assert_eq!(all.len(), 3);
        assert!(all[0].memory_gib > 93.0);
        for bad in ["0", "-1.0", "nan", "inf"] {
            let text = BUILT_IN.replace("memory_gib = 79.6", &format!("memory_gib = {bad}"));
            assert!(Machine::read(&text).is_err(), "{bad}");
        }
        assert!(Machine::read("[[machine]]\nname = \"x\"").is_err());
        assert!(Machine::read(&format!("{BUILT_IN}\n{BUILT_IN}")).is_err());
    }
}
