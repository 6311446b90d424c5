//! Every tensor of a model: its Hugging Face name, shape and role.

use std::fmt;

use super::{LayerKind, TextConfig};
use crate::base::Shape;

/// A tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face name in the text class: `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Extents; linears are `[out, in]`, the convolution is `[channels, 1, taps]`.
    pub shape: Shape,
    /// What it does.
    pub role: Role,
    /// The layer or MTP depth that it belongs to; none for the embedding, the final norm and the head.
    pub layer: Option<LayerRef>,
}

/// A layer, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerRef {
    /// Layer of the decoder.
    Decoder(usize),
    /// MTP depth `k` at index `k - 1`.
    Mtp(usize),
}

impl fmt::Display for LayerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decoder(layer) => f.pad(&format!("layer {layer}")),
            Self::Mtp(index) => f.pad(&format!("mtp {}", index + 1)),
        }
    }
}

/// What a tensor does; decides how it starts and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding `[V, h]`; the head too where weights are tied.
    Embedding,
    /// Output head `[V, h]` of its own.
    Head,
    /// Zero-centred `RMSNorm`: the gain is `1 + w`, and `w` starts at 0.
    Norm,
    /// Norm of the gated delta net's output: the gain is `w`, which starts at 1.
    GdnNorm,
    /// Logarithm of the decay rate of a value head.
    ALog,
    /// Bias of the decay's time step, starts at 1.
    DtBias,
    /// Depthwise causal convolution.
    Conv,
    /// Matrix of a linear layer.
    Projection(Projection),
}

/// Which linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projection {
    /// Query and gate of full attention, head by head.
    Q,
    /// Key.
    K,
    /// Value.
    V,
    /// Output of full attention, into the residual stream.
    O,
    /// Query, key and value of the gated delta net.
    InQkv,
    /// Gate of its output norm.
    InZ,
    /// Its write strength.
    InB,
    /// Its decay.
    InA,
    /// Its output, into the residual stream.
    Out,
    /// MLP gate.
    Gate,
    /// MLP up.
    Up,
    /// MLP down, into the residual stream.
    Down,
    /// MTP's joint of embedding and hidden state, `[h, 2h]`, embedding first.
    MtpFc,
}

impl Projection {
    /// Whether the output is added to the residual stream.
    pub fn is_residual_output(self) -> bool {
        matches!(self, Self::O | Self::Out | Self::Down)
    }
}

impl Role {
    /// A word or two for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Head => "head",
            Self::Norm => "norm (1 + w)",
            Self::GdnNorm => "norm (w)",
            Self::ALog => "decay log",
            Self::DtBias => "decay bias",
            Self::Conv => "causal conv",
            Self::Projection(projection) => match projection {
                Projection::Q => "query and gate",
                Projection::K => "key",
                Projection::V => "value",
                Projection::O => "attention out",
                Projection::InQkv => "query, key, value",
                Projection::InZ => "output gate",
                Projection::InB => "write strength",
                Projection::InA => "decay",
                Projection::Out => "delta net out",
                Projection::Gate => "mlp gate",
                Projection::Up => "mlp up",
                Projection::Down => "mlp down",
                Projection::MtpFc => "mtp joint",
            },
        }
    }
}

