//! The machine as it was in the last minutes: what the pane of devices draws.

use std::collections::VecDeque;

use crate::telemetry::{Gpu, Sample};

/// Samples kept of each line, one a second while a trainer works.
const KEPT: usize = 600;

/// The last values of one number, oldest first; `None` where nobody said it.
#[derive(Debug, Clone, Default)]
pub struct Track(VecDeque<Option<f32>>);

impl Track {
    fn push(&mut self, value: Option<f32>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The last `count` values, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = Option<f32>> {
        let skip = self.0.len().saturating_sub(count);
        self.0.iter().skip(skip).copied()
    }

    /// Values kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One GPU's last minutes, each as a share of what it can be at most.
#[derive(Debug, Clone, Default)]
pub struct Tracks {
    /// Time with a kernel.
    pub utilization: Track,
    /// Memory in use of all memory.
    pub memory: Track,
    /// Power of the limit.
    pub power: Track,
    /// Clock of the multiprocessors, of the highest seen.
    pub clock: Track,
    highest_clock: u32,
}

impl Tracks {
    fn push(&mut self, gpu: &Gpu) {
        let utilization = gpu.utilization_percent.as_ref().ok();
        self.utilization
            .push(utilization.map(|&percent| percent as f32 / 100.0));
        let memory = gpu.memory.as_ref().ok();
        self.memory
            .push(memory.map(|m| share(m.used.0 as f64, m.total.0 as f64)));
        let power = gpu.power_watts.as_ref().ok();
        let limit = gpu.power_limit_watts.as_ref().ok();
        self.power
            .push(power.zip(limit).map(|(&power, &limit)| share(power, limit)));
        let clock = gpu.sm_clock_mhz.as_ref().ok().copied();
        self.highest_clock = self.highest_clock.max(clock.unwrap_or(0));
        let highest = f64::from(self.highest_clock);
        self.clock
            .push(clock.map(|clock| share(f64::from(clock), highest)));
    }
}

fn share(part: f64, whole: f64) -> f32 {
    if whole > 0.0 {
        (part / whole) as f32
    } else {
        0.0
    }
}

/// The machine that the workbench runs on.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Its name; empty before the first sample.
    pub name: String,
    /// The last sample.
    pub now: Option<Sample>,
    /// The last minutes of each GPU.
    pub gpus: Vec<Tracks>,
    /// The last minutes of the processors.
    pub cpu: Track,
    /// The last minutes of the host's memory.
    pub memory: Track,
}

impl Machine {
    /// Takes up a sample of the machine `name`.
    pub fn push(&mut self, name: String, sample: Sample) {
        self.name = name;
        let host = sample.host.as_ref();
        self.cpu.push(host.map(|h| h.cpu_percent / 100.0));
        self.memory
            .push(host.map(|h| share(h.memory_used.0 as f64, h.memory_total.0 as f64)));
        if let Ok(gpus) = &sample.gpus {
            self.gpus.resize_with(gpus.len(), Tracks::default);
            for (tracks, gpu) in self.gpus.iter_mut().zip(gpus) {
                tracks.push(gpu);
            }
        }
        self.now = Some(sample);
    }

    /// The GPUs of the last sample.
    pub fn devices(&self) -> &[Gpu] {
        match self.now.as_ref().map(|sample| &sample.gpus) {
            Some(Ok(gpus)) => gpus,
            _ => &[],
        }
    }

    /// What hinders a GPU, worst last, with its number: a thermal limit, a power cap.
    pub fn hindered(&self) -> impl Iterator<Item = (u32, crate::telemetry::Throttle)> {
        self.devices().iter().flat_map(|gpu| {
            let throttles = gpu.throttles.iter().flatten();
            throttles
                .filter(|throttle| throttle.is_bad())
                .map(|&throttle| (gpu.index, throttle))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_keeps_the_newest() {
        let mut track = Track::default();
        for i in 0..KEPT + 5 {
            track.push(Some(i as f32));
        }
        assert_eq!(track.len(), KEPT);
        let last: Vec<_> = track.last(2).collect();
        assert_eq!(last, [Some((KEPT + 3) as f32), Some((KEPT + 4) as f32)]);
        assert_eq!(track.last(usize::MAX).count(), KEPT);
    }
}
