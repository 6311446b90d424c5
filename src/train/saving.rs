//! Checkpoints at step boundaries.
//!
//! On a GPU the checkpoints of `checkpoint.interval` are written while training goes on: a thread copies masters and moments into the
//! host's memory, for which the next update waits if it has to, and then writes, hashes and syncs them. Their event is said when the folder
//! is complete. Every other checkpoint, and all on the CPU, are complete when the trainer goes on.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::checkpoint::training::{self, Arenas, Contents, Saved, TrainingState};
use crate::event::Event;
use crate::ops::Snapshot;

use super::TrainError;
use super::trainer::Trainer;

/// A checkpoint that a thread writes.
#[derive(Debug)]
pub(super) struct Writing {
    step: u64,
    /// Says once that the copy is made.
    copied: Receiver<()>,
    is_copied: bool,
    thread: JoinHandle<Result<Saved, String>>,
}

impl Writing {
    /// Starts the thread. Until [`Self::wait_for_copy`] returns, the tensors of `snapshot` must not change.
    pub(super) fn start(
        run: &Path,
        contents: Contents,
        snapshot: Snapshot,
    ) -> Result<Self, String> {
        let run = run.to_owned();
        let step = contents.step;
        let (sender, copied) = mpsc::channel();
        let work = move || {
            let begin = Instant::now();
            let arenas = snapshot.copy().map_err(|error| error.to_string())?;
            // Nobody listens any more if the trainer has failed.
            let _ = sender.send(());
            let [masters, m, v] = &arenas[..] else {
                return Err("a snapshot of 3 arenas was expected".to_owned());
            };
            let arenas = Arenas { masters, m, v };
            let mut saved = training::write_arenas(&run, &contents, arenas)
                .map_err(|error| with_causes(&error))?;
            saved.seconds = begin.elapsed().as_secs_f64();
            Ok(saved)
        };
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(work)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self {
            step,
            copied,
            is_copied: false,
            thread,
        })
    }

    /// Waits until the tensors may change again; a thread that failed needs them no more.
    pub(super) fn wait_for_copy(&mut self) {
        if !self.is_copied {
            let _: Result<(), RecvError> = self.copied.recv();
            self.is_copied = true;
        }
    }

    fn finish(self) -> Result<Saved, String> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err("the thread that wrote it panicked".to_owned()))
    }
}

impl Trainer<'_> {
    /// Writes a checkpoint of the present step unless there is one; the events to say, and why it failed if it did.
    ///
    /// A failed one leaves earlier ones as they are.
    pub(super) fn save(&mut self) -> (Vec<Event>, Result<(), String>) {
        let mut events: Vec<Event> = self.collect(true).into_iter().collect();
        let result = match self.save_now() {
            Ok(event) => {
                events.extend(event);
                Ok(())
            }
            Err(reason) => {
                events.push(self.save_warning(self.progress.step, &reason));
                Err(reason)
            }
        };
        (events, result)
    }

    fn save_now(&mut self) -> Result<Option<Event>, String> {
        let step = self.progress.step;
        if self.saved_step() == Some(step) {
            return Ok(None);
        }
        let begin = Instant::now();
        let progress = serde_json::to_value(&self.progress).map_err(|e| e.to_string())?;
        let saved = training::save(
            self.run,
            &TrainingState {
                step,
                tokens: self.progress.tokens,
                progress,
                config: self.model.config(),
                parameters: self.model.parameters(),
                m: &self.moments.m,
                v: &self.moments.v,
                keep: self.recipe.checkpoint.keep,
            },
        )
        .map_err(|error| with_causes(&error))?;
        self.beside.checkpoint += begin.elapsed().as_secs_f64();
        self.last_end = None;
        Ok(Some(self.complete_checkpoint(step, saved)))
    }

    /// Begins a checkpoint of the present step; on the CPU, writes it.
    pub(super) fn begin_save(&mut self) -> Result<(), TrainError> {
        let step = self.progress.step;
        if !self.machine.is_gpu() {
            self.save_or_warn()?;
            return Ok(());
        }
        let before = self.collect(true);
        self.say(before.into_iter().collect())?;
        if self.saved_step() == Some(step) {
            return Ok(());
        }
        let started = serde_json::to_value(&self.progress)
            .map_err(|error| error.to_string())
            .and_then(|progress| {
                let parameters = self.model.parameters();
                let contents = Contents {
                    step,
                    tokens: self.progress.tokens,
                    progress,
                    config: self.model.config().clone(),
                    entries: parameters.entries().to_vec(),
                    keep: self.recipe.checkpoint.keep,
                };
                let arenas = [parameters.masters(), &self.moments.m, &self.moments.v];
                let snapshot = Snapshot::take(&arenas).map_err(|error| error.to_string())?;
                Writing::start(self.run, contents, snapshot)
            });
        match started {
            Ok(writing) => {
                self.writing = Some(writing);
                Ok(())
            }
            Err(reason) => {
                let warning = self.save_warning(step, &reason);
                self.say(vec![warning])
            }
        }
    }

    /// Waits until masters and moments may change; whether there was a copy to wait for.
    pub(super) fn wait_for_snapshot(&mut self) -> bool {
        match &mut self.writing {
            Some(writing) if !writing.is_copied => {
                writing.wait_for_copy();
                true
            }
            _ => false,
        }
    }

    /// The event of the checkpoint that a thread has written, or is writing if the trainer shall `wait` for it; a warning if it failed.
    pub(super) fn collect(&mut self, wait: bool) -> Option<Event> {
        let done = self.writing.as_ref()?.thread.is_finished();
        if !done && !wait {
            return None;
        }
        let begin = Instant::now();
        let writing = self.writing.take()?;
        let step = writing.step;
        let result = writing.finish();
        if !done {
            self.beside.checkpoint += begin.elapsed().as_secs_f64();
            self.last_end = None;
        }
        Some(match result {
            Ok(saved) => self.complete_checkpoint(step, saved),
            Err(reason) => self.save_warning(step, &reason),
        })
    }

    fn complete_checkpoint(&mut self, step: u64, saved: Saved) -> Event {
        self.saved = Some((step, saved.weights_hash.clone()));
        Event::Checkpoint {
            step,
            path: saved
                .path
                .strip_prefix(self.run)
                .unwrap_or(&saved.path)
                .display()
                .to_string(),
            bytes: saved.bytes,
            seconds: saved.seconds,
            weights_hash: saved.weights_hash,
            removed: saved.removed,
        }
    }

    /// Writes a checkpoint and says so, or warns and lets training go on; whether the present step is saved.
    pub(super) fn save_or_warn(&mut self) -> Result<bool, TrainError> {
        let (events, result) = self.save();
        self.say(events)?;
        Ok(result.is_ok())
    }

    /// The warning about a checkpoint that could not be written.
    fn save_warning(&self, step: u64, reason: &str) -> Event {
        self.warning(
            "checkpoint_failed",
            format!("no checkpoint of step {step}: {reason}; the previous one is intact"),
        )
    }
}

/// An error with its causes in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text += ": ";
            text += &more;
        }
        cause = error.source();
    }
    text
}
