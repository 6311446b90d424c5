//! Whether a trainer is at work on a run, and how it ended.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::watched::{moves, watched};
use crate::event::layout;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Status {
    /// No trainer has taken it up yet.
    New,
    /// A job for it waits in a queue.
    Queued,
    /// A trainer works on it.
    Running,
    /// A trainer holds it and waits.
    Paused,
    /// All steps are done.
    Completed,
    /// Ended on request.
    Stopped,
    /// Ended by an error.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// The trainer is gone and did not say why.
    Killed,
    /// Another program trains it, whose files are silent for longer than they ever were; its end was not said.
    Stale,
}

impl Status {
    /// Whether a trainer holds the run.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// One word: `new`, `queued`, `running`, `paused`, `done`, `stopped`, `failed`, `killed`, `stale`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "done",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
            Self::Killed => "killed",
            Self::Stale => "stale",
        }
    }
}

/// Whether a trainer holds the lock of the run at `path`, or another program still writes what it repeats.
///
/// The question takes a shared lock for an instant; a trainer that starts just then has to try again, as the trainer does.
pub fn is_live(path: &Path) -> bool {
    let lock = OpenOptions::new().read(true).open(path.join(layout::LOCK));
    let is_held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    lock.is_ok_and(is_held) || watched(path).is_some_and(|watched| moves(path, &watched))
}
