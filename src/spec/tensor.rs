//! Every tensor of a model: its Hugging Face name, shape and role.

use std::fmt;

use super::{
    ExpertLayout, ExpertStyle, LayerKind, ModelConfig, MoeConfig, Projection, Role, TextConfig,
    VisionConfig, VisionPart,
};
use crate::base::Shape;

/// A tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Full Hugging Face name: `model.layers.0.mlp.up_proj.weight`, in the multimodal classes `model.language_model.layers.0...`.
    pub name: String,
    /// Extents; linears are `[out, in]`, the convolution is `[channels, 1, taps]`, fused experts are `[experts, out, in]`.
    pub shape: Shape,
    /// What it does.
    pub role: Role,
    /// The layer, MTP depth or vision block that it belongs to; none for what the model has once.
    pub layer: Option<LayerRef>,
}

/// A layer, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerRef {
    /// Layer of the decoder.
    Decoder(usize),
    /// MTP depth `k` at index `k - 1`.
    Mtp(usize),
    /// Block of the vision tower.
    Vision(usize),
}

impl fmt::Display for LayerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decoder(layer) => f.pad(&format!("layer {layer}")),
            Self::Mtp(index) => f.pad(&format!("mtp {}", index + 1)),
            Self::Vision(block) => f.pad(&format!("vision block {block}")),
        }
    }
}

/// Every tensor of a text model in the text class, experts as Qwen3.5 publishes them; see [`model_tensors`].
pub fn tensors(config: &TextConfig) -> Vec<TensorSpec> {
    let mut list = List::default();
    list.text(config, "model.", ExpertStyle::QWEN3_5);
    list.tensors
}

/// Every tensor of the model in canonical order: embedding, layers, final norm, head, MTP depths, vision tower.
///
/// Depth 1 of MTP has the published names (`mtp.fc`, `mtp.layers.0`, ...); depth `k >= 2` has `mtp.{k-1}.fc`, `mtp.{k-1}.norm`, ... and
/// `mtp.layers.{k-1}`, a convention of ours, since no such checkpoint is published.
pub fn model_tensors(config: &ModelConfig, experts: ExpertStyle) -> Vec<TensorSpec> {
    let mut list = List::default();
    list.text(&config.text, config.text_prefix(), experts);
    if let Some(vision) = &config.vision {
        list.vision(vision);
    }
    list.tensors
}

/// A list under construction; new tensors belong to `layer`.
#[derive(Default)]
struct List {
    tensors: Vec<TensorSpec>,
    layer: Option<LayerRef>,
}

impl List {
    fn add<const N: usize>(&mut self, name: String, shape: [usize; N], role: Role) {
        self.tensors.push(TensorSpec {
            name,
            shape: shape.into(),
            role,
            layer: self.layer,
        });
    }

    fn linear(&mut self, name: String, out: usize, input: usize, projection: Projection) {
        self.add(name, [out, input], Role::Projection(projection));
    }

    /// The text model; its decoder has `prefix` before its names.
    fn text(&mut self, config: &TextConfig, prefix: &str, experts: ExpertStyle) {
        let (h, vocab) = (config.hidden_size, config.vocab_size);
        let embedding = format!("{prefix}embed_tokens.weight");
        self.add(embedding, [vocab, h], Role::Embedding);
        for (layer, &kind) in config.layer_types.iter().enumerate() {
            self.layer = Some(LayerRef::Decoder(layer));
            let at = format!("{prefix}layers.{layer}");
            self.layer(config, &at, kind, experts.decoder);
        }
        self.layer = None;
        self.add(format!("{prefix}norm.weight"), [h], Role::Norm);
        if !config.tie_word_embeddings {
            self.add("lm_head.weight".into(), [vocab, h], Role::Head);
        }
        for index in 0..config.mtp_num_hidden_layers {
            self.mtp(config, index, experts.mtp);
        }
        self.layer = None;
    }

    fn mtp(&mut self, config: &TextConfig, index: usize, experts: ExpertLayout) {
        let h = config.hidden_size;
        self.layer = Some(LayerRef::Mtp(index));
        let own = match index {
            0 => "mtp".to_owned(),
            _ => format!("mtp.{index}"),
        };
        self.linear(format!("{own}.fc.weight"), h, 2 * h, Projection::MtpFc);
        for norm in ["pre_fc_norm_embedding", "pre_fc_norm_hidden"] {
            self.add(format!("{own}.{norm}.weight"), [h], Role::Norm);
        }
        let at = format!("mtp.layers.{index}");
        self.layer(config, &at, LayerKind::FullAttention, experts);
        self.add(format!("{own}.norm.weight"), [h], Role::Norm);
    }

    /// The tensors of one layer, under `at`.
    fn layer(&mut self, config: &TextConfig, at: &str, kind: LayerKind, experts: ExpertLayout) {
        let h = config.hidden_size;
        self.add(format!("{at}.input_layernorm.weight"), [h], Role::Norm);
        match kind {
            LayerKind::FullAttention => self.full_attention(config, &format!("{at}.self_attn")),
            LayerKind::LinearAttention => {
                self.linear_attention(config, &format!("{at}.linear_attn"));
            }
        }
        let norm = format!("{at}.post_attention_layernorm.weight");
        self.add(norm, [h], Role::Norm);
        let at = format!("{at}.mlp");
        match &config.moe {
            None => {
                let parts = [Projection::Gate, Projection::Up, Projection::Down];
                self.mlp(&at, h, config.intermediate_size, parts);
            }
            Some(moe) => self.experts(moe, &at, h, experts),
        }
    }

    fn mlp(&mut self, at: &str, h: usize, f: usize, [gate, up, down]: [Projection; 3]) {
        self.linear(format!("{at}.gate_proj.weight"), f, h, gate);
        self.linear(format!("{at}.up_proj.weight"), f, h, up);
        self.linear(format!("{at}.down_proj.weight"), h, f, down);
    }

