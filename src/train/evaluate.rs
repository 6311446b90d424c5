//! Evaluation on held-out text.

use std::time::Instant;

use crate::data::{Loader, Split};
use crate::event::Event;

use super::TrainError;
use super::feed::model_batch;
use super::losses::Losses;
use super::trainer::Trainer;

impl Trainer<'_> {
    /// Opens the held-out text unless it is open.
    pub(super) fn open_validation(&mut self) -> Result<(), TrainError> {
        if self.validation.is_none() {
            let loader = Loader::open(&self.recipe, Split::Validation, &self.folder)?;
            let start = loader.position();
            self.validation = Some((loader, start));
        }
        Ok(())
    }

    /// Evaluates on the first `train.eval_batches` held-out micro-batches, the same ones each time.
    pub(super) fn evaluate(&mut self) -> Result<(), TrainError> {
        self.open_validation()?;
        let Some((loader, start)) = &mut self.validation else {
            return Ok(());
        };
        let begin = Instant::now();
        self.runner.lend_memory()?;
        loader.seek(start.clone())?;
        // Queued one after the other; on a GPU only the last one is waited for.
        let mut readings = Vec::with_capacity(self.recipe.train.eval_batches);
        for _ in 0..self.recipe.train.eval_batches {
            let batch = model_batch(loader.next_batch()?)?;
            readings.push(self.model.evaluate(&batch)?.start()?);
        }
        let mut losses = Losses::default();
        for reading in readings {
            losses.add(&reading.wait()?);
        }
        self.beside.eval += begin.elapsed().as_secs_f64();
        self.last_end = None;
        let step = self.progress.step;
        let (loss, mtp) = (losses.main(), losses.mtp());
        let mut events = vec![Event::Eval {
            step,
            tokens: self.progress.tokens,
            loss,
            mtp: mtp.clone(),
            eval_tokens: losses.tokens(),
            seconds: begin.elapsed().as_secs_f64(),
        }];
        if let Some(file) = &mut self.tensorboard
            && let Err(error) = file.eval(step, loss, &mtp)
        {
            self.tensorboard = None;
            events.push(self.warning(
                "tensorboard",
                format!("no more TensorBoard scalars in this segment: {error}"),
            ));
        }
        self.evaluated = Some(step);
        self.say(events)
    }
}
