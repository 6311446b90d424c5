//! All runs of a folder with what the table shows of each.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Context;
use super::{RunDirectory, RunError, Status, Tail, directory, is_live};
use crate::event::{DepthStep, Event, JobState, Launched, MemoryUse, QueueState, Record, layout};

/// Version of the cached summary; another one is made anew.
const VERSION: u32 = 3;
/// Time constant of the loss average in steps.
const SMOOTH: f64 = 50.0;

/// A run in a line: where it stands and its last numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this record.
    version: u32,
    /// Bytes of `events.jsonl` it covers.
    offset: u64,
    /// Inode of that file.
    inode: u64,
    /// Where the run stands.
    pub status: Status,
    /// Trainers that had the run so far.
    pub segments: u32,
    /// Updates done.
    pub step: u64,
    /// Updates it shall make.
    pub total_steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Main loss of the last step.
    pub loss: Option<f64>,
    /// Main loss, averaged exponentially over about 50 logged steps, debiased.
    pub loss_smoothed: Option<f64>,
    /// Sum of weights of the average.
    smooth_weight: f64,
    /// MTP depths of the last step.
    pub mtp: Vec<DepthStep>,
    /// Held-out loss of the last evaluation.
    pub eval_loss: Option<f64>,
    /// Learning rate of the last step.
    pub lr: Option<f64>,
    /// Tokens per second of the last step.
    pub tokens_per_second: Option<f64>,
    /// Peak bytes of tensors over the run.
    pub peak: u64,
    /// Memory by term as it was last measured.
    pub memory: Option<MemoryUse>,
    /// Trainable scalars.
    pub parameters: u64,
    /// MTP depths.
    pub mtp_depth: usize,
    /// What trains.
    pub device: String,
    /// Step of the last checkpoint.
    pub checkpoint_step: Option<u64>,
    /// Time of the last record in milliseconds since the Unix epoch.
    pub last_ms: Option<i64>,
    /// Process of the last trainer.
    pub pid: Option<u32>,
    /// Warnings so far.
    pub warnings: u64,
    /// The last start beyond this machine's trainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched: Option<Launched>,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            version: VERSION,
            offset: 0,
            inode: 0,
            status: Status::New,
            segments: 0,
            step: 0,
            total_steps: 0,
            tokens: 0,
            loss: None,
            loss_smoothed: None,
            smooth_weight: 0.0,
            mtp: vec![],
            eval_loss: None,
            lr: None,
            tokens_per_second: None,
            peak: 0,
            memory: None,
            parameters: 0,
            mtp_depth: 0,
            device: String::new(),
            checkpoint_step: None,
            last_ms: None,
            pid: None,
            warnings: 0,
            launched: None,
        }
    }
}

impl Summary {
    /// Takes up one more record.
    pub fn add(&mut self, record: &Record) {
        self.last_ms = Some(record.time_ms);
        match &record.event {
            Event::Started {
                segment,
                step,
                tokens,
                total_steps,
                pid,
                device,
                parameters,
                mtp_depth,
                ..
            } => {
                self.status = Status::Running;
                self.segments = segment + 1;
                self.step = *step;
                self.tokens = *tokens;
                self.total_steps = *total_steps;
                self.pid = Some(*pid);
                self.device.clone_from(device);
                self.parameters = *parameters;
                self.mtp_depth = *mtp_depth;
            }
            Event::Step(step) => {
                self.step = step.step;
                self.tokens = step.tokens;
                self.loss = step.loss.is_finite().then_some(step.loss);
                self.smooth(step.loss);
                self.mtp.clone_from(&step.mtp);
                self.lr = Some(step.lr).filter(|v| v.is_finite());
                self.tokens_per_second = Some(step.tokens_per_second).filter(|v| v.is_finite());
                self.peak = self.peak.max(step.peak);
                if step.memory.is_some() {
                    self.memory.clone_from(&step.memory);
                }
            }
            Event::Eval { loss, .. } => self.eval_loss = Some(*loss).filter(|v| v.is_finite()),
            Event::Checkpoint { step, .. } => self.checkpoint_step = Some(*step),
            Event::Warning { .. } => self.warnings += 1,
            Event::Paused { .. } => self.status = Status::Paused,
            Event::Continued { .. } => self.status = Status::Running,
            Event::Finished {
                step,
                tokens,
                reason,
                ..
            } => {
                self.step = *step;
                self.tokens = *tokens;
                self.status = if reason == "completed" {
                    Status::Completed
                } else {
                    Status::Stopped
                };
            }
            Event::Failed { error, .. } => {
                self.status = Status::Failed {
                    error: error.clone(),
                }
            }
            Event::Sample { .. }
            | Event::LiveChange { .. }
            | Event::Mark { .. }
            | Event::Answer { .. }
            | Event::Unknown(_) => {}
        }
    }

