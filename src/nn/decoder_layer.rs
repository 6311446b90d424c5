//! One pre-norm layer: a token mixer and an MLP, each added to the residual stream.
//!
//! ```text
//! y = x + mixer(norm(x));  z = y + mlp(norm(y))
//! ```

use candle_core::Tensor;

use crate::ops::{CuSeqlens, rms_norm, rope};
use crate::spec::{LayerKind, TextConfig};

use super::NnError;
use super::attention::{self, Attention};
use super::gated_delta_net::{self, GatedDeltaNet};
use super::mlp::{self, Mlp};
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// What every layer reads besides its input: where tokens stand and where documents end.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) rope: rope::Table,
    pub(super) cu_seqlens: CuSeqlens,
}

/// A layer of the decoder, or the one inside an MTP depth.
#[derive(Debug)]
pub(super) struct DecoderLayer {
    input_layernorm: Parameter,
    mixer: Mixer,
    post_attention_layernorm: Parameter,
    mlp: Mlp,
    eps: f64,
    keeps_norm: bool,
    keeps_input_only: bool,
}

/// What mixes tokens.
#[derive(Debug)]
enum Mixer {
    Attention(Attention),
    GatedDeltaNet(GatedDeltaNet),
}

/// What the backward needs.
#[derive(Debug)]
pub(super) struct Saved {
    /// The layer's input `[N, h]`.
    x: Tensor,
    /// None with full recompute.
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    x_normed: Option<Tensor>,
    mixer: MixerSaved,
    /// The residual stream between mixer and MLP, `[N, h]`.
    y: Tensor,
    y_normed: Option<Tensor>,
    mlp: mlp::Saved,
}

#[derive(Debug)]
enum MixerSaved {
    Attention(attention::Saved),
    GatedDeltaNet(gated_delta_net::Saved),
}

impl Saved {
    /// Bytes kept until the backward, the layer's input included and its output not.
    pub(super) fn bytes(&self) -> usize {
        let inner = self.inner.as_ref().map_or(0, |inner| {
            let mixer = match &inner.mixer {
                MixerSaved::Attention(saved) => saved.bytes(),
                MixerSaved::GatedDeltaNet(saved) => saved.bytes(),
            };
            let norms = inner.x_normed.iter().chain(&inner.y_normed);
            mixer + inner.mlp.bytes() + bytes(norms.chain([&inner.y]))
        });
        bytes([&self.x]) + inner
    }
}

impl DecoderLayer {
    /// The layer whose names start with `prefix`, such as `model.layers.0.`.
    pub(super) fn new(
        config: &TextConfig,
        kind: LayerKind,
        parameters: &Parameters,
        prefix: &str,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let norm = |name: &str| parameters.get(&format!("{prefix}{name}.weight"));
        let mixer = match kind {
            LayerKind::FullAttention => {
                let prefix = format!("{prefix}self_attn.");
                Mixer::Attention(Attention::new(config, parameters, &prefix, recompute)?)
            }
            LayerKind::LinearAttention => {
                let prefix = format!("{prefix}linear_attn.");
                Mixer::GatedDeltaNet(GatedDeltaNet::new(config, parameters, &prefix, recompute)?)
            }
        };
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            mixer,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::new(parameters, &format!("{prefix}mlp."), recompute)?,
            eps: config.rms_norm_eps,
            keeps_norm: recompute.keeps(Part::Norm) && parameters.keeps_cheap(),
            keeps_input_only: *recompute == Recompute::Full,
        })
    }

    /// `[N, h]` to `[N, h]`.
    pub(super) fn forward(&self, x: Tensor, context: &Context) -> Result<(Tensor, Saved), NnError> {
        let (y, inner) = self.inner(&x, context)?;
        let inner = (!self.keeps_input_only).then_some(inner);
        Ok((y, Saved { x, inner }))
    }

    /// The gradient of the input.
    pub(super) fn backward(
        &self,
        dy: &Tensor,
        saved: Saved,
        context: &Context,
    ) -> Result<Tensor, NnError> {
        let x = saved.x;
        let inner = match saved.inner {
            Some(inner) => inner,
            None => self.inner(&x, context)?.1,
        };
        let norm = &self.post_attention_layernorm;
        let y_normed = self.normed_again(inner.y_normed, &inner.y, norm)?;
        let d_normed = self.mlp.backward(dy, &y_normed, inner.mlp)?;
        drop(y_normed);
        let dy = self.norm_backward(&d_normed, dy, &inner.y, norm)?;
        drop((d_normed, inner.y));

        let norm = &self.input_layernorm;
        let x_normed = self.normed_again(inner.x_normed, &x, norm)?;
        let d_normed = match (&self.mixer, inner.mixer) {
            (Mixer::Attention(mixer), MixerSaved::Attention(saved)) => {
                mixer.backward(&dy, &x_normed, saved, &context.rope, &context.cu_seqlens)?
            }
            (Mixer::GatedDeltaNet(mixer), MixerSaved::GatedDeltaNet(saved)) => {
                mixer.backward(&dy, &x_normed, saved, &context.cu_seqlens)?
            }
            _ => unreachable!("a layer's saved tensors come from its own forward"),
        };
        drop(x_normed);
        self.norm_backward(&d_normed, &dy, &x, norm)
    }

    fn inner(&self, x: &Tensor, context: &Context) -> Result<(Tensor, Inner), NnError> {
        let x_normed = self.normed(x, &self.input_layernorm)?;
        let cu_seqlens = &context.cu_seqlens;
        let (y, mixer) = match &self.mixer {
            Mixer::Attention(mixer) => {
                let (y, saved) = mixer.forward(&x_normed, x, &context.rope, cu_seqlens)?;
                (y, MixerSaved::Attention(saved))
            }
            Mixer::GatedDeltaNet(mixer) => {
                let (y, saved) = mixer.forward(&x_normed, x, cu_seqlens)?;
                (y, MixerSaved::GatedDeltaNet(saved))
            }
        };
        let y_normed = self.normed(&y, &self.post_attention_layernorm)?;
        let (out, mlp) = self.mlp.forward(&y_normed, &y)?;
        let inner = Inner {
            x_normed: self.keeps_norm.then_some(x_normed),
            mixer,
            y,
            y_normed: self.keeps_norm.then_some(y_normed),
            mlp,
        };
        Ok((out, inner))
    }

    fn normed(&self, x: &Tensor, norm: &Parameter) -> Result<Tensor, NnError> {
        Ok(rms_norm::forward(x, &norm.weight, self.eps)?)
    }

    fn normed_again(
        &self,
        kept: Option<Tensor>,
        x: &Tensor,
        norm: &Parameter,
    ) -> Result<Tensor, NnError> {
        kept.map_or_else(|| self.normed(x, norm), Ok)
    }

    /// The gradient of the residual stream: through the norm, plus `dh` past it.
    fn norm_backward(
        &self,
        dy: &Tensor,
        dh: &Tensor,
        h: &Tensor,
        norm: &Parameter,
    ) -> Result<Tensor, NnError> {
        let (w, dw) = (&norm.weight, &norm.grad);
        Ok(rms_norm::add_backward(dy, dh, h, w, self.eps, dw)?)
    }
}
