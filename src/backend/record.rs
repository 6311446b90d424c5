//! What was started for a run, noted in its directory.
//!
//! `jobs.jsonl` has a line for every start and every change of state, appended by whoever sees it. A torn last line is normal.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::BackendError;
use super::slurm::QueueState;

/// Name of the file.
pub const JOBS: &str = "jobs.jsonl";

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A job went into Slurm's queue.
    Submitted {
        /// Its number.
        job: String,
        /// The profile it was made with.
        profile: String,
        /// Milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// torchrun was started on a machine.
    Started {
        /// Its process group there.
        pid: u32,
        /// When the machine started that process, in ticks since its boot: a later process of the same number has another value.
        started: u64,
        /// The machine.
        host: String,
        /// Milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// A job in another state than before.
    State {
        /// Its number.
        job: String,
        /// How it fares.
        #[serde(flatten)]
        state: QueueState,
        /// Milliseconds since the Unix epoch.
        at_ms: i64,
    },
}

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

/// Appends a line to the notes of `run`.
pub fn note(run: &Path, entry: &Entry) -> Result<(), BackendError> {
    let path: PathBuf = run.join(JOBS);
    let failed = |source: std::io::Error| BackendError::Io {
        action: "write",
        path: path.clone(),
        source,
    };
    let mut line = serde_json::to_string(entry).map_err(|e| failed(e.into()))?;
    line.push('\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(failed)?;
    file.write_all(line.as_bytes()).map_err(failed)
}

/// All that was noted about `run`, oldest first. Lines that cannot be read are left out.
pub fn read(run: &Path) -> Vec<Entry> {
    let bytes = fs::read(run.join(JOBS)).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The start that was noted last.
pub fn newest_start(run: &Path) -> Option<Entry> {
    read(run)
        .into_iter()
        .rfind(|entry| !matches!(entry, Entry::State { .. }))
}

/// The state that was noted last for `job`.
pub fn newest_state(run: &Path, job: &str) -> Option<QueueState> {
    read(run).into_iter().rev().find_map(|entry| match entry {
        Entry::State { job: of, state, .. } if of == job => Some(state),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::slurm::JobState;

    #[test]
    fn notes_survive_a_torn_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path();
        assert_eq!(newest_start(run), None);
        let submitted = Entry::Submitted {
            job: "7".to_owned(),
            profile: "h100".to_owned(),
            at_ms: 1,
        };
        let state = QueueState::new(JobState::TimedOut);
        note(run, &submitted).expect("writable");
        note(
            run,
            &Entry::State {
                job: "7".to_owned(),
                state: state.clone(),
                at_ms: 2,
            },
        )
        .expect("writable");
        let mut file = OpenOptions::new()
            .append(true)
            .open(run.join(JOBS))
            .expect("there");
        file.write_all(b"{\"kind\":\"submi").expect("writable");
        assert_eq!(read(run).len(), 2);
        assert_eq!(newest_start(run), Some(submitted));
        assert_eq!(newest_state(run, "7"), Some(state));
        assert_eq!(newest_state(run, "8"), None);
    }
}