    fn smooth(&mut self, loss: f64) {
        if loss.is_finite() {
            let keep = 1.0 - 1.0 / SMOOTH;
            let sum = self.loss_smoothed.unwrap_or(0.0) * self.smooth_weight;
            self.smooth_weight = self.smooth_weight * keep + (1.0 - keep);
            self.loss_smoothed = Some((sum * keep + loss * (1.0 - keep)) / self.smooth_weight);
        }
    }

    /// Where the run stands, given whether a trainer holds its lock. Of a job beyond this machine the queue knows, not the lock.
    fn settle(&self, live: bool, is_watched: bool) -> Status {
        if let Some(launched) = &self.launched {
            return self.queued(launched.state.as_ref());
        }
        match (&self.status, live) {
            (Status::Paused, true) => Status::Paused,
            (_, true) => Status::Running,
            (Status::Running | Status::Paused, false) if is_watched => Status::Stale,
            (Status::Running | Status::Paused, false) => Status::Killed,
            (other, false) => other.clone(),
        }
    }
}

impl Summary {
    /// Where a run stands whose job fares like this; nobody may have asked yet.
    fn queued(&self, state: Option<&QueueState>) -> Status {
        let Some(state) = state else {
            return Status::Queued;
        };
        let why = || match (&self.status, state.exit_code) {
            // Its console says more than the queue.
            (Status::Failed { error }, _) => error.clone(),
            (_, Some(code)) => format!("{}, exit code {code}", state.state.words()),
            _ => state.state.words().to_owned(),
        };
        match state.state {
            JobState::Pending | JobState::Requeued => Status::Queued,
            JobState::Running | JobState::Completing | JobState::Suspended => Status::Running,
            // A job that was asked for its end ends well, too.
            JobState::Completed if self.step < self.total_steps => Status::Stopped,
            JobState::Completed => Status::Completed,
            JobState::Cancelled => Status::Stopped,
            JobState::Vanished => Status::Killed,
            JobState::Failed
            | JobState::TimedOut
            | JobState::Preempted
            | JobState::NodeFailed
            | JobState::OutOfMemory => Status::Failed { error: why() },
            // What was known before stays.
            JobState::Unreachable | JobState::Other => match &self.status {
                Status::New => Status::Queued,
                known => known.clone(),
            },
        }
    }
}

/// The summary of one run: the cached one plus what was said since.
pub fn summary(run: &Path) -> Result<Summary, RunError> {
    // Asked before reading: a trainer that ends in between is read as ended.
    let live = is_live(run);
    let cache = run.join(layout::CACHE).join("summary.json");
    let (length, inode) = size_and_inode(&run.join(layout::EVENTS));
    let cached: Option<Summary> = fs::read(&cache)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .filter(|s: &Summary| s.version == VERSION && s.inode == inode && s.offset <= length);
    let mut summary = cached.unwrap_or_default();
    if summary.offset != length {
        let mut tail = Tail::from_offset(run, summary.offset)?;
        loop {
            let batch = tail.poll()?;
            if batch.restarted {
                summary = Summary::default();
            }
            for record in &batch.records {
                summary.add(record);
            }
            if !batch.more {
                break;
            }
        }
        if tail.offset() != summary.offset {
            summary.offset = tail.offset();
            summary.inode = inode;
            store(&cache, &summary);
        }
    }
    let jobs = fs::read_to_string(run.join(layout::JOBS));
    summary.launched = jobs.ok().and_then(|text| Launched::of(&text));
    summary.status = summary.settle(live, run.join(layout::MIRROR).exists());
    Ok(summary)
}

/// Keeps the summary for next time; a folder that cannot be written just has no cache.
fn store(cache: &Path, summary: &Summary) {
    if let (Some(folder), Ok(json)) = (cache.parent(), serde_json::to_vec(summary)) {
        let _ = fs::create_dir(folder);
        let _ = directory::replace(cache, &json);
    }
}

fn size_and_inode(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or((0, 0), |m| (m.len(), m.ino()))
}

/// The folders in `runs`, which may be missing; hidden ones are left out.
pub(super) fn directories(runs: &Path) -> Result<Vec<PathBuf>, RunError> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).context("read", runs),
    };
    Ok(entries
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .collect())
}

/// All runs in `runs` with their summaries, newest first.
///
/// A folder that is not a run is left out; one whose events cannot be read has an empty summary.
pub fn list(runs: &Path) -> Result<Vec<(RunDirectory, Summary)>, RunError> {
    let mut found: Vec<(RunDirectory, Summary)> = directories(runs)?
        .into_iter()
        .filter_map(|path| directory::open(&path).ok())
        .map(|run| {
            let summary = summary(&run.path).unwrap_or_default();
            (run, summary)
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| {
        (b.info.created_ms, &b.info.id).cmp(&(a.info.created_ms, &a.info.id))
    });
    Ok(found)
}
