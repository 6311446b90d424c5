//! What a trainer may be asked.

use serde::{Deserialize, Serialize};

/// One line of `control.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Unique in the run; the answer names it.
    pub id: String,
    /// Milliseconds since the Unix epoch by the asker's clock.
    pub time_ms: i64,
    /// What is asked.
    #[serde(flatten)]
    pub kind: RequestKind,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RequestKind {
    /// Wait at the next step boundary.
    Pause,
    /// Go on.
    Continue,
    /// Write a checkpoint at the next step boundary.
    Checkpoint,
    /// Change a live key.
    Set {
        /// Dotted recipe key.
        key: String,
        /// The new value, as TOML.
        value: String,
    },
    /// Write a note into the events.
    Mark {
        /// The note.
        note: String,
    },
    /// End.
    Stop {
        /// How.
        how: StopKind,
    },
}

/// How a run shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// After the step, with a checkpoint.
    Save,
    /// After the step, without.
    Step,
    /// At once; what came after the last checkpoint is lost.
    Now,
}
