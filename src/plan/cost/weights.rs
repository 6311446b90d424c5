//! Scalars of the parts of a model, by how ranks cut them.
//!
//! Legend: `h` hidden size, `H K d` query heads, key-value heads and their width, `C` channels of the convolution, `Hv dv` value heads and their
//! width, `F` MLP width, `E I S` experts, width of a routed and of the shared expert, `V` vocabulary.

use std::ops::Add;

use crate::plan::{Degrees, Frozen, Job, Stage, Tuning};
use crate::spec::{LayerKind, ModelConfig, TextConfig, VisionConfig};

/// Scalars of a part of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weights {
    /// On every tensor-parallel rank: norms, router.
    pub whole: u64,
    /// Cut over `tp`.
    pub cut: u64,
    /// Routed experts, cut over `ep * etp`.
    pub experts: u64,
}

impl Weights {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.whole + self.cut + self.experts
    }

    /// Scalars on one rank: dense ones, and those of experts.
    pub fn on_rank(&self, degrees: &Degrees) -> (u64, u64) {
        let over = |degree: usize| (degree as u64).max(1);
        (
            self.whole + self.cut.div_ceil(over(degrees.tp)),
            self.experts
                .div_ceil(over(degrees.ep.saturating_mul(degrees.etp))),
        )
    }

    fn times(self, count: usize) -> Self {
        let count = count as u64;
        Self {
            whole: self.whole * count,
            cut: self.cut * count,
            experts: self.experts * count,
        }
    }
}

impl Add for Weights {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            whole: self.whole + other.whole,
            cut: self.cut + other.cut,
            experts: self.experts + other.experts,
        }
    }
}

/// One decoder layer of a kind, norms and MLP included.
pub fn layer_weights(config: &TextConfig, kind: LayerKind) -> Weights {
    let h = config.hidden_size as u64;
    let mixer = match kind {
        LayerKind::FullAttention => {
            let d = config.head_dim as u64;
            let (q, kv) = (
                config.num_attention_heads as u64 * d,
                config.num_key_value_heads as u64 * d,
            );
            Weights {
                whole: 2 * d,
                cut: h * (2 * q + 2 * kv) + q * h,
                experts: 0,
            }
        }
        LayerKind::LinearAttention => {
            let channels = config.linear_conv_dim() as u64;
            let (value, heads) = (
                config.linear_value_dim() as u64,
                config.linear_num_value_heads as u64,
            );
            Weights {
                whole: config.linear_value_head_dim as u64,
                cut: h * (channels + value + 2 * heads)
                    + channels * config.linear_conv_kernel_dim as u64
                    + 2 * heads
                    + value * h,
                experts: 0,
            }
        }
    };
    let mlp = match &config.moe {
        None => Weights {
            cut: 3 * h * config.intermediate_size as u64,
            ..Weights::default()
        },
        Some(moe) => Weights {
            whole: h * moe.num_experts as u64 + h,
            cut: 3 * h * moe.shared_expert_intermediate_size as u64,
            experts: 3 * h * (moe.num_experts * moe.moe_intermediate_size) as u64,
        },
    };
    let norms = Weights {
        whole: 2 * h,
        ..Weights::default()
    };
    mixer + mlp + norms
}

/// One MTP depth: its layer, the joint matrix, three norms.
pub fn mtp_weights(config: &TextConfig) -> Weights {
    let h = config.hidden_size as u64;
    layer_weights(config, LayerKind::FullAttention)
        + Weights {
            whole: 3 * h,
            cut: 2 * h * h,
            experts: 0,
        }
}

/// The blocks of the vision tower with patches and positions, and its merger.
pub fn vision_weights(config: &VisionConfig) -> (Weights, Weights) {
    let (h, f) = (config.hidden_size as u64, config.intermediate_size as u64);
    let patch =
        (config.in_channels * config.temporal_patch_size * config.patch_size * config.patch_size)
            as u64;
    let block = Weights {
        whole: 4 * h + 2 * h,
        cut: 3 * h * h + 3 * h + h * h + h * f + f + f * h,
        experts: 0,
    };
    let rest = Weights {
        whole: h * patch + h + config.num_position_embeddings as u64 * h,
        ..Weights::default()
    };
    let (wide, out) = (config.merged_size() as u64, config.out_hidden_size as u64);
    let merger = Weights {
        whole: 2 * h + out,
        cut: wide * wide + wide + out * wide,
        experts: 0,
    };
    (block.times(config.depth) + rest, merger)
}

