//! Where things lie in a run directory; names only, no file is touched here.

use std::path::{Path, PathBuf};

/// The resolved recipe.
pub const RECIPE: &str = "recipe.toml";
/// What the run is: id, creation time, source recipe, parent run, program version.
pub const RUN: &str = "run.json";
/// What the trainer said.
pub const EVENTS: &str = "events.jsonl";
/// What the trainer was asked.
pub const CONTROL: &str = "control.jsonl";
/// The trainer's standard output and error.
pub const CONSOLE: &str = "console.log";
/// What was started for the run beyond this machine's trainer, and how it fared.
pub const JOBS: &str = "jobs.jsonl";
/// Held with `flock` by the one trainer of the run; holds its process id.
pub const LOCK: &str = "lock";
/// Held by the process that repeats here what another program's files say; only such runs have it.
pub const MIRROR: &str = "mirror.lock";
/// Checkpoints, one folder a step.
pub const CHECKPOINTS: &str = "checkpoints";
/// Names the newest complete checkpoint's folder; written last.
pub const TRACKER: &str = "latest";
/// TensorBoard event files.
pub const TENSORBOARD: &str = "tb";
/// Batches that were skipped for a non-finite loss or gradient.
pub const BAD_BATCHES: &str = "bad";
/// Derived data that may be deleted at any time.
pub const CACHE: &str = "cache";

/// The folder of the checkpoint after `step` updates.
pub fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(CHECKPOINTS).join(format!("step-{step:08}"))
}

/// The step of a checkpoint folder's name, if it is one.
pub fn checkpoint_step(folder_name: &str) -> Option<u64> {
    folder_name.strip_prefix("step-")?.parse().ok()
}
