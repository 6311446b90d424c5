//! How many parameters a model has and how many operations a token costs.

use serde::Serialize;

use super::{
    ExpertStyle, LayerKind, LayerRef, ModelConfig, Role, TensorSpec, TextConfig, model_tensors,
    tensors,
};
use crate::base::Flops;

/// Scalars of a model by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ParameterCount {
    /// Token embedding.
    pub embedding: u64,
    /// Decoder layers and the final norm.
    pub decoder: u64,
    /// Output head; 0 where it is the embedding.
    pub head: u64,
    /// MTP depths.
    pub mtp: u64,
    /// Vision tower.
    pub vision: u64,
    /// All of them.
    pub total: u64,
    /// How many tensors they are in.
    pub tensors: usize,
    /// Tensors of the text model without MTP.
    pub text_tensors: usize,
    /// Tensors of the vision tower.
    pub vision_tensors: usize,
}

impl ParameterCount {
    /// Scalars of the text model without MTP.
    pub fn text(&self) -> u64 {
        self.total - self.mtp - self.vision
    }
}

/// Adds up [`tensors`] by part.
pub fn parameters(config: &TextConfig) -> ParameterCount {
    add_up(&tensors(config))
}

/// Adds up [`model_tensors`] by part; `experts` decides only how many tensors there are.
pub fn model_parameters(config: &ModelConfig, experts: ExpertStyle) -> ParameterCount {
    add_up(&model_tensors(config, experts))
}

fn add_up(tensors: &[TensorSpec]) -> ParameterCount {
    let mut count = ParameterCount::default();
    for tensor in tensors {
        let elements = tensor.shape.elements();
        count.total += elements;
        count.tensors += 1;
        let part = match (tensor.role, tensor.layer) {
            (Role::Vision(_) | Role::VisionBias(_), _) => {
                count.vision_tensors += 1;
                &mut count.vision
            }
            (_, Some(LayerRef::Mtp(_))) => &mut count.mtp,
            (role, _) => {
                count.text_tensors += 1;
                match role {
                    Role::Embedding => &mut count.embedding,
                    Role::Head => &mut count.head,
                    _ => &mut count.decoder,
                }
            }
        };
        *part += elements;
    }
    count
}

/// Scalars of one layer of a kind, its norms and MLP included.
pub fn layer_parameters(config: &TextConfig, kind: LayerKind) -> u64 {
    let one = TextConfig {
        num_hidden_layers: 1,
        layer_types: vec![kind],
        mtp_num_hidden_layers: 0,
        source: serde_json::Value::Null,
        ..config.clone()
    };
    tensors(&one)
        .iter()
        .filter(|tensor| tensor.layer.is_some())
        .map(|tensor| tensor.shape.elements())
        .sum()
}

/// Operations of one part of the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlopsTerm {
    /// The part.
    pub name: &'static str,
    /// Operations a token, forward and backward.
    pub flops: Flops,
    /// How they are counted.
    pub formula: &'static str,
}

/// Operations to train on one token: forward and backward, a multiply-add being two, recompute not counted.
///
/// This is the count that Megatron-Bridge reports TFLOP/s by. `seq` is the length of a sequence; for packed rows it is the sum of squared
/// lengths over the sum of lengths.
pub fn flops_per_token(config: &TextConfig, seq: f64) -> Flops {
    Flops(
        flops_terms(config, seq)
            .iter()
            .map(|term| term.flops.0)
            .sum(),
    )
}

/// The terms of [`flops_per_token`], MTP's layers counted with the decoder's.
pub fn flops_terms(config: &TextConfig, seq: f64) -> Vec<FlopsTerm> {
    let h = config.hidden_size as f64;
    let d = config.head_dim as f64;
    let heads = config.num_attention_heads as f64 * d;
    let kv = config.num_key_value_heads as f64 * d;
    let qk = config.linear_key_dim() as f64;
    let vd = config.linear_value_dim() as f64;
    let value_heads = config.linear_num_value_heads as f64;
    let dv = config.linear_value_head_dim as f64;
    let taps = config.linear_conv_kernel_dim as f64;
    let depths = config.mtp_num_hidden_layers as f64;
    let linear_layers = config
        .layer_types
        .iter()
        .filter(|&&kind| kind == LayerKind::LinearAttention)
        .count() as f64;
    let full_layers = config.layer_types.len() as f64 - linear_layers + depths;
    let term = |name, multiply_adds: f64, formula| FlopsTerm {
        name,
        flops: Flops(6.0 * multiply_adds),
        formula,
    };
    vec![
        term(
            "full attention",
            full_layers * (h * (2.0 * heads + 2.0 * kv) + heads * h + heads * seq),
            "6 * layers * (h*(2*H*d + 2*K*d) + H*d*h + H*d*s)",
        ),
        term(
            "gated delta net",
            linear_layers
                * (h * (2.0 * qk + 2.0 * vd + 2.0 * value_heads)
                    + taps * (2.0 * qk + vd)
                    + 4.0 * value_heads * dv * dv
                    + h * vd),
            "6 * layers * (h*(2*Kl*dk + 2*Hv*dv + 2*Hv) + taps*(2*Kl*dk + Hv*dv) + 4*Hv*dv^2 + h*Hv*dv)",
        ),
        match &config.moe {
            None => term(
                "mlp",
                (linear_layers + full_layers) * 3.0 * h * config.intermediate_size as f64,
                "6 * layers * 3*h*F",
            ),
            Some(moe) => {
                let routed = moe.num_experts_per_tok * moe.moe_intermediate_size;
                let width = (routed + moe.shared_expert_intermediate_size) as f64;
                term(
                    "experts",
                    (linear_layers + full_layers) * 3.0 * h * width,
                    "6 * layers * 3*h*(k*I + S)",
                )
            }
        },
        term(
            "mtp joint and norms",
            depths * (2.0 * h * h + 3.0 * h),
            "6 * D * (2*h^2 + 3*h)",
        ),
        term(
            "logits",
            h * config.vocab_size as f64 * (1.0 + depths),
            "6 * h * V * (1 + D)",
        ),
    ]
}