/// Rows of the vocabulary over all tensor-parallel ranks, padding included.
pub(super) fn vocabulary(job: &Job) -> u64 {
    let rows = job.model.text.vocab_size as u64;
    match job.megatron.vocab_multiple {
        None => rows,
        Some(multiple) => {
            let unit = (multiple as u64)
                .saturating_mul(job.degrees.tp as u64)
                .max(1);
            rows.div_ceil(unit).saturating_mul(unit)
        }
    }
}

/// Everything that a stage holds.
pub fn stage_weights(job: &Job, stage: &Stage) -> Weights {
    selected(job, stage, Frozen::default())
}

/// What is trained of a stage's weights: those not frozen, or the adapters.
pub fn trained_weights(job: &Job, stage: &Stage) -> Weights {
    match &job.megatron.tuning {
        Tuning::Full(frozen) => selected(job, stage, *frozen),
        Tuning::Lora { dim, targets } => adapters(job, stage, *dim, targets),
    }
}

fn selected(job: &Job, stage: &Stage, frozen: Frozen) -> Weights {
    let ModelConfig { text, vision } = &job.model;
    let mut sum = Weights::default();
    if !frozen.language_model {
        for kind in [LayerKind::FullAttention, LayerKind::LinearAttention] {
            sum = sum + layer_weights(text, kind).times(stage.count(text, kind));
        }
        sum = sum + mtp_weights(text).times(stage.mtp);
        let matrix = vocabulary(job).saturating_mul(text.hidden_size as u64);
        let own_head = stage.head && !text.tie_word_embeddings;
        let copies = [stage.embedding, own_head, stage.tied_head];
        sum.cut += matrix * copies.iter().filter(|&&there| there).count() as u64;
        sum.whole += u64::from(stage.final_norm) * text.hidden_size as u64;
    }
    if let (Some(vision), 0) = (vision, stage.pp) {
        let (blocks, merger) = vision_weights(vision);
        if !frozen.vision_model {
            sum = sum + blocks;
        }
        if !frozen.vision_projection {
            sum = sum + merger;
        }
    }
    sum
}

/// Adapters of rank `dim`: `dim * (in + out)` for each module of the names; all routed experts of a rank share one.
fn adapters(job: &Job, stage: &Stage, dim: usize, targets: &[String]) -> Weights {
    let ModelConfig { text, vision } = &job.model;
    let has = |name: &str| u64::from(targets.iter().any(|target| target == name));
    let dim = dim as u64;
    let h = text.hidden_size as u64;
    let d = text.head_dim as u64;
    let q = text.num_attention_heads as u64 * d;
    let kv = text.num_key_value_heads as u64 * d;
    let attention = has("linear_qkv") * (h + 2 * q + 2 * kv) + has("linear_proj") * (q + h);
    let gated = |width: u64| has("linear_fc1") * (h + 2 * width) + has("linear_fc2") * (width + h);
    let mlp = match &text.moe {
        None => gated(text.intermediate_size as u64),
        Some(moe) => {
            gated(moe.shared_expert_intermediate_size as u64)
                + gated(moe.moe_intermediate_size as u64)
        }
    };
    let full = (stage.count(text, LayerKind::FullAttention) + stage.mtp) as u64;
    let linear = stage.count(text, LayerKind::LinearAttention) as u64;
    let mut sum = full * attention + (full + linear) * mlp;
    if let (Some(vision), 0) = (vision, stage.pp) {
        let (vh, f) = (vision.hidden_size as u64, vision.intermediate_size as u64);
        let block = has("linear_qkv") * 4 * vh
            + has("linear_proj") * 2 * vh
            + (has("linear_fc1") + has("linear_fc2")) * (vh + f);
        let (wide, out) = (vision.merged_size() as u64, vision.out_hidden_size as u64);
        sum += vision.depth as u64 * block
            + has("linear_fc1") * 2 * wide
            + has("linear_fc2") * (wide + out);
    }
    Weights {
        cut: dim.saturating_mul(sum),
        ..Weights::default()
    }
}