/// Every tensor of the model in canonical order: embedding, layers, final norm, head, MTP depths.
///
/// Depth 1 of MTP has the published names (`mtp.fc`, `mtp.layers.0`, ...); depth `k >= 2` has `mtp.{k-1}.fc`, `mtp.{k-1}.norm`, ... and
/// `mtp.layers.{k-1}`, a convention of ours, since no such checkpoint is published.
pub fn tensors(config: &TextConfig) -> Vec<TensorSpec> {
    let mut list = List::default();
    let (h, vocab) = (config.hidden_size, config.vocab_size);

    list.add("model.embed_tokens.weight", [vocab, h], Role::Embedding);
    for (layer, &kind) in config.layer_types.iter().enumerate() {
        list.layer = Some(LayerRef::Decoder(layer));
        list.layer(config, &format!("model.layers.{layer}"), kind);
    }
    list.layer = None;
    list.add("model.norm.weight", [h], Role::Norm);
    if !config.tie_word_embeddings {
        list.add("lm_head.weight", [vocab, h], Role::Head);
    }
    for index in 0..config.mtp_num_hidden_layers {
        list.layer = Some(LayerRef::Mtp(index));
        let own = match index {
            0 => "mtp".to_owned(),
            _ => format!("mtp.{index}"),
        };
        let fc = Role::Projection(Projection::MtpFc);
        list.add(&format!("{own}.fc.weight"), [h, 2 * h], fc);
        for norm in ["pre_fc_norm_embedding", "pre_fc_norm_hidden"] {
            list.add(&format!("{own}.{norm}.weight"), [h], Role::Norm);
        }
        list.layer(
            config,
            &format!("mtp.layers.{index}"),
            LayerKind::FullAttention,
        );
        list.add(&format!("{own}.norm.weight"), [h], Role::Norm);
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
    fn add<const N: usize>(&mut self, name: &str, shape: [usize; N], role: Role) {
        self.tensors.push(TensorSpec {
            name: name.to_owned(),
            shape: shape.into(),
            role,
            layer: self.layer,
        });
    }

    fn linear(&mut self, name: &str, out: usize, input: usize, projection: Projection) {
        self.add(name, [out, input], Role::Projection(projection));
    }

    /// The tensors of one layer, under `at`.
    fn layer(&mut self, config: &TextConfig, at: &str, kind: LayerKind) {
        let h = config.hidden_size;
        self.add(&format!("{at}.input_layernorm.weight"), [h], Role::Norm);
        match kind {
            LayerKind::FullAttention => self.full_attention(config, &format!("{at}.self_attn")),
            LayerKind::LinearAttention => {
                self.linear_attention(config, &format!("{at}.linear_attn"));
            }
        }
        self.add(
            &format!("{at}.post_attention_layernorm.weight"),
            [h],
            Role::Norm,
        );
        let f = config.intermediate_size;
        self.linear(
            &format!("{at}.mlp.gate_proj.weight"),
            f,
            h,
            Projection::Gate,
        );
        self.linear(&format!("{at}.mlp.up_proj.weight"), f, h, Projection::Up);
        self.linear(
            &format!("{at}.mlp.down_proj.weight"),
            h,
            f,
            Projection::Down,
        );
    }

    fn full_attention(&mut self, config: &TextConfig, at: &str) {
        let (h, d) = (config.hidden_size, config.head_dim);
        let heads = config.num_attention_heads * d;
        let kv = config.num_key_value_heads * d;
        self.linear(&format!("{at}.q_proj.weight"), 2 * heads, h, Projection::Q);
        self.linear(&format!("{at}.k_proj.weight"), kv, h, Projection::K);
        self.linear(&format!("{at}.v_proj.weight"), kv, h, Projection::V);
        self.linear(&format!("{at}.o_proj.weight"), h, heads, Projection::O);
        self.add(&format!("{at}.q_norm.weight"), [d], Role::Norm);
        self.add(&format!("{at}.k_norm.weight"), [d], Role::Norm);
    }

    fn linear_attention(&mut self, config: &TextConfig, at: &str) {
        let h = config.hidden_size;
        let value_heads = config.linear_num_value_heads;
        let value = config.linear_value_dim();
        let channels = config.linear_conv_dim();
        let taps = config.linear_conv_kernel_dim;
        let qkv = Projection::InQkv;
        self.linear(&format!("{at}.in_proj_qkv.weight"), channels, h, qkv);
        self.linear(&format!("{at}.in_proj_z.weight"), value, h, Projection::InZ);
        let (b, a) = (Projection::InB, Projection::InA);
        self.linear(&format!("{at}.in_proj_b.weight"), value_heads, h, b);
        self.linear(&format!("{at}.in_proj_a.weight"), value_heads, h, a);
        self.add(
            &format!("{at}.conv1d.weight"),
            [channels, 1, taps],
            Role::Conv,
        );
        self.add(&format!("{at}.A_log"), [value_heads], Role::ALog);
        self.add(&format!("{at}.dt_bias"), [value_heads], Role::DtBias);
        self.add(
            &format!("{at}.norm.weight"),
            [config.linear_value_head_dim],
            Role::GdnNorm,
        );
        self.linear(&format!("{at}.out_proj.weight"), h, value, Projection::Out);
    }
}
