//! A step between its last launch and the arrival of its numbers.
//!
//! On a GPU the host queues step after step; losses, gradient norm and the verdict on them come back when the device has got there. The host
//! takes them in ([`Trainer::settle`]) before it queues the next update, when forward and backward of the next step are queued already, so
//! the device does not wait, and before anything else that happens at a step boundary. On the CPU the numbers are there at once.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::event::{Event, MemoryUse, StepRecord};
use crate::nn::{Batch, Prepared, Reading, StepOutput};
use crate::ops::adamw::Verdict;
use crate::ops::transfer::Readback;

use super::clock::Clock;
use super::losses::Losses;
use super::memory_plan::Measured;
use super::trainer::Trainer;
use super::{TrainError, bad_batch, memory};

/// What a step computes beside new weights.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Of each micro-batch.
    pub(super) outputs: Vec<StepOutput>,
    /// Before clipping.
    pub(super) grad_norm: f64,
    /// Whether there was no update, since something was not finite.
    pub(super) skipped: bool,
}

/// [`Numbers`], there or on their way.
#[derive(Debug)]
pub(super) enum Coming {
    /// The CPU's.
    There(Numbers),
    /// A GPU's.
    OnTheWay {
        /// Losses of each micro-batch.
        losses: Vec<Reading>,
        /// What [`Guard`](crate::ops::adamw::Guard) says.
        verdict: Readback,
    },
}

impl Coming {
    fn wait(self) -> Result<Numbers, TrainError> {
        match self {
            Self::There(numbers) => Ok(numbers),
            Self::OnTheWay { losses, verdict } => {
                let verdict = Verdict::of(&verdict.wait()?)?;
                let outputs = losses.into_iter().map(Reading::wait);
                Ok(Numbers {
                    outputs: outputs.collect::<Result<_, _>>()?,
                    grad_norm: verdict.norm,
                    skipped: verdict.skip,
                })
            }
        }
    }
}

/// A step whose work is queued.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) step: u64,
    /// Training tokens seen, this step's included.
    pub(super) tokens: u64,
    /// This step's own.
    pub(super) step_tokens: u64,
    pub(super) lr: f64,
    pub(super) mtp_loss_scale: f64,
    /// Kept until it is known that none of them is bad.
    pub(super) batches: Vec<Prepared>,
    pub(super) numbers: Coming,
    pub(super) clock: Clock,
    /// Micro-batches that were launched as graphs.
    pub(super) graphs: u64,
    /// When the host began with the step.
    pub(super) begin: Instant,
    /// How long it then waited for batches.
    pub(super) data_seconds: f64,
}

impl Queued {
    /// Whether taking in the numbers would not wait. An error of the device is told by whoever waits.
    pub(super) fn has_arrived(&self) -> bool {
        self.clock.is_past().unwrap_or(true)
    }
}

