//! A job in Slurm: submitted, followed, cancelled, through the programs that every user of a cluster has.
//!
//! Slurm's daemons may be slow or down, and its memory of a job that ended is short. So a question has a time limit, an answer may be
//! "not reachable", and what the queue has forgotten is looked up in the accounting, then in what the script itself left behind.

mod reply;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::tool::{Answer, ask};
use super::{BackendError, script};
pub use crate::event::{JobState, QueueState};

/// How many scripts were tried so far, for their names.
static TESTS: AtomicU64 = AtomicU64::new(0);

/// How long a program of Slurm may take. Slurm's own limit for a message is 10 s, and the programs try more than once.
const LIMIT: Duration = Duration::from_secs(30);

/// Slurm's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slurm {
    /// Variables for the programs, such as `SLURM_CONF` for a cluster that is not the system's.
    pub environment: Vec<(String, PathBuf)>,
    /// How long a program may take.
    pub limit: Duration,
}

impl Default for Slurm {
    fn default() -> Self {
        Self {
            environment: Vec::new(),
            limit: LIMIT,
        }
    }
}

impl Slurm {
    fn run(&self, words: &[&str]) -> Result<Answer, BackendError> {
        let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .env("LC_ALL", "C")
            // Formats and options of the user's own would change the answers.
            .env_remove("SQUEUE_FORMAT")
            .env_remove("SQUEUE_FORMAT2")
            .env_remove("SQUEUE_STATES")
            .env_remove("SACCT_FORMAT")
            .env_remove("SLURM_TIME_FORMAT");
        ask(command, self.limit)
    }

    /// Whether Slurm's programs are there.
    pub fn is_installed() -> bool {
        ["sbatch", "squeue", "scancel", "scontrol"]
            .iter()
            .all(|name| super::tool::is_installed(name))
    }

    /// Hands the script at `path` to the queue and returns the job's number.
    ///
    /// If `sbatch` takes too long the job may be in the queue all the same; it is looked up by its folder, so that nobody submits it twice.
    pub fn submit(&self, path: &Path) -> Result<String, BackendError> {
        let text = path.to_string_lossy();
        match self.run(&["sbatch", "--parsable", &text]) {
            Ok(answer) if answer.success => {
                reply::job_number(&answer.out).ok_or_else(|| BackendError::Refused {
                    action: "sbatch".to_owned(),
                    reason: format!("an answer without a number: {}", answer.out.trim()),
                })
            }
            Ok(answer) => Err(BackendError::Refused {
                action: "sbatch".to_owned(),
                reason: reply::reason(&answer),
            }),
            Err(slow @ BackendError::Slow { .. }) => path
                .parent()
                .and_then(|folder| self.find_by_folder(folder))
                .ok_or(slow),
            Err(error) => Err(error),
        }
    }

    /// Asks what Slurm would say to a script, without submitting it.
    pub fn test(&self, script: &str) -> Result<(), BackendError> {
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("trestle-{}-{number}.sh", std::process::id());
        let path = std::env::temp_dir().join(name);
        let io = |source| BackendError::Io {
            action: "write",
            path: path.clone(),
            source,
        };
        std::fs::write(&path, script).map_err(io)?;
        let answer = self.run(&["sbatch", "--test-only", &path.to_string_lossy()]);
        let _ = std::fs::remove_file(&path);
        let answer = answer?;
        if answer.success {
            return Ok(());
        }
        Err(BackendError::Refused {
            action: "sbatch --test-only".to_owned(),
            reason: reply::reason(&answer),
        })
    }

    /// The newest job of this user whose working directory is `folder`.
    fn find_by_folder(&self, folder: &Path) -> Option<String> {
        let answer = self
            .run(&["squeue", "--me", "--noheader", "--format=%i %Z"])
            .ok()?;
        answer.out.lines().rev().find_map(|line| {
            let (job, directory) = line.trim().split_once(' ')?;
            (Path::new(directory) == folder).then(|| job.to_owned())
        })
    }

