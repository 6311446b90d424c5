//! The trainer: takes up a run directory and trains it until it is done or stopped.
//!
//! A run continues bit for bit after `kill -9` at any moment: a checkpoint holds weights, moments and `progress`, data come from a position, and
//! changes that were made between the last checkpoint and the kill are read from `events.jsonl` and made again at the same step. Only durations
//! and what derives from them (throughput, MFU, its alert) differ. Durations are taken from the monotonic clock; the wall clock is written into
//! records and decides nothing but whether an unanswered request was meant for an earlier trainer.

mod bad_batch;
mod clock;
mod control;
mod error;
mod evaluate;
mod feed;
mod flops;
mod history;
mod journal;
mod lock;
mod losses;
mod machine;
mod memory;
mod memory_plan;
mod optimizer;
mod peak;
mod progress;
mod queued;
mod recipe_file;
mod requests;
mod saving;
mod schedule;
mod signals;
mod step;
mod tensorboard;
mod trainer;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use error::TrainError;
pub use memory::CountingAllocator;
pub use schedule::learning_rate;

use crate::event::Event;
use crate::recipe::{DeviceChoice, Recipe};
use history::History;
use journal::Journal;
use lock::Lock;
use machine::Machine;
use memory_plan::MemoryPlan;
use progress::Progress;
use signals::Signals;
use trainer::Trainer;

/// How a trainer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether all steps are done; else somebody stopped it.
    pub completed: bool,
    /// Steps done.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// BLAKE3 of the fp32 weights in arena order, hex.
    pub weights_hash: String,
}

/// Trains the run at `run` from its newest checkpoint, or from its recipe, until it is done or stopped.
///
/// Blocks. Errors and panics are also written into `events.jsonl`, unless that is what failed.
pub fn run(run: &Path) -> Result<Outcome, TrainError> {
    let _lock = Lock::take(run)?;
    crate::ops::retain_heap();
    let (mut journal, history) = Journal::open(run)?;
    let signals = Signals::take().map_err(|e| TrainError::read(run, e))?;
    let steps_done = AtomicU64::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        train(run, &mut journal, history, &signals, &steps_done)
    }))
    .unwrap_or_else(|panic| Err(TrainError::Panicked(message(&*panic))));
    if let Err(error) = &result {
        let failed = Event::Failed {
            step: steps_done.load(Relaxed),
            error: saving::with_causes(error),
            hint: error.hint(),
        };
        // The error itself is what the caller must hear, whether or not it could be written.
        let _ = journal.append(vec![failed]);
    }
    result
}

/// Refuses a recipe that this version's local trainer cannot train here: an absent device, a layout of several ranks.
pub fn check(recipe: &Recipe) -> Result<(), TrainError> {
    machine::check(recipe)
}

/// The live keys that were changed before `checkpoint` was written, as `key=value`.
pub fn live_values(checkpoint: &Path) -> Result<Vec<String>, TrainError> {
    let progress = Progress::of(checkpoint)?;
    let live = progress.live.into_iter();
    Ok(live.map(|(key, value)| format!("{key}={value}")).collect())
}

fn train(
    run: &Path,
    journal: &mut Journal,
    history: History,
    signals: &Signals,
    steps_done: &AtomicU64,
) -> Result<Outcome, TrainError> {
    let recipe = recipe_file::read(run)?;
    machine::check(&recipe)?;
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(recipe.train.threads)
        .thread_name(|i| format!("train-{i}"))
        .build()
        .map_err(|e| TrainError::Unsupported(format!("cannot start threads: {e}")))?;
    threads.install(|| {
        let mut machine = Machine::open(&recipe)?;
        let mut plan = MemoryPlan::of(&recipe, &machine);
        if recipe.train.device == DeviceChoice::Auto && !plan.fits(&recipe, &machine)? {
            let reason = format!("{} has too little memory left", machine.name());
            machine = Machine::cpu(&recipe, Some(reason))?;
            plan = MemoryPlan::of(&recipe, &machine);
        }
        let train = || {
            let recipe = recipe.clone();
            Trainer::open(
                run, recipe, &machine, &plan, journal, history, signals, steps_done,
            )?
            .train()
        };
        train().map_err(|error| {
            if machine.is_gpu() && memory_plan::is_out_of_memory(&error) {
                plan.exhausted(&error, &recipe, &machine, run)
            } else {
                error
            }
        })
    })
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