impl Trainer<'_> {
    /// Takes in the numbers of the step that was queued last, if they are still to come: its event, and what follows from a bad step.
    ///
    /// # Errors
    /// When too many steps in a row were not finite, the device failed, or the event cannot be written.
    pub(super) fn settle(&mut self) -> Result<(), TrainError> {
        let Some(queued) = self.queued.take() else {
            return Ok(());
        };
        let numbers = queued.numbers.wait()?;
        let host_seconds = queued.begin.elapsed().as_secs_f64();
        let Numbers {
            outputs,
            grad_norm,
            skipped,
        } = numbers;
        let mut losses = Losses::default();
        for output in &outputs {
            losses.add(output);
        }
        let mtp = losses.mtp();
        if !skipped {
            self.progress.updates += 1;
            for (sum, depth) in self.progress.acceptance.iter_mut().zip(&mtp) {
                sum.0 += depth.correct;
                sum.1 += depth.total;
            }
        }
        let times = queued.clock.read()?;
        let busy: f64 = times.phases.values().sum();
        let mut parts: BTreeMap<String, f64> = times
            .phases
            .iter()
            .map(|(phase, seconds)| ((*phase).to_owned(), *seconds))
            .collect();
        // What the device had nothing to do: for want of batches, or of launches. On the CPU that is the host's own time.
        let stalled = parts.remove("checkpoint").unwrap_or(0.0);
        let busy = busy - stalled;
        self.beside.checkpoint += stalled;
        let step_seconds = if self.machine.is_gpu() {
            let idle = match &self.last_end {
                Some(end) => times.start.seconds_since(end)?,
                None => queued.data_seconds,
            };
            parts.insert("data".to_owned(), queued.data_seconds.min(idle));
            idle + busy
        } else {
            parts.insert("data".to_owned(), queued.data_seconds);
            host_seconds
        };
        self.last_end = times.end;
        let known: f64 = parts.values().sum();
        parts.insert("other".to_owned(), (step_seconds - known).max(0.0));

        let tokens_per_second = queued.step_tokens as f64 / step_seconds;
        let utilisation = |flops: f64| {
            if self.peak.flops > 0.0 {
                tokens_per_second * flops / self.peak.flops
            } else {
                0.0
            }
        };
        let (mfu, hfu) = (
            utilisation(self.flops.model),
            utilisation(self.flops.hardware),
        );
        let mut measured = Measured::now(self.machine)?;
        measured.saved = outputs
            .iter()
            .map(|o| o.saved_bytes as u64)
            .max()
            .unwrap_or(0);
        let record = StepRecord {
            step: queued.step,
            tokens: queued.tokens,
            loss: losses.main(),
            mtp,
            grad_norm,
            lr: queued.lr,
            mtp_loss_scale: queued.mtp_loss_scale,
            step_seconds,
            parts,
            tokens_per_second,
            mfu,
            hfu,
            allocated: measured.allocated,
            peak: measured.peak,
            rss: memory::resident(),
            memory: self.memory_use(&measured),
            graphs: queued.graphs,
            skipped,
            extra: BTreeMap::new(),
        };
        let loss = record.loss;
        self.say_step(record, tokens_per_second)?;
        if skipped {
            let is_bad = |output: &StepOutput| {
                !(output.main.loss_sum.is_finite()
                    && output.mtp.iter().all(|depth| depth.loss_sum.is_finite()))
            };
            let all = || queued.batches.iter().map(Prepared::batch).enumerate();
            let mut bad: Vec<_> = all().filter(|&(i, _)| is_bad(&outputs[i])).collect();
            // Without a non-finite loss nobody knows which micro-batch it was.
            if bad.is_empty() {
                bad = all().collect();
            }
            self.skipped(queued.step, &bad, loss, grad_norm)?;
        } else {
            self.progress.non_finite_in_a_row = 0;
        }
        Ok(())
    }

    /// Memory by term, at the first steps and whenever the peak has grown.
    fn memory_use(&mut self, measured: &Measured) -> Option<MemoryUse> {
        const FIRST: u32 = 3;
        let grown = measured.peak > self.largest_peak;
        self.largest_peak = self.largest_peak.max(measured.peak);
        self.steps_measured = self.steps_measured.saturating_add(1);
        (grown || self.steps_measured <= FIRST)
            .then(|| self.plan.measured(self.machine, self.state, measured))
    }

    fn say_step(
        &mut self,
        mut record: StepRecord,
        tokens_per_second: f64,
    ) -> Result<(), TrainError> {
        let (step, skipped, loss) = (record.step, record.skipped, record.loss);
        let interval = self.recipe.logging.interval.max(1);
        let last = step >= self.recipe.train.steps;
        let mut events = Vec::new();
        if step.is_multiple_of(interval) || skipped || last || step == 1 {
            self.beside.take_into(&mut record.parts);
            if let Some(file) = &mut self.tensorboard
                && let Err(error) = file.step(&record, &self.progress.cumulative_acceptance())
            {
                self.tensorboard = None;
                events.push(self.warning(
                    "tensorboard",
                    format!("no more TensorBoard scalars in this segment: {error}"),
                ));
            }
            events.insert(0, Event::Step(Box::new(record)));
        }
        let alerts = &mut self.progress.alerts;
        for (code, message) in
            alerts.observe(&self.recipe.alerts, loss, tokens_per_second, "tokens/s")
        {
            events.push(self.warning(code, message));
        }
        if events.is_empty() {
            return Ok(());
        }
        self.say(events)
    }

    /// Counts a skipped step and keeps its batches; too many in a row end the run.
    fn skipped(
        &mut self,
        step: u64,
        bad: &[(usize, &Batch)],
        loss: f64,
        grad_norm: f64,
    ) -> Result<(), TrainError> {
        self.progress.skipped += 1;
        self.progress.non_finite_in_a_row += 1;
        let kept = match bad_batch::save(self.run, step, bad) {
            Ok(paths) => paths
                .iter()
                .map(|path| {
                    path.strip_prefix(self.run)
                        .unwrap_or(path)
                        .display()
                        .to_string()
                })
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => format!("not kept: {error}"),
        };
        let in_a_row = self.progress.non_finite_in_a_row;
        let warning = self.warning(
            "non_finite",
            format!(
                "step {step} was skipped: loss {loss}, gradient norm {grad_norm}; {in_a_row} in a row; batch: {kept}"
            ),
        );
        self.say(vec![warning])?;
        let limit = self.recipe.train.max_non_finite;
        if limit > 0 && in_a_row >= limit {
            return Err(TrainError::NonFinite { step, in_a_row });
        }
        Ok(())
    }
}

/// Seconds of what happened between steps since the last step's event.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) eval: f64,
    pub(super) checkpoint: f64,
}

impl Beside {
    /// Moves what there was into the parts of a step's record.
    fn take_into(&mut self, parts: &mut BTreeMap<String, f64>) {
        let Self { eval, checkpoint } = std::mem::take(self);
        for (name, seconds) in [("eval", eval), ("checkpoint", checkpoint)] {
            if seconds > 0.0 {
                parts.insert(name.to_owned(), seconds);
            }
        }
    }
}
