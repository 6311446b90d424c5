//! How long each phase of a step took, by the clock of the device that did it.

use std::collections::BTreeMap;

use candle_core::{Device, Result};

use crate::ops::Mark;

/// Marks of one step, in the order of its work.
#[derive(Debug)]
pub(super) struct Clock {
    device: Device,
    start: Mark,
    /// Name of the phase that ended, and where.
    ends: Vec<(&'static str, Mark)>,
}

impl Clock {
    /// The step begins now.
    pub(super) fn start(device: &Device) -> Result<Self> {
        Ok(Self {
            device: device.clone(),
            start: Mark::record(device)?,
            ends: Vec::with_capacity(16),
        })
    }

    /// What was queued since the last call, or the start, was a part of `phase`.
    pub(super) fn ended(&mut self, phase: &'static str) -> Result<()> {
        self.ends.push((phase, Mark::record(&self.device)?));
        Ok(())
    }

    /// A part of `phase` ends at `mark`.
    pub(super) fn ended_at(&mut self, phase: &'static str, mark: Mark) {
        self.ends.push((phase, mark));
    }

    /// Whether the device is done with the phase that ended last.
    pub(super) fn is_past(&self) -> Result<bool> {
        self.ends
            .last()
            .map_or(Ok(true), |(_, mark)| mark.is_past())
    }

    /// Waits for the phases and adds them up.
    pub(super) fn read(self) -> Result<Times> {
        let mut phases = BTreeMap::new();
        let mut before = &self.start;
        for (phase, mark) in &self.ends {
            *phases.entry(*phase).or_insert(0.0) += mark.seconds_since(before)?;
            before = mark;
        }
        let mut ends = self.ends;
        Ok(Times {
            phases,
            end: ends.pop().map(|(_, mark)| mark),
            start: self.start,
        })
    }
}

/// What a [`Clock`] measured.
#[derive(Debug)]
pub(super) struct Times {
    /// Seconds by phase.
    pub(super) phases: BTreeMap<&'static str, f64>,
    /// Where the step began.
    pub(super) start: Mark,
    /// Where its last phase ended.
    pub(super) end: Option<Mark>,
}
