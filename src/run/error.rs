//! What can go wrong with a run directory.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// What can go wrong with a run directory.
#[derive(Debug, Error)]
pub enum RunError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "create", "read".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder lacks a readable `run.json`.
    #[error("{} is not a run: {reason}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// No run has that name.
    #[error("no run `{wanted}` in {}", runs.display())]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// The folder of runs.
        runs: PathBuf,
    },
    /// Several runs begin like that.
    #[error("`{wanted}` could be {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Ids that begin with it.
        candidates: Vec<String>,
    },
    /// Nobody answered a request in time.
    #[error("no answer to {request} within {seconds:.1} s")]
    NoAnswer {
        /// Id of the request.
        request: String,
        /// How long was waited.
        seconds: f64,
    },
    /// The trainer ended before it answered.
    #[error("the trainer ended without an answer to {request}")]
    Ended {
        /// Id of the request.
        request: String,
    },
}

/// Adds what was tried on which path to an error of the system.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, RunError>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, RunError> {
        self.map_err(|source| RunError::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
