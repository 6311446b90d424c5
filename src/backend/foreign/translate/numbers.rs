//! The numbers of an iteration line, with what other lines said of it, as a step.

use std::collections::BTreeMap;

use super::{Iteration, Translator};
use crate::event::{DepthStep, MemoryUse, RankMemory, StepRecord};

/// How near a `Step Time` has to be to an iteration's elapsed time, which is rounded too, in seconds.
const NEAR: f64 = 0.0101;
/// Positions that an acceptance rate is counted as a share of.
const POSITIONS: u64 = 1_000_000;
/// Metrics of a task that are kept of an iteration.
const OTHERS: usize = 64;

impl Translator {
    /// The numbers of an iteration as a step.
    pub(super) fn numbers(&mut self, it: &Iteration) -> StepRecord {
        let seconds = it.elapsed_ms / 1000.0;
        let tokens = self
            .seq_length
            .map(|s| s.saturating_mul(it.global_batch))
            .filter(|&t| t > 0);
        let tflops = self.step_time(seconds);
        let tflops = it.tflops.or(tflops);
        // Losses of an interval without an update are sums of nothing.
        let skipped = it.skipped >= self.interval.max(1) && it.loss.is_none_or(|loss| loss == 0.0);
        let loss = it.loss.filter(|_| !skipped).unwrap_or(f64::NAN);
        let mtp = it.mtp.iter().enumerate().map(|(i, loss)| {
            let percent = it.acceptance.get(i).copied().flatten();
            // A rate is all that is said; as a share of so many positions it keeps its digits.
            let correct = percent.map_or(0.0, |p| p.clamp(0.0, 100.0) / 100.0 * POSITIONS as f64);
            DepthStep {
                loss: loss.filter(|_| !skipped).unwrap_or(f64::NAN),
                correct: correct.round() as u64,
                total: percent.map_or(0, |_| POSITIONS),
            }
        });
        let worst = self
            .memory
            .values()
            .max_by_key(|m| m.max_allocated.max(m.allocated))
            .copied();
        let memory = worst.filter(|_| std::mem::take(&mut self.memory_is_new));
        StepRecord {
            step: it.step,
            tokens: self.tokens(it.samples),
            loss,
            mtp: mtp.collect(),
            grad_norm: it.grad_norm.unwrap_or(f64::NAN),
            lr: it.lr.unwrap_or(f64::NAN),
            step_seconds: seconds,
            parts: parts(&std::mem::take(&mut self.timers)),
            tokens_per_second: tokens.map_or(f64::NAN, |t| t as f64 / seconds),
            mfu: tflops
                .zip(self.options.peak_tflops)
                .map_or(0.0, |(t, peak)| t / peak),
            allocated: worst.map_or(0, |m| m.allocated),
            peak: worst.map_or(0, |m| m.max_allocated),
            memory: memory.map(|m| MemoryUse {
                device: format!("rank {}", m.rank),
                planned_peak: self.planned[2].map_or(0, |v| v as u64),
                peak: m.max_allocated,
                reserved: m.max_reserved,
                ranks: self.ranks(),
                ..MemoryUse::default()
            }),
            skipped,
            extra: extra(it, tflops, skipped),
            ..StepRecord::default()
        }
    }

    /// What the ranks told of their memory, where more than one did.
    fn ranks(&self) -> Vec<RankMemory> {
        if self.memory.len() < 2 {
            return vec![];
        }
        let ranks = self.memory.values().map(|m| RankMemory {
            rank: m.rank,
            allocated: m.allocated,
            peak: m.max_allocated,
            reserved: m.max_reserved,
        });
        ranks.collect()
    }

    /// The `Step Time` that belongs to an iteration of so many seconds.
    fn step_time(&mut self, seconds: f64) -> Option<f64> {
        let at = self
            .step_times
            .iter()
            .take(64)
            .position(|(s, _)| (s - seconds).abs() <= NEAR)?;
        let (_, tflops) = self.step_times.drain(..=at).next_back()?;
        Some(tflops)
    }
}

/// What an iteration has beyond what every trainer has. A task's metrics keep their names; the router's losses of an interval without an update
/// are sums of nothing, as the main loss is.
fn extra(it: &Iteration, tflops: Option<f64>, skipped: bool) -> BTreeMap<String, f64> {
    let mut extra = BTreeMap::new();
    for (name, &value) in it.others.iter().map(|(name, value)| (name, value)) {
        if extra.len() < OTHERS {
            let value = if skipped { f64::NAN } else { value };
            extra.insert(name.clone(), value);
        }
    }
    for (name, value) in [
        ("tflops", tflops),
        ("energy", it.energy),
        ("power", it.power),
        ("params_norm", it.params_norm),
        ("num_zeros", it.num_zeros),
        ("max_attention_logit", it.max_attention_logit),
        // 1 is what is said where nothing is scaled.
        ("loss_scale", it.loss_scale.filter(|&scale| scale != 1.0)),
    ] {
        if let Some(value) = value {
            extra.insert(name.to_owned(), value);
        }
    }
    extra
}

/// Megatron's timers as phases of a step.
fn parts(timers: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut parts = BTreeMap::new();
    for (phase, name) in [
        ("data", "batch-generator"),
        ("forward", "forward-compute"),
        ("backward", "backward-compute"),
        ("optimizer", "optimizer"),
    ] {
        if let Some(&seconds) = timers.get(name) {
            parts.insert(phase.to_owned(), seconds);
        }
    }
    if let Some(&seconds) = timers.get("forward-backward")
        && !parts.contains_key("forward")
    {
        parts.insert("forward_backward".to_owned(), seconds);
    }
    parts
}
