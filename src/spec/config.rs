//! The geometry of a Qwen3.5 model, named as `config.json` names it.

mod class;
mod keys;
mod model;
mod read;
mod validate;
mod vision;
mod write;

use serde::{Deserialize, Serialize};

use crate::base::DType;
use class::Class;

/// What mixes tokens in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Gated delta net.
    LinearAttention,
    /// Gated softmax attention.
    FullAttention,
}

/// The geometry of a Qwen3.5 text model.
///
/// Field names are those of Hugging Face's `config.json` (`text_config` of the multimodal classes).
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP; without meaning where [`moe`](Self::moe) is set, since then every layer is a mixture of experts.
    pub intermediate_size: usize,
    /// The mixture of experts that stands in for every MLP, MTP's included; none for dense models.
    pub moe: Option<MoeConfig>,
    /// Decoder layers, MTP not counted.
    pub num_hidden_layers: usize,
    /// Query heads of full attention.
    pub num_attention_heads: usize,
    /// Key-value heads of full attention.
    pub num_key_value_heads: usize,
    /// Width of an attention head.
    pub head_dim: usize,
    /// Key heads of the gated delta net.
    pub linear_num_key_heads: usize,
    /// Value heads of the gated delta net.
    pub linear_num_value_heads: usize,
    /// Width of a key head of the gated delta net.
    pub linear_key_head_dim: usize,
    /// Width of a value head of the gated delta net.
    pub linear_value_head_dim: usize,
    /// Taps of the causal convolution.
    pub linear_conv_kernel_dim: usize,
    /// Layer `i` (from 0) is full attention iff `(i + 1) % full_attention_interval == 0`, unless `layer_types` says otherwise.
    pub full_attention_interval: usize,
    /// What each layer is; as long as `num_hidden_layers`.
    pub layer_types: Vec<LayerKind>,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Share of a head that is rotated.
    pub partial_rotary_factor: f64,
    /// Frequencies for time, height, width; sums to half the rotary width.
    pub mrope_section: [usize; 3],
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of random initialisation.
    pub initializer_range: f64,
    /// Longest position.
    pub max_position_embeddings: usize,
    /// MTP depths; 0 is no MTP.
    pub mtp_num_hidden_layers: usize,
    /// Type of the stored weights, if the file says.
    pub dtype: Option<DType>,
    /// `config.json` as it was read, so that unknown keys survive; `null` when the config was not read from a file.
    pub source: serde_json::Value,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoeConfig {
    /// Routed experts of a layer.
    pub num_experts: usize,
    /// Experts that a token goes through.
    pub num_experts_per_tok: usize,
    /// Width of a routed expert.
    pub moe_intermediate_size: usize,
    /// Width of the shared expert.
    pub shared_expert_intermediate_size: usize,
}

/// The vision tower of the multimodal classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of a block.
    pub hidden_size: usize,
    /// Width of a block's MLP.
    pub intermediate_size: usize,
    /// Attention heads of a block.
    pub num_heads: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Colours of a pixel.
    pub in_channels: usize,
    /// Side of the square of patches that the merger joins.
    pub spatial_merge_size: usize,
    /// Rows of the learned position table.
    pub num_position_embeddings: usize,
    /// Width that the merger gives, the text model's `hidden_size`.
    pub out_hidden_size: usize,
}

/// The whole of a `config.json`: the text model, and the vision tower where the class is a multimodal one.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The text model, dense or with experts. Its `source` is the whole file.
    pub text: TextConfig,
    /// The vision tower; some for `...ForConditionalGeneration`, none for `...ForCausalLM`.
    pub vision: Option<VisionConfig>,
}

impl ModelConfig {
    /// What stands before the names of the text decoder: `model.` or `model.language_model.`; `mtp.` and `lm_head.` have nothing before them.
    pub fn text_prefix(&self) -> &'static str {
        match self.vision {
            None => "model.",
            Some(_) => "model.language_model.",
        }
    }
}

/// How Hugging Face files store the routed experts of a part of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpertLayout {
    /// `experts.gate_up_proj` `[E, 2I, h]`, gate rows first, and `experts.down_proj` `[E, h, I]`.
    Fused,
    /// `experts.{e}.gate_proj.weight`, `up_proj`, `down_proj`.
    PerExpert,
}

