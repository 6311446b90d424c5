//! What a Hugging Face tensor does, for people.

use super::rule;
use crate::spec::{
    ExpertStyle, LayerKind, ModelConfig, MoeConfig, Projection, Role, TextConfig, VisionPart,
    model_tensors,
};

/// The role of a Hugging Face name, whatever its layer and expert.
pub(super) fn role(config: &ModelConfig, style: ExpertStyle, name: &str) -> Option<Role> {
    // A model of one layer a kind has every pattern.
    let mut small = config.clone();
    small.text.layer_types = vec![LayerKind::LinearAttention, LayerKind::FullAttention];
    small.text.num_hidden_layers = 2;
    if let Some(moe) = &mut small.text.moe {
        moe.num_experts = 1;
    }
    if let Some(vision) = &mut small.vision {
        vision.depth = 1;
    }
    let wanted = rule::pattern(&[name]);
    model_tensors(&small, style)
        .into_iter()
        .find(|tensor| tensor.name == name || rule::pattern(&[&tensor.name]) == wanted)
        .map(|tensor| tensor.role)
}

/// The extents of a role in the model's own numbers.
pub(super) fn extents(config: &TextConfig, role: Role) -> String {
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
pub(super) fn does(role: Role) -> &'static str {
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
pub(super) fn starts(config: &TextConfig, role: Role) -> String {
    match role {
        Role::Norm | Role::VisionBias(_) => "0".into(),
        Role::GdnNorm | Role::DtBias | Role::Vision(VisionPart::Norm) => "1".into(),
        Role::ALog => "log of uniform 0.01 .. 16".into(),
        _ => format!("normal, deviation {}", config.initializer_range),
    }
}
