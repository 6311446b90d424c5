//! How a launched run fares, and what can be done about it: stopped, cancelled, submitted again.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::foreign::Mirror;
use super::record::{self, Entry};
use super::slurm::{JobState, QueueState, Slurm};
use super::{BackendError, script, torchrun};
use crate::event::{Launched, layout};
use crate::run::RunDirectory;

/// How long torchrun may take for a last checkpoint.
const PATIENCE: Duration = Duration::from_mins(5);

/// Why a run cannot be steered.
#[derive(Debug, Error)]
pub enum SteerError {
    /// It was started on another machine.
    #[error("{run} runs on {host}; it can be stopped there")]
    Elsewhere {
        /// The run.
        run: String,
        /// The machine.
        host: String,
    },
    /// It has no script.
    #[error("{} is missing", .0.display())]
    NoScript(std::path::PathBuf),
    /// It has not ended.
    #[error("{run} {}", state.words())]
    NotOver {
        /// The run.
        run: String,
        /// How it fares.
        state: JobState,
    },
    /// A tool failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Whether a run ends with a last checkpoint or at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A last checkpoint, then the end.
    Saved,
    /// Now; what it did since its last checkpoint is lost.
    AtOnce,
}

/// How the start `entry` of the run at `folder` fares.
pub fn state(folder: &Path, entry: &Entry, slurm: &Slurm) -> QueueState {
    match entry {
        Entry::Submitted { job, .. } | Entry::State { job, .. } => slurm.state(job, folder),
        Entry::Started {
            pid, started, host, ..
        } => {
            if *host != torchrun::host() {
                return QueueState {
                    reason: Some(format!("it runs on {host}")),
                    ..QueueState::new(JobState::Other)
                };
            }
            let (state, exit_code) = match torchrun::state(folder, *pid, *started) {
                torchrun::State::Running => (JobState::Running, None),
                torchrun::State::Ended(0) => (JobState::Completed, Some(0)),
                torchrun::State::Ended(code) => (JobState::Failed, Some(code)),
                torchrun::State::Gone => (JobState::Vanished, None),
            };
            QueueState {
                exit_code,
                ..QueueState::new(state)
            }
        }
    }
}

/// Notes a state that differs from the one before; what nobody could be asked about is not noted. Says whether it was new.
pub fn note_change(folder: &Path, entry: &Entry, state: &QueueState) -> Result<bool, BackendError> {
    let job = entry.job();
    if state.state == JobState::Unreachable
        || record::newest_state(folder, &job).as_ref() == Some(state)
    {
        return Ok(false);
    }
    let state = state.clone();
    let at_ms = record::now_ms();
    record::note(folder, &Entry::State { job, state, at_ms })?;
    Ok(true)
}

/// Asks how the last start of the run at `folder` fares and notes it, unless its end was noted already. `None` if nothing was launched.
pub fn refresh(folder: &Path, slurm: &Slurm) -> Option<QueueState> {
    let text = std::fs::read_to_string(folder.join(layout::JOBS)).ok()?;
    let launched = Launched::of(&text)?;
    if launched.is_over() {
        return launched.state;
    }
    let now = state(folder, &launched.start, slurm);
    // What cannot be noted is still known.
    let _ = note_change(folder, &launched.start, &now);
    Some(now)
}

/// Takes what the console of a launched run says into its events, so that lists and charts know it. Another process may be at it; a console that
/// cannot be read now may be back at the next look.
pub fn read_console(run: &Path, mirror: &mut Option<Mirror>, nothing_follows: bool) {
    if mirror.is_none() {
        *mirror = Mirror::of_run(run).ok();
    }
    if let Some(mirror) = mirror {
        let _ = mirror.poll();
        if nothing_follows {
            let _ = mirror.settle(true);
        }
    }
}

/// Ends the start `entry` of `run`. torchrun is waited for, a job of Slurm is not.
pub fn end(
    run: &RunDirectory,
    entry: &Entry,
    how: Ending,
    slurm: &Slurm,
) -> Result<(), SteerError> {
    match entry {
        Entry::Submitted { job, .. } | Entry::State { job, .. } => {
            // A job that has not begun has nothing to save, and no shell to hear a signal.
            let waits = || slurm.state(job, &run.path).state == JobState::Pending;
            if how == Ending::AtOnce || waits() {
                slurm.cancel(job)?;
            } else {
                slurm.stop(job)?;
            }
        }
        Entry::Started {
            pid, started, host, ..
        } => {
            if *host != torchrun::host() {
                return Err(SteerError::Elsewhere {
                    run: run.id().to_owned(),
                    host: host.clone(),
                });
            }
            let patience = match how {
                Ending::Saved => PATIENCE,
                Ending::AtOnce => Duration::ZERO,
            };
            torchrun::stop(*pid, *started, patience);
        }
    }
    Ok(())
}

/// Starts the script of a run that ended once more; it goes on from its last checkpoint.
pub fn resubmit(run: &RunDirectory, slurm: &Slurm) -> Result<Entry, SteerError> {
    let path = run.join(script::SCRIPT);
    if !path.is_file() {
        return Err(SteerError::NoScript(path));
    }
    let newest = record::newest_start(&run.path);
    if let Some(entry) = &newest {
        let now = state(&run.path, entry, slurm);
        if !now.state.is_final() {
            return Err(SteerError::NotOver {
                run: run.id().to_owned(),
                state: now.state,
            });
        }
        note_change(&run.path, entry, &now)?;
    }
    // A script for Slurm says so in its head, also where nothing was noted because the first try failed.
    let is_slurm = match &newest {
        Some(Entry::Started { .. }) => false,
        Some(_) => true,
        None => std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\n#SBATCH ")),
    };
    let profile = match newest {
        Some(Entry::Submitted { profile, .. }) => profile,
        _ => String::new(),
    };
    let entry = if is_slurm {
        Entry::Submitted {
            job: slurm.submit(&path)?,
            profile,
            at_ms: record::now_ms(),
        }
    } else {
        torchrun::start(&run.path, &path)?
    };
    record::note(&run.path, &entry)?;
    Ok(entry)
}
