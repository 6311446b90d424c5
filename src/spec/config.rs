//! The geometry of a Qwen3.5 text model, named as `config.json` names it.

use serde::{Deserialize, Serialize};

/// What mixes tokens in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// Gated delta net.
    LinearAttention,
    /// Gated softmax attention.
    FullAttention,
}

/// The geometry of a dense Qwen3.5 text model.
///
/// Field names are those of Hugging Face's `config.json` (`text_config` of the multimodal classes).
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
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
    /// `config.json` as it was read, so that unknown keys survive; `null` when the config was not read from a file.
    pub source: serde_json::Value,
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
