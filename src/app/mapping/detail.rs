//! What the screen says about the row under the cursor.

use super::tree::{children, kind_name};
use super::{Content, Model, Row};
use crate::app::preview::{count, grouped};
use crate::base::{Bytes, DType};
use crate::spec::{
    LayerKind, LayerRef, MoeConfig, Projection, Role, TensorSpec, TextConfig, VisionPart,
    flops_terms,
};

/// The text about a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detail {
    /// Its full name.
    pub title: String,
    /// Facts with their name.
    pub facts: Vec<(&'static str, String)>,
    /// What the bars are of; empty if there are none.
    pub bars_title: String,
    /// Its parts by size.
    pub bars: Vec<Bar>,
}

/// A part with its size.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it is.
    pub label: String,
    /// Share of the whole, 0 to 1.
    pub share: f64,
    /// Its size for people.
    pub text: String,
}

/// What there is to say about a row.
pub fn detail(model: &Model, row: &Row, collapsed: bool) -> Detail {
    match &row.content {
        Content::Tensor(index) => tensor(model, &model.tensors[*index]),
        Content::Group { tensors, .. } => group(model, row, *tensors, collapsed),
        Content::Same { count, to, list } => Detail {
            title: format!("{count} same as {to}"),
            facts: vec![
                ("which", list.clone()),
                ("parameters", grouped(row.parameters)),
                ("each", grouped(row.parameters / (*count).max(1) as u64)),
                ("bytes", bytes(model, row.parameters)),
            ],
            ..Detail::default()
        },
        Content::Tied => Detail {
            title: row.label.clone(),
            facts: vec![
                ("stored", "no: the head is model.embed_tokens.weight".into()),
                ("why", "tie_word_embeddings = true".into()),
            ],
            ..Detail::default()
        },
    }
}

/// Type of the stored weights.
fn dtype(model: &Model) -> DType {
    model.config.dtype.unwrap_or(DType::F32)
}

fn bytes(model: &Model, parameters: u64) -> String {
    let dtype = dtype(model);
    format!("{} in {dtype}", Bytes(parameters * dtype.size()))
}

fn share(model: &Model, parameters: u64) -> String {
    let total: u64 = model.tensors.iter().map(|t| t.shape.elements()).sum();
    format!(
        "{} ({:.2} % of the model)",
        grouped(parameters),
        100.0 * parameters as f64 / total.max(1) as f64
    )
}

fn tensor(model: &Model, tensor: &TensorSpec) -> Detail {
    let elements = tensor.shape.elements();
    let mut facts = vec![
        ("shape", tensor.shape.to_string()),
        ("extents", extents(model.config, tensor.role)),
        ("role", tensor.role.label().to_owned()),
        ("does", does(tensor.role).to_owned()),
        ("parameters", share(model, elements)),
        ("bytes", bytes(model, elements)),
        ("starts as", starts(model.config, tensor.role)),
        (
            "weight decay",
            if tensor.shape.0.len() >= 2 {
                "yes"
            } else {
                "no: one dimension"
            }
            .to_owned(),
        ),
    ];
    match tensor.layer {
        Some(LayerRef::Decoder(layer)) => {
            let kind = model.config.layer_types[layer];
            facts.insert(0, ("layer", format!("{layer}, {}", kind_name(kind))));
        }
        Some(LayerRef::Mtp(index)) => {
            let published = if index == 0 {
                "published name"
            } else {
                "our own name: one depth is published"
            };
            facts.insert(0, ("mtp", format!("depth {}, {published}", index + 1)));
        }
        Some(LayerRef::Vision(block)) => {
            facts.insert(0, ("block", format!("{block} of the vision tower")));
        }
        None => {}
    }
    Detail {
        title: tensor.name.clone(),
        facts,
        ..Detail::default()
    }
}

