//! The published sizes, and a toy.

use std::sync::LazyLock;

use super::{TextConfig, layer_pattern, mrope_split};
use crate::base::DType;

/// A size with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Our name for it: `qwen3_5-0_8b`.
    pub name: &'static str,
    /// Its name for people: `Qwen3.5-0.8B`.
    pub display: &'static str,
    /// Its name on the Hugging Face Hub; empty for the toy.
    pub hf_id: &'static str,
    /// The text model with its published MTP depth; none for mixture-of-experts models.
    pub config: Option<TextConfig>,
    /// What else a user should know.
    pub note: &'static str,
}

/// What differs between the dense sizes.
struct Dense {
    hidden_size: usize,
    intermediate_size: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    value_heads: usize,
    tied: bool,
}

const fn dense(
    (hidden_size, intermediate_size, layers): (usize, usize, usize),
    (heads, kv_heads, value_heads): (usize, usize, usize),
    tied: bool,
) -> Dense {
    Dense {
        hidden_size,
        intermediate_size,
        layers,
        heads,
        kv_heads,
        value_heads,
        tied,
    }
}

const DENSE_0_8B: Dense = dense((1024, 3584, 24), (8, 2, 16), true);
const DENSE_2B: Dense = dense((2048, 6144, 24), (8, 2, 16), true);
const DENSE_4B: Dense = dense((2560, 9216, 32), (16, 4, 32), true);
const DENSE_9B: Dense = dense((4096, 12_288, 32), (16, 4, 32), false);
const DENSE_27B: Dense = dense((5120, 17_408, 64), (24, 4, 48), false);

const MOE: &str = "mixture of experts: this version trains dense models only";

/// Name, display name, Hub id, geometry (none: mixture of experts), note.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    Option<Dense>,
    &'static str,
);

#[rustfmt::skip]
const PUBLISHED: [Row; 11] = [
    ("qwen3_5-0_8b", "Qwen3.5-0.8B", "Qwen/Qwen3.5-0.8B", Some(DENSE_0_8B), ""),
    ("qwen3_5-2b", "Qwen3.5-2B", "Qwen/Qwen3.5-2B", Some(DENSE_2B), ""),
    ("qwen3_5-4b", "Qwen3.5-4B", "Qwen/Qwen3.5-4B", Some(DENSE_4B), ""),
    ("qwen3_5-9b", "Qwen3.5-9B", "Qwen/Qwen3.5-9B", Some(DENSE_9B), ""),
    ("qwen3_5-9b-base", "Qwen3.5-9B-Base", "Qwen/Qwen3.5-9B-Base", Some(DENSE_9B), "pretrained only"),
    ("qwen3_5-27b", "Qwen3.5-27B", "Qwen/Qwen3.5-27B", Some(DENSE_27B), ""),
    ("qwen3_6-27b", "Qwen3.6-27B", "Qwen/Qwen3.6-27B", Some(DENSE_27B), "geometry of Qwen3.5-27B"),
    ("qwen3_5-35b-a3b", "Qwen3.5-35B-A3B", "Qwen/Qwen3.5-35B-A3B", None, MOE),
    ("qwen3_6-35b-a3b", "Qwen3.6-35B-A3B", "Qwen/Qwen3.6-35B-A3B", None, MOE),
    ("qwen3_5-122b-a10b", "Qwen3.5-122B-A10B", "Qwen/Qwen3.5-122B-A10B", None, MOE),
    ("qwen3_5-397b-a17b", "Qwen3.5-397B-A17B", "Qwen/Qwen3.5-397B-A17B", None, MOE),
];

impl Dense {
    fn config(&self) -> TextConfig {
        TextConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.layers,
            layer_types: layer_pattern(self.layers, 4),
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            linear_num_value_heads: self.value_heads,
            tie_word_embeddings: self.tied,
            max_position_embeddings: 262_144,
            mtp_num_hidden_layers: 1,
            dtype: Some(DType::BF16),
            ..TextConfig::default()
        }
    }
}

/// A model that a test trains in milliseconds.
fn toy() -> Entry {
    Entry {
        name: "toy",
        display: "toy",
        hf_id: "",
        config: Some(TextConfig {
            vocab_size: 256,
            hidden_size: 64,
            intermediate_size: 128,
            num_hidden_layers: 4,
            layer_types: layer_pattern(4, 4),
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 16,
            linear_num_key_heads: 2,
            linear_num_value_heads: 4,
            linear_key_head_dim: 8,
            linear_value_head_dim: 8,
            partial_rotary_factor: 0.5,
            mrope_section: mrope_split(4),
            mtp_num_hidden_layers: 1,
            ..TextConfig::default()
        }),
        note: "for tests; not published",
    }
}

static REGISTRY: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let published = PUBLISHED
        .into_iter()
        .map(|(name, display, hf_id, geometry, note)| Entry {
            name,
            display,
            hf_id,
            config: geometry.map(|dense| dense.config()),
            note,
        });
    published.chain([toy()]).collect()
});

/// Every size that has a name, smallest dense first, mixture-of-experts models and the toy last.
pub fn registry() -> &'static [Entry] {
    &REGISTRY
}

/// The size of that name: ours (`qwen3_5-0_8b`), the Hub's (`Qwen/Qwen3.5-0.8B`), or the size alone (`0.8b`, which is Qwen3.5). Letter case, and
/// `.` or `_`, do not matter.
pub fn find(name: &str) -> Option<&'static Entry> {
    let wanted = name.trim().to_lowercase().replace('.', "_");
    let wanted = wanted.strip_prefix("qwen/").unwrap_or(&wanted);
    registry()
        .iter()
        .find(|entry| entry.name == wanted || entry.name.strip_prefix("qwen3_5-") == Some(wanted))
}
