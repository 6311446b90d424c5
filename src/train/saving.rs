//! Checkpoints at step boundaries.

use crate::checkpoint::training::{self, TrainingState};
use crate::event::Event;

use super::TrainError;
use super::trainer::Trainer;

impl Trainer<'_> {
    /// Writes a checkpoint of the present step unless there is one; the event to say, or why it failed.
    ///
    /// A failed one leaves earlier ones as they are.
    pub(super) fn save(&mut self) -> Result<Option<Event>, String> {
        let step = self.progress.step;
        if self.saved_step() == Some(step) {
            return Ok(None);
        }
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
        self.saved = Some((step, saved.weights_hash.clone()));
        Ok(Some(Event::Checkpoint {
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
        }))
    }

    /// Writes a checkpoint and says so, or warns and lets training go on; whether the present step is saved.
    pub(super) fn save_or_warn(&mut self) -> Result<bool, TrainError> {
        match self.save() {
            Ok(event) => {
                self.say(event.into_iter().collect())?;
                Ok(true)
            }
            Err(reason) => {
                let warning = self.save_warning(&reason);
                self.say(vec![warning])?;
                Ok(false)
            }
        }
    }

    /// The warning about a checkpoint that could not be written.
    pub(super) fn save_warning(&self, reason: &str) -> Event {
        self.warning(
            "checkpoint_failed",
            format!(
                "no checkpoint of step {}: {reason}; the previous one is intact",
                self.progress.step
            ),
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