fn group(model: &Model, row: &Row, tensors: usize, collapsed: bool) -> Detail {
    let mut facts = vec![
        ("tensors", tensors.to_string()),
        ("parameters", share(model, row.parameters)),
        ("bytes", bytes(model, row.parameters)),
    ];
    let config = model.config;
    match row.key.as_str() {
        "model" => {
            let full = config
                .layer_types
                .iter()
                .filter(|&&kind| kind == LayerKind::FullAttention)
                .count();
            let linear = config.num_hidden_layers - full;
            facts.push((
                "layers",
                format!("{linear} gated delta net, {full} full attention"),
            ));
            facts.push((
                "width",
                format!(
                    "hidden {}, mlp {}, vocabulary {}",
                    config.hidden_size, config.intermediate_size, config.vocab_size
                ),
            ));
            facts.push((
                "attention",
                format!(
                    "{} heads of {}, {} key-value heads, {} rotated",
                    config.num_attention_heads,
                    config.head_dim,
                    config.num_key_value_heads,
                    config.rotary_dim()
                ),
            ));
            facts.push((
                "delta net",
                format!(
                    "{} key heads of {}, {} value heads of {}, {} taps",
                    config.linear_num_key_heads,
                    config.linear_key_head_dim,
                    config.linear_num_value_heads,
                    config.linear_value_head_dim,
                    config.linear_conv_kernel_dim
                ),
            ));
            let terms = flops_terms(config, model.seq_length as f64);
            let total: f64 = terms.iter().map(|term| term.flops.0).sum();
            facts.push((
                "a token",
                format!(
                    "{} forward and backward at {} tokens",
                    crate::base::Flops(total),
                    model.seq_length
                ),
            ));
        }
        "mtp" => facts.push((
            "predicts",
            format!(
                "{} tokens beyond the next one; embedding and head are the model's",
                config.mtp_num_hidden_layers
            ),
        )),
        _ => {}
    }
    let children = children(model, &row.key, collapsed);
    let bars = children
        .iter()
        .map(|child| Bar {
            label: child.label.clone(),
            share: child.parameters as f64 / row.parameters.max(1) as f64,
            text: match child.content {
                Content::Tied => "tied".into(),
                _ => count(child.parameters),
            },
        })
        .collect();
    Detail {
        title: row.label.clone(),
        facts,
        bars_title: "parameters by part".into(),
        bars,
    }
}

/// The extents of a role in the model's own numbers.
fn extents(config: &TextConfig, role: Role) -> String {
    let h = format!("hidden {}", config.hidden_size);
    let f = format!("mlp {}", config.intermediate_size);
    let d = config.head_dim;
    let heads = config.num_attention_heads;
    let kv = format!("{} key-value heads * {d}", config.num_key_value_heads);
    let value_heads = format!("{} value heads", config.linear_num_value_heads);
    let value = format!("{value_heads} * {}", config.linear_value_head_dim);
    let channels = format!(
        "2 * {} key heads * {} + {value}",
        config.linear_num_key_heads, config.linear_key_head_dim
    );
    match role {
        Role::Embedding | Role::Head => format!("vocabulary {} by {h}", config.vocab_size),
        Role::Norm => "one gain a feature".into(),
        Role::GdnNorm => format!("value head width {}", config.linear_value_head_dim),
        Role::ALog | Role::DtBias => value_heads,
        Role::Conv => format!("{channels} by 1 by {} taps", config.linear_conv_kernel_dim),
        Role::Projection(projection) => match projection {
            Projection::Q => format!("2 * {heads} heads * {d} by {h}"),
            Projection::K | Projection::V => format!("{kv} by {h}"),
            Projection::O => format!("{h} by {heads} heads * {d}"),
            Projection::InQkv => format!("{channels} by {h}"),
            Projection::InZ => format!("{value} by {h}"),
            Projection::InB | Projection::InA => format!("{value_heads} by {h}"),
            Projection::Out => format!("{h} by {value}"),
            Projection::Gate | Projection::Up => format!("{f} by {h}"),
            Projection::Down => format!("{h} by {f}"),
            Projection::MtpFc => format!("{h} by 2 * {h}"),
            _ => config
                .moe
                .as_ref()
                .map_or_else(String::new, |moe| expert_extents(moe, &h, projection)),
        },
        // The screen shows text models, whose config says nothing about vision.
        Role::Vision(_) | Role::VisionBias(_) => String::new(),
    }
}

