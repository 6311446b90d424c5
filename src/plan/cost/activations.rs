//! Bytes a token that Megatron's layers keep for their backward, with Transformer Engine's modules.
//!
//! Activations are bf16, two bytes. `stream` is what sequence parallel cuts (the residual stream and the norms), `heads` what tensor parallel
//! cuts, `routed` what goes with the tokens that reach a rank's experts. The legend is that of `weights`.

use crate::plan::{MegatronRecompute, RecomputePart};
use crate::spec::{LayerKind, TextConfig, VisionConfig};

/// Tokens of a chunk of the gated delta rule.
const DELTA_CHUNK: f64 = 64.0;

/// Bytes a token by how ranks cut them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    pub(super) stream: f64,
    pub(super) heads: f64,
    pub(super) routed: f64,
}

impl Kept {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            stream: self.stream + other.stream,
            heads: self.heads + other.heads,
            routed: self.routed + other.routed,
        }
    }
}

fn keeps(recompute: &MegatronRecompute, part: RecomputePart) -> bool {
    !matches!(recompute, MegatronRecompute::Selective(parts) if parts.contains(&part))
}

/// Formulas of what the layers keep, in words of the legend.
pub(super) const FULL_FORMULA: &str =
    "4h stream (input, normed) + 2(5Hd + 3Kd) + 4H heads in the mixer";
pub(super) const LINEAR_FORMULA: &str =
    "4h stream + 2(2C + 2Hv dk + 3Hv dv) + (2*64 + 10)Hv heads in the mixer";

/// What one layer keeps if it is not computed again as a whole.
pub(super) fn layer(config: &TextConfig, kind: LayerKind, recompute: &MegatronRecompute) -> Kept {
    let h = config.hidden_size as f64;
    let when = |part, bytes: f64| if keeps(recompute, part) { bytes } else { 0.0 };
    // Input and normed input of mixer and MLP; Transformer Engine makes the normed ones again if `layernorm` is recomputed.
    let stream = 4.0 * h + when(RecomputePart::LayerNorm, 4.0 * h);
    let mixer = match kind {
        LayerKind::FullAttention => {
            let d = config.head_dim as f64;
            let heads = config.num_attention_heads as f64;
            let (q, kv) = (heads * d, config.num_key_value_heads as f64 * d);
            // Query, gate, key before norm and rotary; query, key, value after; the output and its product with the gate; row sums.
            2.0 * (2.0 * q + kv)
                + 2.0 * (q + 2.0 * kv)
                + 2.0 * (q + q)
                + when(RecomputePart::CoreAttention, 4.0 * heads)
        }
        LayerKind::LinearAttention => {
            let channels = config.linear_conv_dim() as f64;
            let heads = config.linear_num_value_heads as f64;
            let value = config.linear_value_dim() as f64;
            let repeated = heads * config.linear_key_head_dim as f64;
            // Before and after the convolution; queries and keys, normed and repeated; gate and output; triangles of chunks, decays, betas.
            2.0 * (2.0 * channels + 2.0 * repeated + 2.0 * value)
                + when(RecomputePart::GatedDeltaNorm, 2.0 * value)
                + (2.0 * DELTA_CHUNK + 10.0) * heads
        }
    };
    let mlp = match &config.moe {
        None => {
            // Gate and up, and their product.
            let width = config.intermediate_size as f64;
            Kept {
                heads: when(RecomputePart::Mlp, 6.0 * width),
                ..Kept::default()
            }
        }
        Some(moe) => {
            let (width, shared) = (
                moe.moe_intermediate_size as f64,
                moe.shared_expert_intermediate_size as f64,
            );
            let whole = |bytes| when(RecomputePart::Moe, bytes);
            Kept {
                // Logits and probabilities in f32.
                stream: whole(8.0 * moe.num_experts as f64),
                heads: whole(when(RecomputePart::SharedExperts, 6.0 * shared)),
                // For each token that arrives: itself, gate and up, their product.
                routed: whole(
                    2.0 * h + 4.0 * width + when(RecomputePart::MoeActivation, 2.0 * width),
                ),
            }
        }
    };
    Kept {
        stream,
        heads: mixer,
        routed: 0.0,
    }
    .plus(mlp)
}

/// What a depth of MTP keeps beside its layer: embedded tokens, two norms' inputs and outputs side by side, what the last norm reads and gives.
pub(super) fn mtp(config: &TextConfig) -> Kept {
    Kept {
        stream: 2.0 * 8.0 * config.hidden_size as f64,
        ..Kept::default()
    }
}

/// Bytes a patch that a block of the vision tower keeps, cut over `tp` in its second part.
pub(super) fn vision_block(config: &VisionConfig) -> Kept {
    let (h, f) = (config.hidden_size as f64, config.intermediate_size as f64);
    Kept {
        stream: 8.0 * h,
        heads: 2.0 * (3.0 * h + h) + 4.0 * f,
        routed: 0.0,
    }
}
