//! What a checkpoint must hold beside weights and moments so that a continued run is the unbroken one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::training;
use crate::data::Position;

use super::TrainError;
use crate::recipe::Alarm;

/// Where training stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Steps done, skipped ones included.
    pub(super) step: u64,
    /// Steps that changed the weights: what the schedule and Adam's bias correction count.
    pub(super) updates: u64,
    /// Training tokens seen.
    pub(super) tokens: u64,
    /// The next micro-batch.
    pub(super) position: Position,
    /// Keys changed while running, with their present values as TOML.
    pub(super) live: BTreeMap<String, String>,
    /// Skipped steps in all.
    pub(super) skipped: u64,
    /// Skipped steps since the last that was not.
    pub(super) non_finite_in_a_row: u64,
    /// Correct and counted positions of each MTP depth over the run.
    pub(super) acceptance: Vec<(u64, u64)>,
    /// Running means of the alerts.
    pub(super) alerts: Alarm,
}

impl Progress {
    /// The beginning of a run.
    pub(super) fn new(position: Position, mtp_depth: usize) -> Self {
        Self {
            step: 0,
            updates: 0,
            tokens: 0,
            position,
            live: BTreeMap::new(),
            skipped: 0,
            non_finite_in_a_row: 0,
            acceptance: vec![(0, 0); mtp_depth],
            alerts: Alarm::default(),
        }
    }

    /// What a checkpoint holds.
    pub(super) fn of(checkpoint: &Path) -> Result<Self, TrainError> {
        Self::from_json(training::progress(checkpoint)?, checkpoint)
    }

    /// Reads what a checkpoint says.
    pub(super) fn from_json(value: Value, checkpoint: &Path) -> Result<Self, TrainError> {
        serde_json::from_value(value).map_err(|error| TrainError::Progress {
            path: checkpoint.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Acceptance of each MTP depth over the run, in percent.
    pub(super) fn cumulative_acceptance(&self) -> Vec<f64> {
        self.acceptance
            .iter()
            .map(|&(correct, total)| 100.0 * correct as f64 / total.max(1) as f64)
            .collect()
    }
}
