//! How much each loss counts, and what a step reports.

/// What a sum of cross entropies is divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalisation {
    /// The weights of this micro-batch: `sum(m ce) / max(sum m, 1)`, for each depth by its own shifted weights.
    MicroBatch,
    /// The main weights of the whole step. An MTP depth's sum is first brought to as many tokens as the main loss has in this
    /// micro-batch, `n0 / max(n_k, 1)`.
    PerToken {
        /// Sum of the main weights over all micro-batches of the step.
        global_tokens: f64,
    },
}

/// How much each loss counts in the objective whose gradient is added to the arena.
///
/// ```text
/// MicroBatch   gradient_scale * (L_0 + lambda / D * sum_k L_k)                          L = sum(m ce) / max(n, 1)
/// PerToken     gradient_scale / global_tokens * (S_0 + lambda / D * sum_k n_0 / max(n_k, 1) * S_k)    S = sum(m ce)
/// ```
///
/// A step of `M` micro-batches takes `gradient_scale = 1 / M` in the first mode and 1 in the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScales {
    /// What sums are divided by.
    pub normalisation: Normalisation,
    /// Lambda of the MTP losses; 0 computes them without any gradient.
    pub mtp_lambda: f32,
    /// Multiplies the whole objective.
    pub gradient_scale: f64,
}

impl Default for LossScales {
    /// One micro-batch, lambda 0.1.
    fn default() -> Self {
        Self {
            normalisation: Normalisation::MicroBatch,
            mtp_lambda: 0.1,
            gradient_scale: 1.0,
        }
    }
}

impl LossScales {
    /// What the main sum is multiplied with.
    pub fn main(&self, main_weight: f64) -> f64 {
        self.gradient_scale
            / match self.normalisation {
                Normalisation::MicroBatch => main_weight.max(1.0),
                Normalisation::PerToken { global_tokens } => global_tokens.max(1.0),
            }
    }

    /// What the sum of one of `depths` MTP depths is multiplied with, `weight` being its own shifted weights.
    pub fn mtp(&self, main_weight: f64, weight: f64, depths: usize) -> f64 {
        let share = f64::from(self.mtp_lambda) / depths.max(1) as f64 * self.gradient_scale;
        match self.normalisation {
            Normalisation::MicroBatch => share / weight.max(1.0),
            Normalisation::PerToken { global_tokens } => {
                share * (main_weight / weight.max(1.0)) / global_tokens.max(1.0)
            }
        }
    }
}

/// The loss of one depth over a micro-batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DepthLoss {
    /// Weighted sum of cross entropies, in nats.
    pub loss_sum: f64,
    /// Sum of the weights.
    pub weight_sum: f64,
    /// Counted positions whose most likely token is the label.
    pub correct: u64,
    /// Counted positions: those with a weight other than 0.
    pub total: u64,
}

impl DepthLoss {
    /// Mean cross entropy in nats, `loss_sum / max(weight_sum, 1)`.
    pub fn mean(&self) -> f64 {
        self.loss_sum / self.weight_sum.max(1.0)
    }

    /// Share of counted positions that were predicted, from 0 to 1.
    pub fn acceptance(&self) -> f64 {
        self.correct as f64 / self.total.max(1) as f64
    }
}

/// What a micro-batch gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepOutput {
    /// The next-token loss.
    pub main: DepthLoss,
    /// MTP depth 1, 2, ...
    pub mtp: Vec<DepthLoss>,
    /// Most bytes of activations kept for the backward; 0 without one.
    pub saved_bytes: usize,
}

impl StepOutput {
    /// The objective whose gradient was taken.
    pub fn objective(&self, scales: &LossScales) -> f64 {
        let main = self.main.loss_sum * scales.main(self.main.weight_sum);
        let mtp = self.mtp.iter().map(|depth| {
            let scale = scales.mtp(self.main.weight_sum, depth.weight_sum, self.mtp.len());
            depth.loss_sum * scale
        });
        main + mtp.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_micro_batch_has_the_same_scales_in_both_modes() {
        let normal = LossScales::default();
        let per_token = LossScales {
            normalisation: Normalisation::PerToken {
                global_tokens: 17.0,
            },
            ..normal
        };
        assert_eq!(normal.main(17.0), per_token.main(17.0));
        let difference = normal.mtp(17.0, 5.0, 2) - per_token.mtp(17.0, 5.0, 2);
        assert!(difference.abs() < 1e-17, "{difference}");
    }

    #[test]
    fn an_empty_mask_gives_a_mean_of_zero() {
        assert_eq!(DepthLoss::default().mean(), 0.0);
        assert_eq!(LossScales::default().main(0.0), 1.0);
    }
}
