//! One optimizer step: micro-batches, gradient accumulation, the guard against non-finite numbers, clipping, the update.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::event::{DepthStep, Event, RequestKind, StepRecord, StopKind};
use crate::nn::{Batch, DepthLoss, LossScales, Normalisation, StepOutput};
use crate::ops::reduce;

use super::control::Asked;
use super::schedule::learning_rate;
use super::trainer::{End, Trainer, model_batch};
use super::{TrainError, bad_batch, memory, optimizer};

/// Losses of a step's micro-batches, added up.
#[derive(Debug, Default)]
pub(super) struct Losses {
    main: DepthLoss,
    /// Sum over micro-batches of their means, and counts.
    mtp: Vec<(f64, u64, u64)>,
    micro_batches: u64,
}

impl Losses {
    pub(super) fn add(&mut self, output: &StepOutput) {
        self.main.loss_sum += output.main.loss_sum;
        self.main.weight_sum += output.main.weight_sum;
        self.mtp.resize(output.mtp.len(), (0.0, 0, 0));
        for (sum, depth) in self.mtp.iter_mut().zip(&output.mtp) {
            sum.0 += depth.mean();
            sum.1 += depth.correct;
            sum.2 += depth.total;
        }
        self.micro_batches += 1;
    }

    /// Token-weighted mean of the main loss, nats.
    pub(super) fn main(&self) -> f64 {
        self.main.mean()
    }

    /// Tokens that the main loss is over.
    pub(super) fn tokens(&self) -> u64 {
        self.main.weight_sum as u64
    }

    /// Each MTP depth: the mean over micro-batches of their means, as Megatron logs it, and the sums of its counts.
    pub(super) fn mtp(&self) -> Vec<DepthStep> {
        self.mtp
            .iter()
            .map(|&(sum, correct, total)| DepthStep {
                loss: sum / self.micro_batches.max(1) as f64,
                correct,
                total,
            })
            .collect()
    }

    fn is_finite(&self) -> bool {
        self.main.loss_sum.is_finite() && self.mtp.iter().all(|depth| depth.0.is_finite())
    }
}

impl Trainer<'_> {
    /// Does one step; `Some` when it was cut short by a request to stop at once, which leaves everything as it was before.
    pub(super) fn step(&mut self) -> Result<Option<End>, TrainError> {
        let begin = Instant::now();
        memory::reset_peak();
        let batches = self.read_batches()?;
        let data_seconds = begin.elapsed().as_secs_f64();

        let depths = self.model.config().mtp_num_hidden_layers;
        let mtp_loss_scale = if depths > 0 {
            self.recipe.mtp.loss_scale
        } else {
            0.0
        };
        let scales = self.loss_scales(&batches, mtp_loss_scale);
        let parameters = self.model.parameters().clone();
        parameters.zero_grads()?;
        let mut losses = Losses::default();
        let mut bad = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            if index > 0
                && let Some(end) = self.stopped_now()?
            {
                return Ok(Some(end));
            }
            let output = self.model.forward_backward(batch, &scales)?.read()?;
            let finite = output.main.loss_sum.is_finite()
                && output.mtp.iter().all(|depth| depth.loss_sum.is_finite());
            if !finite {
                bad.push((index, batch));
            }
            losses.add(&output);
        }
        let grad_norm = reduce::sum_of_squares(parameters.grads())?.sqrt();
        let forward_backward = begin.elapsed().as_secs_f64() - data_seconds;

        let skipped = !(losses.is_finite() && grad_norm.is_finite());
        let lr = learning_rate(
            &self.recipe.schedule,
            self.recipe.optimizer.lr,
            self.progress.updates,
        );
        if !skipped {
            let clip = optimizer::clip_factor(self.recipe.optimizer.clip_grad, grad_norm);
            self.progress.updates += 1;
            optimizer::update(
                &parameters,
                &self.moments,
                &self.recipe.optimizer,
                lr,
                self.progress.updates,
                clip,
            )?;
        }
        let optimizer_seconds = begin.elapsed().as_secs_f64() - data_seconds - forward_backward;

        let tokens: u64 = batches.iter().map(|batch| batch.tokens() as u64).sum();
        self.progress.step += 1;
        self.progress.tokens += tokens;
        self.progress.position = self.loader.position();
        let step = self.progress.step;
        self.steps_done.store(step, Relaxed);
        let mtp = losses.mtp();
        if !skipped {
            for (sum, depth) in self.progress.acceptance.iter_mut().zip(&mtp) {
                sum.0 += depth.correct;
                sum.1 += depth.total;
            }
        }
        let step_seconds = begin.elapsed().as_secs_f64();
        let tokens_per_second = tokens as f64 / step_seconds;
        let mfu = if self.peak_flops > 0.0 {
            tokens_per_second * self.flops_per_token / self.peak_flops
        } else {
            0.0
        };
        let other = step_seconds - data_seconds - forward_backward - optimizer_seconds;
        let record = StepRecord {
            step,
            tokens: self.progress.tokens,
            loss: losses.main(),
            mtp,
            grad_norm,
            lr,
            mtp_loss_scale,
            step_seconds,
            parts: BTreeMap::from([
                ("data".to_owned(), data_seconds),
                ("forward_backward".to_owned(), forward_backward),
                ("optimizer".to_owned(), optimizer_seconds),
                ("other".to_owned(), other),
            ]),
            tokens_per_second,
            mfu,
            hfu: 0.0,
            allocated: memory::allocated(),
            peak: memory::peak(),
            rss: memory::resident(),
            memory: None,
            skipped,
        };
        self.say_step(record, tokens_per_second)?;
        if skipped {
            // Without a non-finite loss nobody knows which micro-batch it was.
            if bad.is_empty() {
                bad = batches.iter().enumerate().collect();
            }
            self.skipped(&bad, losses.main(), grad_norm)?;
        } else {
            self.progress.non_finite_in_a_row = 0;
        }
        Ok(None)
    }

    fn read_batches(&mut self) -> Result<Vec<Batch>, TrainError> {
        let train = &self.recipe.train;
        let micro_batches = (train.global_batch_size / train.micro_batch_size.max(1)).max(1);
        (0..micro_batches)
            .map(|_| model_batch(self.loader.next_batch()?))
            .collect()
    }

    fn loss_scales(&self, batches: &[Batch], mtp_lambda: f64) -> LossScales {
        let mtp_lambda = mtp_lambda as f32;
        if self.recipe.train.per_token_loss {
            let weights = batches.iter().flat_map(|batch| &batch.loss_mask);
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
            return self.carry_out(asked);
        }
        Ok((self.signals.asked() > 1).then_some(End::Stopped))
    }

    fn say_step(&mut self, record: StepRecord, tokens_per_second: f64) -> Result<(), TrainError> {
        let (step, skipped, loss) = (record.step, record.skipped, record.loss);
        let interval = self.recipe.logging.interval.max(1);
        let last = step >= self.recipe.train.steps;
        let mut events = Vec::new();
        if step.is_multiple_of(interval) || skipped || last || step == 1 {
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
        for (code, message) in alerts.observe(&self.recipe.alerts, loss, tokens_per_second) {
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
        bad: &[(usize, &Batch)],
        loss: f64,
        grad_norm: f64,
    ) -> Result<(), TrainError> {
        self.progress.skipped += 1;
        self.progress.non_finite_in_a_row += 1;
        let step = self.progress.step;
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