    /// How `job` fares. `folder` is its run directory, where its script notes its end.
    pub fn state(&self, job: &str, folder: &Path) -> QueueState {
        let format = "--format=%T|%r|%N|%S|%V";
        let list = format!("--jobs={job}");
        let unreachable = |reason: String| QueueState {
            reason: Some(reason),
            ..QueueState::new(JobState::Unreachable)
        };
        let answer = match self.run(&["squeue", "--noheader", "--states=all", &list, format]) {
            Ok(answer) => answer,
            Err(error) => return unreachable(error.to_string()),
        };
        if let Some(state) = reply::squeue(&answer.out) {
            return match state.state {
                // `squeue` does not say the exit code.
                JobState::Failed => QueueState {
                    exit_code: noted_exit(folder, job).or_else(|| self.exit_code(job)),
                    ..state
                },
                _ => state,
            };
        }
        if !answer.success && !answer.error.contains("Invalid job id") {
            return unreachable(reply::reason(&answer));
        }
        self.accounting(job)
            .unwrap_or_else(|| match noted_exit(folder, job) {
                Some(0) => QueueState::new(JobState::Completed),
                Some(code) => QueueState {
                    exit_code: Some(code),
                    ..QueueState::new(JobState::Failed)
                },
                None => QueueState::new(JobState::Vanished),
            })
    }

    /// What the accounting says, on clusters that have one.
    fn accounting(&self, job: &str) -> Option<QueueState> {
        let list = format!("--jobs={job}");
        let format = "--format=State,ExitCode,NodeList,Start,Submit";
        let words = [
            "sacct",
            "--noheader",
            "--parsable2",
            "--allocations",
            "--duplicates",
            &list,
            format,
        ];
        let answer = self.run(&words).ok()?;
        answer.success.then(|| reply::sacct(&answer.out)).flatten()
    }

    fn exit_code(&self, job: &str) -> Option<i32> {
        let answer = self.run(&["scontrol", "show", "job", job]).ok()?;
        reply::exit_code(&answer.out)
    }

    /// Ends `job` now; what it did since its last checkpoint is lost.
    pub fn cancel(&self, job: &str) -> Result<(), BackendError> {
        self.signal(&["scancel", job])
    }

    /// Asks a running `job` for a last checkpoint and its end.
    pub fn stop(&self, job: &str) -> Result<(), BackendError> {
        self.signal(&["scancel", "--batch", "--signal=USR2", job])
    }

    fn signal(&self, words: &[&str]) -> Result<(), BackendError> {
        let answer = self.run(words)?;
        if answer.success && !answer.error.contains("error") {
            return Ok(());
        }
        Err(BackendError::Refused {
            action: words.join(" "),
            reason: reply::reason(&answer),
        })
    }
}

/// The exit code that the script of `job` noted last.
fn noted_exit(folder: &Path, job: &str) -> Option<i32> {
    let text = std::fs::read_to_string(folder.join(script::STATUS)).ok()?;
    text.lines().rev().find_map(|line| {
        let mut words = line.split(' ');
        let (code, of) = (words.next()?, words.next()?);
        (of == job).then(|| code.parse().ok()).flatten()
    })
}

/// How long to wait between two questions: longer while nothing changes, longest while nobody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    pause: Duration,
    first: Duration,
}

impl Backoff {
    /// Starts with `first`.
    pub fn new(first: Duration) -> Self {
        Self {
            pause: first,
            first,
        }
    }

    /// The pause after a state, which `changed` or not. A queue is asked at most every 30 s in the long run, one that does not answer
    /// every 2 minutes.
    pub fn after(&mut self, state: JobState, changed: bool) -> Duration {
        if changed {
            self.pause = self.first;
            return self.pause;
        }
        let most = if state == JobState::Unreachable {
            Duration::from_mins(2)
        } else {
            Duration::from_secs(30)
        };
        self.pause = (self.pause * 3 / 2).min(most);
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rare_while_nothing_changes() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        assert_eq!(
            backoff.after(JobState::Pending, true),
            Duration::from_secs(1)
        );
        for _ in 0..30 {
            backoff.after(JobState::Pending, false);
        }
        assert_eq!(
            backoff.after(JobState::Pending, false),
            Duration::from_secs(30)
        );
        for _ in 0..30 {
            backoff.after(JobState::Unreachable, false);
        }
        assert_eq!(
            backoff.after(JobState::Unreachable, false),
            Duration::from_mins(2)
        );
        assert_eq!(
            backoff.after(JobState::Running, true),
            Duration::from_secs(1)
        );
    }
}
