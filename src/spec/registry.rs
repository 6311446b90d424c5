//! The published sizes, and two toys.

use std::sync::LazyLock;

use super::{
    ExpertStyle, ModelConfig, MoeConfig, TextConfig, VisionConfig, layer_pattern, mrope_split,
};
use crate::base::DType;

/// A size with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Our name for it: `qwen3_5-0_8b`.
    pub name: &'static str,
    /// Its name for people: `Qwen3.5-0.8B`.
    pub display: &'static str,
    /// Its name on the Hugging Face Hub; empty for the toys.
    pub hf_id: &'static str,
    /// The model as published: text with its MTP depth, and the vision tower.
    pub model: ModelConfig,
    /// How its files store experts; says nothing for dense models.
    pub experts: ExpertStyle,
    /// Whether `A_log` and the norm of the gated delta net are stored in f32, as Qwen3.5 does and Qwen3.6 does not.
    pub keeps_f32: bool,
    /// What else a user should know.
    pub note: &'static str,
}

impl Entry {
    /// The text model if this version trains it: the dense ones.
    pub fn dense(&self) -> Option<&TextConfig> {
        Some(&self.model.text).filter(|text| text.moe.is_none())
    }

    /// The same size without vision, in the text class.
    pub fn text_only(&self) -> ModelConfig {
        self.model.text_only()
    }
}

/// What differs between the sizes.
#[derive(Clone, Copy)]
struct Size {
    hidden: usize,
    mlp: Mlp,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    value_heads: usize,
    tied: bool,
    vision: Tower,
}

#[derive(Clone, Copy)]
enum Mlp {
    /// Width.
    Dense(usize),
    /// Experts, experts a token, width of a routed and of the shared expert.
    Experts(usize, usize, usize),
}

/// Blocks, width, width of the MLP, heads.
type Tower = (usize, usize, usize, usize);

const SMALL: Tower = (12, 768, 3072, 12);
const MIDDLE: Tower = (24, 1024, 4096, 16);
const LARGE: Tower = (27, 1152, 4304, 16);

const fn size(
    (hidden, mlp, layers): (usize, Mlp, usize),
    (heads, kv_heads, value_heads): (usize, usize, usize),
    tied: bool,
    vision: Tower,
) -> Size {
    Size {
        hidden,
        mlp,
        layers,
        heads,
        kv_heads,
        value_heads,
        tied,
        vision,
    }
}

const B0_8: Size = size((1024, Mlp::Dense(3584), 24), (8, 2, 16), true, SMALL);
const B2: Size = size((2048, Mlp::Dense(6144), 24), (8, 2, 16), true, MIDDLE);
const B4: Size = size((2560, Mlp::Dense(9216), 32), (16, 4, 32), true, MIDDLE);
const B9: Size = size((4096, Mlp::Dense(12_288), 32), (16, 4, 32), false, LARGE);
const B27: Size = size((5120, Mlp::Dense(17_408), 64), (24, 4, 48), false, LARGE);
const A3B: Mlp = Mlp::Experts(256, 8, 512);
const A10B: Mlp = Mlp::Experts(256, 8, 1024);
const A17B: Mlp = Mlp::Experts(512, 10, 1024);
const B35: Size = size((2048, A3B, 40), (16, 2, 32), false, LARGE);
const B122: Size = size((3072, A10B, 48), (32, 2, 64), false, LARGE);
const B397: Size = size((4096, A17B, 60), (32, 2, 64), false, LARGE);

const MOE: &str = "mixture of experts: this version trains dense models only";
const STYLE_3_5: ExpertStyle = ExpertStyle::QWEN3_5;
const STYLE_3_6: ExpertStyle = ExpertStyle::QWEN3_6;