    fn experts(&mut self, moe: &MoeConfig, at: &str, h: usize, layout: ExpertLayout) {
        let (e, i) = (moe.num_experts, moe.moe_intermediate_size);
        self.linear(format!("{at}.gate.weight"), e, h, Projection::Router);
        match layout {
            ExpertLayout::Fused => {
                let gate_up = Role::Projection(Projection::ExpertsGateUp);
                let down = Role::Projection(Projection::ExpertsDown);
                self.add(format!("{at}.experts.gate_up_proj"), [e, 2 * i, h], gate_up);
                self.add(format!("{at}.experts.down_proj"), [e, h, i], down);
            }
            ExpertLayout::PerExpert => {
                for expert in 0..e {
                    let parts = [
                        Projection::ExpertGate,
                        Projection::ExpertUp,
                        Projection::ExpertDown,
                    ];
                    self.mlp(&format!("{at}.experts.{expert}"), h, i, parts);
                }
            }
        }
        let shared = [
            Projection::SharedGate,
            Projection::SharedUp,
            Projection::SharedDown,
        ];
        let width = moe.shared_expert_intermediate_size;
        self.mlp(&format!("{at}.shared_expert"), h, width, shared);
        let gate = format!("{at}.shared_expert_gate.weight");
        self.linear(gate, 1, h, Projection::SharedExpertGate);
    }

    fn full_attention(&mut self, config: &TextConfig, at: &str) {
        let (h, d) = (config.hidden_size, config.head_dim);
        let heads = config.num_attention_heads * d;
        let kv = config.num_key_value_heads * d;
        self.linear(format!("{at}.q_proj.weight"), 2 * heads, h, Projection::Q);
        self.linear(format!("{at}.k_proj.weight"), kv, h, Projection::K);
        self.linear(format!("{at}.v_proj.weight"), kv, h, Projection::V);
        self.linear(format!("{at}.o_proj.weight"), h, heads, Projection::O);
        self.add(format!("{at}.q_norm.weight"), [d], Role::Norm);
        self.add(format!("{at}.k_norm.weight"), [d], Role::Norm);
    }

    fn linear_attention(&mut self, config: &TextConfig, at: &str) {
        let h = config.hidden_size;
        let value_heads = config.linear_num_value_heads;
        let value = config.linear_value_dim();
        let channels = config.linear_conv_dim();
        let taps = config.linear_conv_kernel_dim;
        let qkv = Projection::InQkv;
        self.linear(format!("{at}.in_proj_qkv.weight"), channels, h, qkv);
        self.linear(format!("{at}.in_proj_z.weight"), value, h, Projection::InZ);
        let (b, a) = (Projection::InB, Projection::InA);
        self.linear(format!("{at}.in_proj_b.weight"), value_heads, h, b);
        self.linear(format!("{at}.in_proj_a.weight"), value_heads, h, a);
        let conv = format!("{at}.conv1d.weight");
        self.add(conv, [channels, 1, taps], Role::Conv);
        self.add(format!("{at}.A_log"), [value_heads], Role::ALog);
        self.add(format!("{at}.dt_bias"), [value_heads], Role::DtBias);
        let head = [config.linear_value_head_dim];
        self.add(format!("{at}.norm.weight"), head, Role::GdnNorm);
        self.linear(format!("{at}.out_proj.weight"), h, value, Projection::Out);
    }

    /// The vision tower: patches, positions, blocks, merger.
    fn vision(&mut self, config: &VisionConfig) {
        let (h, f) = (config.hidden_size, config.intermediate_size);
        let patch = [
            h,
            config.in_channels,
            config.temporal_patch_size,
            config.patch_size,
            config.patch_size,
        ];
        let at = "model.visual";
        self.layer = None;
        self.with_bias(
            &format!("{at}.patch_embed.proj"),
            patch,
            VisionPart::PatchEmbed,
        );
        self.add(
            format!("{at}.pos_embed.weight"),
            [config.num_position_embeddings, h],
            Role::Vision(VisionPart::Positions),
        );
        for block in 0..config.depth {
            self.layer = Some(LayerRef::Vision(block));
            let at = format!("{at}.blocks.{block}");
            self.with_bias(&format!("{at}.norm1"), [h], VisionPart::Norm);
            self.with_bias(&format!("{at}.attn.qkv"), [3 * h, h], VisionPart::Qkv);
            self.with_bias(&format!("{at}.attn.proj"), [h, h], VisionPart::Out);
            self.with_bias(&format!("{at}.norm2"), [h], VisionPart::Norm);
            self.with_bias(&format!("{at}.mlp.linear_fc1"), [f, h], VisionPart::Fc1);
            self.with_bias(&format!("{at}.mlp.linear_fc2"), [h, f], VisionPart::Fc2);
        }
        self.layer = None;
        let at = format!("{at}.merger");
        let (wide, out) = (config.merged_size(), config.out_hidden_size);
        let (fc1, fc2) = (VisionPart::MergerFc1, VisionPart::MergerFc2);
        self.with_bias(&format!("{at}.norm"), [h], VisionPart::Norm);
        self.with_bias(&format!("{at}.linear_fc1"), [wide, wide], fc1);
        self.with_bias(&format!("{at}.linear_fc2"), [out, wide], fc2);
    }

    /// A weight and its bias, as long as the weight's first extent.
    fn with_bias<const N: usize>(&mut self, at: &str, shape: [usize; N], part: VisionPart) {
        self.add(format!("{at}.weight"), shape, Role::Vision(part));
        self.add(format!("{at}.bias"), [shape[0]], Role::VisionBias(part));
    }
}
