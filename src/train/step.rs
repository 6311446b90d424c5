//! One optimizer step: micro-batches, gradient accumulation, the guard against non-finite numbers, clipping, the update.
//!
//! On a GPU a step is queued and not waited for; [`queued`](super::queued) takes in its numbers when they arrive.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use candle_core::Tensor;

use crate::event::{RequestKind, StopKind};
use crate::nn::{LossScales, NnError, Normalisation, Prepared, Reading};
use crate::ops::reduce;
use crate::ops::transfer::Readback;

use super::clock::Clock;
use super::control::Asked;
use super::losses::Losses;
use super::optimizer::Rates;
use super::queued::{Coming, Numbers, Queued};
use super::schedule::learning_rate;
use super::trainer::{End, Trainer, micro_batches};
use super::{TrainError, memory_plan, optimizer};

/// Losses of a step on the device, and on their way to the host.
#[derive(Default)]
struct StepLosses {
    sums: Vec<Tensor>,
    readings: Vec<Reading>,
}

impl Trainer<'_> {
    /// Queues one step, and on the CPU takes in its numbers; `Some` when it was cut short by a request to stop at once, which leaves
    /// everything as it was before.
    pub(super) fn step(&mut self) -> Result<Option<End>, TrainError> {
        let begin = Instant::now();
        memory_plan::reset_peak(self.machine)?;
        let batches = self.read_batches()?;
        let data_seconds = begin.elapsed().as_secs_f64();

        let depths = self.model.config().mtp_num_hidden_layers;
        let mtp_loss_scale = if depths > 0 {
            self.recipe.mtp.loss_scale
        } else {
            0.0
        };
        let scales = self.loss_scales(&batches, mtp_loss_scale);
        let mut clock = Clock::start(&self.machine.device)?;
        self.model.parameters().zero_grads()?;
        let mut losses = StepLosses::default();
        let launches = self.runner.launches();
        for (index, batch) in batches.iter().enumerate() {
            if index > 0
                && let Some(end) = self.stopped_now()?
            {
                return Ok(Some(end));
            }
            if self.queued.as_ref().is_some_and(Queued::has_arrived) {
                self.settle()?;
            }
            self.micro_batch(batch, &scales, &mut clock, &mut losses)?;
        }
        // Forward and backward are queued; now the device has something to do while the host waits for the step before.
        self.settle()?;
        if self.wait_for_snapshot() {
            clock.ended("checkpoint")?;
        }
        // Settled, so that the count of updates is that of all steps before.
        let lr = learning_rate(
            &self.recipe.schedule,
            self.recipe.optimizer.lr,
            self.progress.updates,
        );
        let numbers = self.update(lr, losses)?;
        clock.ended("optimizer")?;

        let step_tokens: u64 = batches.iter().map(|one| one.batch().tokens() as u64).sum();
        self.progress.step += 1;
        self.progress.tokens += step_tokens;
        self.progress.position = self.feed.position();
        self.steps_done.store(self.progress.step, Relaxed);
        self.queued = Some(Queued {
            step: self.progress.step,
            tokens: self.progress.tokens,
            step_tokens,
            lr,
            mtp_loss_scale,
            batches,
            numbers,
            clock,
            graphs: self.runner.launches() - launches,
            begin,
            data_seconds,
        });
        if !self.machine.is_gpu() {
            self.settle()?;
        }
        Ok(None)
    }

    /// Adds the gradients of one micro-batch.
    fn micro_batch(
        &mut self,
        batch: &Prepared,
        scales: &LossScales,
        clock: &mut Clock,
        losses: &mut StepLosses,
    ) -> Result<(), TrainError> {
        let pending = self
            .runner
            .run(&self.model, batch, scales, &mut |phase, mark| {
                clock.ended_at(phase.word(), mark);
            })?;
        if let Some(reason) = self.runner.take_failure() {
            let message = format!("no CUDA graphs in this segment: {reason}");
            let warning = self.warning("cuda_graph", message);
            self.say(vec![warning])?;
        }
        losses.sums.extend(pending.sums().into_iter().cloned());
        losses.readings.push(pending.start()?);
        Ok(())
    }

    /// Queues the update by the gradients in the arena, unless something is not finite; on the CPU does it.
    fn update(&mut self, lr: f64, losses: StepLosses) -> Result<Coming, TrainError> {
        let parameters = self.model.parameters();
        let rates = Rates {
            optimizer: &self.recipe.optimizer,
            lr,
            update: self.progress.updates + 1,
        };
        let clip = self.recipe.optimizer.clip_grad;
        if let Some(guard) = &mut self.guard {
            let sums: Vec<&Tensor> = losses.sums.iter().collect();
            reduce::sum_of_squares_into(parameters.grads(), &self.squares)?;
            guard.judge(&sums, &self.squares, clip)?;
            optimizer::update_guarded(parameters, &self.moments, rates, guard)?;
            return Ok(Coming::OnTheWay {
                verdict: Readback::start(guard.verdict())?,
                losses: losses.readings,
            });
        }
        let readings = losses.readings.into_iter();
        let outputs = readings
            .map(Reading::wait)
            .collect::<Result<Vec<_>, NnError>>()?;
        let mut sum = Losses::default();
        for output in &outputs {
            sum.add(output);
        }
        let grad_norm = reduce::sum_of_squares(parameters.grads())?.sqrt();
        let skipped = !(sum.is_finite() && grad_norm.is_finite());
        if !skipped {
            let factor = optimizer::clip_factor(clip, grad_norm);
            optimizer::update(parameters, &self.moments, rates, factor)?;
        }
        Ok(Coming::There(Numbers {
            outputs,
            grad_norm,
            skipped,
        }))
    }

    fn read_batches(&mut self) -> Result<Vec<Prepared>, TrainError> {
        (0..micro_batches(&self.recipe))
            .map(|_| self.feed.next())
            .collect()
    }

    fn loss_scales(&self, batches: &[Prepared], mtp_lambda: f64) -> LossScales {
        let mtp_lambda = mtp_lambda as f32;
        if self.recipe.train.per_token_loss {
            let weights = batches.iter().flat_map(|one| &one.batch().loss_mask);
            LossScales {
                normalisation: Normalisation::PerToken {
                    global_tokens: weights.map(|&w| f64::from(w)).sum(),
                },
                mtp_lambda,
                gradient_scale: 1.0,
            }
        } else {
            LossScales {
                normalisation: Normalisation::MicroBatch,
                mtp_lambda,
                gradient_scale: 1.0 / batches.len() as f64,
            }
        }
    }

    /// Looks between micro-batches for a request to stop at once; all others wait for the step boundary.
    fn stopped_now(&mut self) -> Result<Option<End>, TrainError> {
        self.poll()?;
        let now = self.inbox.iter().position(|asked| {
            matches!(asked, Asked::Request(request)
                if matches!(request.kind, RequestKind::Stop { how: StopKind::Now }))
        });
        if let Some(asked) = now.and_then(|index| self.inbox.remove(index)) {
            self.settle()?;
            return self.carry_out(asked);
        }
        if self.signals.asked() > 1 {
            self.settle()?;
            return Ok(Some(End::Stopped));
        }
        Ok(None)
    }
}
