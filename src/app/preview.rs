//! What a recipe means in numbers, before it is launched.

use crate::base::{Bytes, Flops};
use crate::plan::{self, Storage, TrainShape};
use crate::recipe::{self, DeviceChoice, PrecisionChoice, Recipe, Recompute, RecomputeModule};
use crate::spec;

/// Numbers of a valid recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Scalars of the text model, MTP not counted.
    pub parameters: u64,
    /// Scalars of MTP.
    pub mtp_parameters: u64,
    /// MTP depths.
    pub mtp_depth: usize,
    /// Tokens of an optimizer step over all ranks.
    pub tokens_per_step: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// FLOPs of one token, forward and backward.
    pub flops_per_token: Flops,
    /// Estimated bytes of the most loaded rank by part, largest parts first as the estimator orders them; empty if unknown.
    pub memory: Vec<(String, Bytes)>,
    /// Ranks in all.
    pub world_size: usize,
    /// The degrees: "tp1 pp1 dp1 cp1 ep1".
    pub degrees: String,
    /// Where it would train.
    pub device: &'static str,
}

/// Bytes of the fullest rank by part; empty if the layers cannot be cut into the recipe's stages.
fn memory(recipe: &Recipe) -> Vec<(String, Bytes)> {
    let estimate = plan::memory(
        &recipe.model.config,
        &recipe::degrees(recipe),
        &train_shape(recipe),
    );
    estimate.map_or_else(Vec::new, |estimate| {
        let terms = estimate.terms.into_iter();
        terms
            .map(|term| (term.name.to_owned(), term.bytes))
            .collect()
    })
}

/// What a step of the recipe works on, for the planner.
pub fn train_shape(recipe: &Recipe) -> TrainShape {
    let train = &recipe.train;
    let module = |module: &RecomputeModule| match module {
        RecomputeModule::CoreAttn => plan::RecomputeModule::CoreAttn,
        RecomputeModule::GatedDelta => plan::RecomputeModule::GatedDelta,
        RecomputeModule::MlpAct => plan::RecomputeModule::MlpAct,
        RecomputeModule::Norm => plan::RecomputeModule::Norm,
    };
    let rank_batch = train.micro_batch_size * recipe.parallel.dp;
    TrainShape {
        seq_length: train.seq_length,
        micro_batch_size: train.micro_batch_size,
        micro_batches: train.global_batch_size / rank_batch.max(1),
        loss_chunk: train.loss_chunk,
        recompute: match &recipe.recompute {
            Recompute::None => plan::Recompute::None,
            Recompute::Selective(modules) => {
                plan::Recompute::Selective(modules.iter().map(module).collect())
            }
            Recompute::Full => plan::Recompute::Full,
        },
        storage: match train.device {
            DeviceChoice::Cuda if train.precision == PrecisionChoice::F32 => Storage::LocalF32,
            DeviceChoice::Cuda => Storage::MixedBf16,
            // One rank without CUDA trains here, in f32; more ranks are another engine's, on GPUs.
            _ if recipe.parallel.world_size() > 1 => Storage::MixedBf16,
            _ => Storage::LocalF32,
        },
    }
}

/// The recipe's word for a device.
pub fn device_name(device: DeviceChoice) -> &'static str {
    match device {
        DeviceChoice::Auto => "auto",
        DeviceChoice::Cpu => "cpu",
        DeviceChoice::Cuda => "cuda",
    }
}

impl Preview {
    /// The numbers of a recipe.
    pub fn of(recipe: &Recipe) -> Self {
        let config = &recipe.model.config;
        let count = spec::parameters(config);
        let parallel = &recipe.parallel;
        Self {
            parameters: count.text(),
            mtp_parameters: count.mtp,
            mtp_depth: config.mtp_num_hidden_layers,
            tokens_per_step: recipe.train.global_batch_size as u64 * recipe.train.seq_length as u64,
            steps: recipe.train.steps,
            flops_per_token: spec::flops_per_token(config, recipe.train.seq_length as f64),
            memory: memory(recipe),
            world_size: parallel.world_size(),
            degrees: format!(
                "tp{} pp{} dp{} cp{} ep{}",
                parallel.tp, parallel.pp, parallel.dp, parallel.cp, parallel.ep
            ),
            device: device_name(recipe.train.device),
        }
    }

    /// All memory of the most loaded rank; `None` if it was not estimated.
    pub fn total_memory(&self) -> Option<Bytes> {
        (!self.memory.is_empty()).then(|| self.memory.iter().map(|(_, bytes)| *bytes).sum())
    }

    /// The numbers as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let mtp = if self.mtp_depth > 0 {
            format!(
                " (+{} MTP, depth {})",
                count(self.mtp_parameters),
                self.mtp_depth
            )
        } else {
            String::new()
        };
        let total = self.tokens_per_step.saturating_mul(self.steps);
        let mut lines = vec![
            format!(
                "params {}{mtp}   tokens/step {}   steps {} -> {} tokens",
                count(self.parameters),
                grouped(self.tokens_per_step),
                grouped(self.steps),
                count(total),
            ),
            format!(
                "{} a token, {} in all   world {} = {}   device {}",
                self.flops_per_token,
                Flops(self.flops_per_token.0 * total as f64),
                self.world_size,
                self.degrees,
                self.device
            ),
        ];
        if let Some(total) = self.total_memory() {
            let parts: Vec<String> = self
                .memory
                .iter()
                .filter(|(_, bytes)| bytes.0 > 0)
                .map(|(name, bytes)| format!("{name} {bytes}"))
                .collect();
            lines.push(format!("memory est. {total}: {}", parts.join(", ")));
        }
        lines
    }
}

/// A count with three or four figures and a unit: `1.23 B`.
pub fn count(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["", " k", " M", " B", " T"] {
        if value < 999.95 || unit == " T" {
            return match unit {
                "" => format!("{n}"),
                _ if value < 9.995 => format!("{value:.2}{unit}"),
                _ => format!("{value:.1}{unit}"),
            };
        }
        value /= 1000.0;
    }
    n.to_string()
}

/// A whole number with a space between groups of three: `262 144`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_grouped() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1234), "1.23 k");
        assert_eq!(count(752_393_024), "752.4 M");
        assert_eq!(count(5_242_880_000), "5.24 B");
        assert_eq!(grouped(262_144), "262 144");
        assert_eq!(grouped(12), "12");
    }
}
