//! What a trainer said about itself when it took the run up.

use crate::event::{Event, MemoryTerm};

/// The last `started` of a run, as far as the screen shows it. What an older trainer did not say is empty or 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Host that trains.
    pub host: String,
    /// What trains, in the trainer's words.
    pub device: String,
    /// Every device by name.
    pub devices: Vec<String>,
    /// Number formats.
    pub precision: String,
    /// Model FLOPs of one token, forward and backward; 0 when unknown.
    pub flops_per_token: f64,
    /// How they are counted.
    pub flops_formula: String,
    /// FLOP/s of one device that utilisation divides by; 0 when unknown.
    pub peak_flops: f64,
    /// What that peak is.
    pub peak_name: String,
    /// Memory as planned before the first step.
    pub plan: Vec<MemoryTerm>,
}

impl Facts {
    /// Takes over what a record says; only `started` says something.
    pub fn take(&mut self, event: &Event) {
        let Event::Started {
            host,
            device,
            devices,
            precision,
            flops_per_token,
            flops_formula,
            peak_flops,
            peak_name,
            memory_plan,
            ..
        } = event
        else {
            return;
        };
        let known = |value: f64| if value.is_finite() { value } else { 0.0 };
        *self = Self {
            host: host.clone(),
            device: device.clone(),
            devices: devices.clone(),
            precision: precision.clone(),
            flops_per_token: known(*flops_per_token),
            flops_formula: flops_formula.clone(),
            peak_flops: known(*peak_flops),
            peak_name: peak_name.clone(),
            plan: memory_plan.clone().unwrap_or_default(),
        };
    }

    /// GPUs that train; 0 on a CPU.
    pub fn gpus(&self) -> usize {
        let is_gpu = |name: &str| name.starts_with("cuda") || name.contains("NVIDIA");
        match self.devices.iter().filter(|name| is_gpu(name)).count() {
            0 => usize::from(is_gpu(&self.device)),
            count => count,
        }
    }

    /// Planned bytes of a term.
    pub fn planned(&self, name: &str) -> Option<u64> {
        let term = self.plan.iter().find(|term| term.name == name);
        term.and_then(|term| term.planned)
    }

    /// Planned bytes in all; `None` without a plan.
    pub fn planned_total(&self) -> Option<u64> {
        let terms = self.plan.iter().filter_map(|term| term.planned);
        (!self.plan.is_empty()).then(|| terms.sum())
    }
}
