//! TensorBoard scalars as the lines that a log of the same run would have.

use super::Iteration;
use super::iteration::{depth, set_depth};
use super::line::{Line, Memory, Split};
use crate::event::tensorboard::Scalar;

/// The last second of the year 9999, after which no clock stands.
const LATEST: f64 = 253_402_300_799.0;

/// Milliseconds of a writer's time; a time that is none is the epoch, so that differences of times never overflow.
fn time_ms(seconds: f64) -> i64 {
    // The cast takes NaN for 0.
    (seconds.clamp(0.0, LATEST) * 1000.0) as i64
}

/// Joins the scalars of one file by step. What belongs to one step is told when another step begins or when asked.
#[derive(Debug, Default)]
pub struct Steps {
    open: Option<Iteration>,
    /// Whether the open step has a number of training, not of evaluation alone.
    is_training: bool,
    validation: Vec<(String, f64)>,
    memory: Memory,
    has_memory: bool,
    /// The last values of what is written less often than each step.
    lr: Option<f64>,
    elapsed_ms: Option<f64>,
    global_batch: u64,
}

impl Steps {
    /// Takes the next scalar of the file.
    pub fn take(&mut self, scalar: &Scalar, take: &mut impl FnMut(Line)) {
        // The same numbers over samples instead of steps.
        if scalar.tag.ends_with(" vs samples") || scalar.step < 0 {
            return;
        }
        let step = scalar.step as u64;
        if self.open.as_ref().is_some_and(|open| open.step != step) {
            self.flush(take);
        }
        let value = f64::from(scalar.value);
        let open = self.open.get_or_insert_with(|| Iteration {
            step,
            time_ms: time_ms(scalar.wall_time),
            ..Iteration::default()
        });
        let mut is_training = true;
        match scalar.tag.as_str() {
            "lm loss" => open.loss = Some(value),
            "learning-rate" => open.lr = Some(value),
            "grad-norm" => open.grad_norm = Some(value),
            "batch-size" => open.global_batch = value.max(0.0) as u64,
            "loss-scale" => open.loss_scale = Some(value),
            "num-zeros" => open.num_zeros = Some(value),
            "params-norm" => open.params_norm = Some(value),
            "max-attention-logit" | "max_attention_logit" => open.max_attention_logit = Some(value),
            "skipped-train-samples" => open.skipped_samples = value.max(0.0) as u64,
            "samples vs steps" => open.samples = value.max(0.0) as u64,
            "iteration-time" => open.elapsed_ms = value * 1000.0,
            "throughput/tflops/device" | "throughput/tflops_per_device" | "throughput" => {
                open.tflops = Some(value);
            }
            "iter-energy/gpu" => open.energy = Some(value),
            "power/gpu" => open.power = Some(value),
            "memory/mem-allocated-gigabytes" => self.memory.allocated = (value * 1e9) as u64,
            "mem-allocated-bytes" => self.memory.allocated = value.max(0.0) as u64,
            "memory/mem-max-allocated-gigabytes" => {
                self.memory.max_allocated = (value * 1e9) as u64;
            }
            "mem-max-allocated-bytes" => self.memory.max_allocated = value.max(0.0) as u64,
            "memory/mem-max-reserved-gigabytes" => self.memory.max_reserved = (value * 1e9) as u64,
            "mem-reserved-bytes" => self.memory.max_reserved = value.max(0.0) as u64,
            "load_balancing_loss"
            | "seq_load_balancing_loss"
            | "global_load_balancing_loss"
            | "z_loss" => open.others.push((scalar.tag.clone(), value)),
            tag => {
                let accepted = tag
                    .strip_suffix("_acceptance_rate")
                    .and_then(|tag| depth(format!("{tag} loss").as_bytes()));
                if let Some(depth) = accepted {
                    set_depth(&mut open.acceptance, depth, value);
                } else if let Some(depth) = depth(tag.as_bytes()) {
                    set_depth(&mut open.mtp, depth, value);
                } else if let Some(key) = tag.strip_suffix(" validation") {
                    self.validation.push((key.to_owned(), value));
                    is_training = false;
                } else {
                    is_training = false;
                }
            }
        }
        self.has_memory |= scalar.tag.contains("mem-");
        self.is_training |= is_training;
    }

    /// Tells the step that is open.
    pub fn flush(&mut self, take: &mut impl FnMut(Line)) {
        let Some(mut it) = self.open.take() else {
            return;
        };
        let time_ms = it.time_ms;
        let step = it.step;
        if std::mem::take(&mut self.has_memory) {
            take(Line::Memory(Memory {
                step,
                ..self.memory
            }));
        }
        if std::mem::take(&mut self.is_training) {
            self.lr = it.lr.or(self.lr);
            it.lr = self.lr;
            if it.global_batch > 0 {
                self.global_batch = it.global_batch;
            }
            it.global_batch = self.global_batch;
            if it.elapsed_ms > 0.0 {
                self.elapsed_ms = Some(it.elapsed_ms);
            }
            it.elapsed_ms = self.elapsed_ms.unwrap_or(f64::NAN);
            if it.samples == 0 {
                // Exact for a batch size that never changed.
                it.samples = step.saturating_mul(self.global_batch);
            }
            take(Line::Iteration(Box::new(it)));
        }
        let losses = std::mem::take(&mut self.validation);
        if !losses.is_empty() {
            take(Line::Validation {
                step,
                split: Split::Validation,
                losses,
                time_ms: Some(time_ms),
            });
        }
    }
}