/// The extents of a part of the experts; empty for all else.
fn expert_extents(moe: &MoeConfig, h: &str, projection: Projection) -> String {
    let experts = format!("{} experts", moe.num_experts);
    let width = format!("width {}", moe.moe_intermediate_size);
    let shared = format!("width {}", moe.shared_expert_intermediate_size);
    match projection {
        Projection::Router => format!("{experts} by {h}"),
        Projection::ExpertsGateUp => format!("{experts} by 2 * {width} by {h}"),
        Projection::ExpertsDown => format!("{experts} by {h} by {width}"),
        Projection::ExpertGate | Projection::ExpertUp => format!("{width} by {h}"),
        Projection::ExpertDown => format!("{h} by {width}"),
        Projection::SharedGate | Projection::SharedUp => format!("{shared} by {h}"),
        Projection::SharedDown => format!("{h} by {shared}"),
        Projection::SharedExpertGate => format!("1 by {h}"),
        _ => String::new(),
    }
}

/// What a role does, in a sentence.
fn does(role: Role) -> &'static str {
    match role {
        Role::Embedding => "turns a token into a vector",
        Role::Head => "turns a vector into a score for every token",
        Role::Norm => "scales a normalised vector by 1 + w",
        Role::GdnNorm => "scales a head's normalised output by w, before its gate",
        Role::ALog => "how fast a head's state decays: rate exp(A_log)",
        Role::DtBias => "shifts the decay's time step before its softplus",
        Role::Conv => "mixes each channel with its three predecessors",
        Role::Projection(projection) => match projection {
            Projection::Q => "makes queries and output gates, head by head",
            Projection::K => "makes keys, shared by groups of query heads",
            Projection::V => "makes values, shared by groups of query heads",
            Projection::O => "brings attention's output back to the residual stream",
            Projection::InQkv => "makes query, key and value for the convolution",
            Projection::InZ => "makes the gate of the output norm",
            Projection::InB => "makes beta, how much of a value is written",
            Projection::InA => "makes the time step of the decay",
            Projection::Out => "brings the state's output back to the residual stream",
            Projection::Gate => "makes the gate, which passes through SiLU",
            Projection::Up => "makes what the gate multiplies",
            Projection::Down => "brings the MLP's output back to the residual stream",
            Projection::MtpFc => {
                "joins a later token's embedding with the hidden state, embedding first"
            }
            Projection::Router => "scores every expert for a token",
            Projection::ExpertsGateUp => "makes gate and up of every expert, gate first",
            Projection::ExpertsDown => "brings every expert's output back to the residual stream",
            Projection::ExpertGate => "makes an expert's gate, which passes through SiLU",
            Projection::ExpertUp => "makes what an expert's gate multiplies",
            Projection::ExpertDown => "brings an expert's output back to the residual stream",
            Projection::SharedGate => "makes the shared expert's gate",
            Projection::SharedUp => "makes what the shared expert's gate multiplies",
            Projection::SharedDown => {
                "brings the shared expert's output back to the residual stream"
            }
            Projection::SharedExpertGate => "says how much of the shared expert a token takes",
        },
        Role::Vision(part) => match part {
            VisionPart::PatchEmbed => "turns a patch of pixels into a vector",
            VisionPart::Positions => "learned vector of a patch's place",
            VisionPart::Norm => "scales a normalised vector by w",
            VisionPart::Qkv => "makes query, key and value, one after the other",
            VisionPart::Out => "brings attention's output back to the residual stream",
            VisionPart::Fc1 => "widens, before the GELU",
            VisionPart::Fc2 => "narrows, back to the residual stream",
            VisionPart::MergerFc1 => "mixes the patches of a square",
            VisionPart::MergerFc2 => "brings a square of patches to the text model's width",
        },
        Role::VisionBias(_) => "is added to the output",
    }
}

/// What random initialisation gives.
fn starts(config: &TextConfig, role: Role) -> String {
    match role {
        Role::Norm | Role::VisionBias(_) => "0".into(),
        Role::GdnNorm | Role::DtBias | Role::Vision(VisionPart::Norm) => "1".into(),
        Role::ALog => "log of uniform 0.01 .. 16".into(),
        _ => format!("normal, deviation {}", config.initializer_range),
    }
}