/// Name, Hub id, geometry, expert style, note; the display name is the Hub id without `Qwen/`.
type Row = (&'static str, &'static str, Size, ExpertStyle, &'static str);

#[rustfmt::skip]
const PUBLISHED: [Row; 12] = [
    ("qwen3_5-0_8b", "Qwen/Qwen3.5-0.8B", B0_8, STYLE_3_5, ""),
    ("qwen3_5-2b", "Qwen/Qwen3.5-2B", B2, STYLE_3_5, ""),
    ("qwen3_5-4b", "Qwen/Qwen3.5-4B", B4, STYLE_3_5, ""),
    ("qwen3_5-9b", "Qwen/Qwen3.5-9B", B9, STYLE_3_5, ""),
    ("qwen3_5-9b-base", "Qwen/Qwen3.5-9B-Base", B9, STYLE_3_5, "pretrained only"),
    ("qwen3_5-27b", "Qwen/Qwen3.5-27B", B27, STYLE_3_5, ""),
    ("qwen3_6-27b", "Qwen/Qwen3.6-27B", B27, STYLE_3_6, "geometry of Qwen3.5-27B"),
    ("qwen3_5-35b-a3b", "Qwen/Qwen3.5-35B-A3B", B35, STYLE_3_5, MOE),
    ("qwen3_5-35b-a3b-base", "Qwen/Qwen3.5-35B-A3B-Base", B35, STYLE_3_5, MOE),
    ("qwen3_6-35b-a3b", "Qwen/Qwen3.6-35B-A3B", B35, STYLE_3_6, MOE),
    ("qwen3_5-122b-a10b", "Qwen/Qwen3.5-122B-A10B", B122, STYLE_3_5, MOE),
    ("qwen3_5-397b-a17b", "Qwen/Qwen3.5-397B-A17B", B397, STYLE_3_5, MOE),
];

impl Size {
    fn model(&self) -> ModelConfig {
        let (intermediate_size, moe) = self.mlp.parts();
        let text = TextConfig {
            hidden_size: self.hidden,
            intermediate_size,
            moe,
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
        };
        let (depth, hidden_size, intermediate_size, num_heads) = self.vision;
        let vision = VisionConfig {
            depth,
            hidden_size,
            intermediate_size,
            num_heads,
            out_hidden_size: text.hidden_size,
            ..VisionConfig::default()
        };
        ModelConfig {
            text,
            vision: Some(vision),
        }
    }
}

impl Mlp {
    /// Width of the MLP, or the experts in its place.
    fn parts(self) -> (usize, Option<MoeConfig>) {
        match self {
            Self::Dense(width) => (width, None),
            Self::Experts(num_experts, num_experts_per_tok, width) => {
                let moe = MoeConfig {
                    num_experts,
                    num_experts_per_tok,
                    moe_intermediate_size: width,
                    shared_expert_intermediate_size: width,
                };
                (0, Some(moe))
            }
        }
    }
}

/// A text model that a test trains, or converts, in milliseconds.
fn toy(name: &'static str, mlp: Mlp, note: &'static str) -> Entry {
    let (intermediate_size, moe) = mlp.parts();
    let text = TextConfig {
        vocab_size: 256,
        hidden_size: 64,
        intermediate_size,
        moe,
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
    };
    Entry {
        name,
        display: name,
        hf_id: "",
        model: text.into(),
        experts: STYLE_3_5,
        keeps_f32: false,
        note,
    }
}

static REGISTRY: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let published = PUBLISHED
        .into_iter()
        .map(|(name, hf_id, size, experts, note)| Entry {
            name,
            display: hf_id.strip_prefix("Qwen/").unwrap_or(hf_id),
            hf_id,
            model: size.model(),
            experts,
            keeps_f32: name.starts_with("qwen3_5"),
            note,
        });
    let toys = [
        toy("toy", Mlp::Dense(128), "for tests; not published"),
        toy("toy-moe", Mlp::Experts(8, 2, 32), MOE),
    ];
    published.chain(toys).collect()
});

/// Every size that has a name, smallest dense first, mixture-of-experts models and the toys last.
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
