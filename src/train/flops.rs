//! What a token costs: the model's operations, and those that the hardware does because something is computed twice.

use crate::recipe::{Recipe, Recompute, RecomputeModule};
use crate::spec::{self, LayerKind, TextConfig};

/// Operations of one training token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flops {
    /// Forward and backward once.
    pub(super) model: f64,
    /// With what the recipe's recompute mode computes again.
    pub(super) hardware: f64,
    /// How `model` is counted.
    pub(super) formula: String,
}

impl Flops {
    /// Of a token of `recipe`.
    pub(super) fn of(recipe: &Recipe) -> Self {
        let (config, seq) = (&recipe.model.config, recipe.train.seq_length as f64);
        let terms = spec::flops_terms(config, seq);
        let model = terms.iter().map(|term| term.flops.0).sum();
        let parts: Vec<String> = terms
            .iter()
            .filter(|term| term.flops.0 > 0.0)
            .map(|term| format!("{} {} = {:.4e}", term.name, term.formula, term.flops.0))
            .collect();
        Self {
            model,
            hardware: model + again(recipe, config, seq),
            formula: format!(
                "forward and backward, a multiply-add is 2; s = {seq} for every token, attention is causal, recompute is left out: {}",
                parts.join("; ")
            ),
        }
    }
}

/// Operations that are done once more in the backward. What kernels compute again inside themselves is not counted.
fn again(recipe: &Recipe, config: &TextConfig, seq: f64) -> f64 {
    let linear = config
        .layer_types
        .iter()
        .filter(|&&kind| kind == LayerKind::LinearAttention)
        .count() as f64;
    let full = (config.layer_types.len() + config.mtp_num_hidden_layers) as f64 - linear;
    match &recipe.recompute {
        Recompute::None => 0.0,
        // One forward of every layer, which is a third of its forward and backward; heads and the joint of MTP are no layers.
        Recompute::Full => {
            let layers = spec::flops_terms(config, seq)
                .into_iter()
                .filter(|term| !matches!(term.name, "logits" | "mtp joint and norms"));
            layers.map(|term| term.flops.0 / 3.0).sum()
        }
        Recompute::Selective(modules) => modules
            .iter()
            .map(|module| match module {
                RecomputeModule::CoreAttn => {
                    2.0 * full * (config.num_attention_heads * config.head_dim) as f64 * seq
                }
                RecomputeModule::GatedDelta => {
                    let dv = config.linear_value_head_dim as f64;
                    2.0 * linear * 4.0 * config.linear_num_value_heads as f64 * dv * dv
                }
                // `gate` and `up` are one product.
                RecomputeModule::MlpAct => {
                    let columns = 2 * config.intermediate_size;
                    2.0 * (full + linear) * (config.hidden_size * columns) as f64
                }
                // Elementwise: no products.
                RecomputeModule::Norm => 0.0,
            })
            .sum(),
    }
}
