//! Losses of several micro-batches, added up.

use crate::event::DepthStep;
use crate::nn::{DepthLoss, StepOutput};

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

    /// Whether every loss is a number.
    pub(super) fn is_finite(&self) -> bool {
        self.main.loss_sum.is_finite() && self.mtp.iter().all(|depth| depth.0.is_finite())
    }
}