/// How Hugging Face files store experts, for the decoder and for MTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExpertStyle {
    /// In the decoder.
    pub decoder: ExpertLayout,
    /// In MTP.
    pub mtp: ExpertLayout,
}

impl ExpertStyle {
    /// As Qwen3.5 is published: the decoder fused, MTP one by one.
    pub const QWEN3_5: Self = Self {
        decoder: ExpertLayout::Fused,
        mtp: ExpertLayout::PerExpert,
    };
    /// As Qwen3.6 is published: all fused.
    pub const QWEN3_6: Self = Self {
        decoder: ExpertLayout::Fused,
        mtp: ExpertLayout::Fused,
    };
    /// As transformers may write it: all one by one.
    pub const PER_EXPERT: Self = Self {
        decoder: ExpertLayout::PerExpert,
        mtp: ExpertLayout::PerExpert,
    };
}

impl Default for TextConfig {
    /// What a key means that `config.json` leaves out: the family's values, which are the geometry of 9B, and no MTP.
    fn default() -> Self {
        Self {
            vocab_size: 248_320,
            hidden_size: 4096,
            intermediate_size: 12_288,
            moe: None,
            num_hidden_layers: 32,
            num_attention_heads: 16,
            num_key_value_heads: 4,
            head_dim: 256,
            linear_num_key_heads: 16,
            linear_num_value_heads: 32,
            linear_key_head_dim: 128,
            linear_value_head_dim: 128,
            linear_conv_kernel_dim: 4,
            full_attention_interval: 4,
            layer_types: layer_pattern(32, 4),
            rope_theta: 1e7,
            partial_rotary_factor: 0.25,
            mrope_section: [11, 11, 10],
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            initializer_range: 0.02,
            max_position_embeddings: 32_768,
            mtp_num_hidden_layers: 0,
            dtype: None,
            source: serde_json::Value::Null,
        }
    }
}

impl TextConfig {
    /// What a missing key means in a class; for those with experts the geometry of 35B-A3B.
    fn default_of(class: Class) -> Self {
        if !class.has_experts() {
            return Self::default();
        }
        Self {
            hidden_size: 2048,
            intermediate_size: 0,
            moe: Some(MoeConfig {
                num_experts: 256,
                num_experts_per_tok: 8,
                moe_intermediate_size: 512,
                shared_expert_intermediate_size: 512,
            }),
            num_hidden_layers: 40,
            layer_types: layer_pattern(40, 4),
            num_key_value_heads: 2,
            ..Self::default()
        }
    }
}

/// The usual kinds of `layers` layers: every `interval`-th, counted from 1, is full attention.
pub fn layer_pattern(layers: usize, interval: usize) -> Vec<LayerKind> {
    (1..=layers)
        .map(|n| {
            if n.is_multiple_of(interval.max(1)) {
                LayerKind::FullAttention
            } else {
                LayerKind::LinearAttention
            }
        })
        .collect()
}

/// Frequencies of time, height and width when they alternate over `half` = rotary width / 2, as the published models have them.
pub fn mrope_split(half: usize) -> [usize; 3] {
    [
        half.div_ceil(3),
        half.saturating_sub(1).div_ceil(3),
        half.saturating_sub(2).div_ceil(3),
    ]
}

impl TextConfig {
    /// Width of the rotated part of a head, even.
    pub fn rotary_dim(&self) -> usize {
        (self.head_dim as f64 * self.partial_rotary_factor) as usize
    }

    /// Width of all key heads of the gated delta net: `linear_num_key_heads * linear_key_head_dim`.
    pub fn linear_key_dim(&self) -> usize {
        self.linear_num_key_heads * self.linear_key_head_dim
    }

    /// Width of all value heads of the gated delta net.
    pub fn linear_value_dim(&self) -> usize {
        self.linear_num_value_heads * self.linear_value_head_dim
    }

    /// Channels of the causal convolution: query, key and value.
    pub fn linear_conv_dim(&self) -> usize {
        2 * self.linear_key_dim() + self.linear_value_dim()
    }
}
