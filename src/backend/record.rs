//! What was started for a run, noted in its directory.
//!
//! `jobs.jsonl` has a line for every start and every change of state, appended by whoever sees it. A torn last line is normal.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::BackendError;
use crate::event::JobEntry;
pub use crate::event::JobEntry as Entry;
use crate::event::QueueState;
use crate::event::layout::JOBS;

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
    JobEntry::lines(&String::from_utf8_lossy(&bytes)).collect()
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
