//! One depth of Multi-Token Prediction.
//!
//! ```text
//! u = [enorm(embedding of the token k ahead) | hnorm(hidden state of depth k - 1)]
//! H = norm(layer(fc(u)))
//! ```
//!
//! The layer is the decoder's full-attention layer, with the decoder's own rotary angles: positions are not shifted. A
//! depth has no embedding and no head of its own: it is handed embedded tokens and returns hidden states, so the model's
//! embedding is never swapped for another one.

use candle_core::Tensor;

use crate::ops::{columns, linear, rms_norm};
use crate::spec::{LayerKind, TextConfig};

use super::NnError;
use super::decoder_layer::{self, Context, DecoderLayer};
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// Depth `index + 1`.
#[derive(Debug)]
pub(super) struct MtpDepth {
    pre_fc_norm_embedding: Parameter,
    pre_fc_norm_hidden: Parameter,
    /// `[h, 2h]`; the first half of the columns reads the embedding.
    fc: Parameter,
    layer: DecoderLayer,
    norm: Parameter,
    eps: f64,
    keeps_norm: bool,
    keeps_input_only: bool,
}

/// What the backward needs.
#[derive(Debug)]
pub(super) struct Saved {
    /// Embedded tokens and hidden states of the depth before, `[N, h]` each.
    embedded: Tensor,
    hidden: Tensor,
    /// None with full recompute.
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Both halves after their norms, `[N, 2h]`.
    joined: Option<Tensor>,
    layer: decoder_layer::Saved,
    /// Before the last norm, `[N, h]`.
    z: Tensor,
}

impl Saved {
    /// Bytes kept until the backward, the hidden states of the depth before included.
    pub(super) fn bytes(&self) -> usize {
        let inner = self.inner.as_ref().map_or(0, |inner| {
            inner.layer.bytes() + bytes(inner.joined.iter().chain([&inner.z]))
        });
        bytes([&self.embedded, &self.hidden]) + inner
    }
}

/// Gradients of what a depth reads.
#[derive(Debug)]
pub(super) struct InputGrads {
    pub(super) embedded: Tensor,
    pub(super) hidden: Tensor,
}

impl MtpDepth {
    /// The depth at `index` from 0; index 0 has the published names, others carry their index.
    pub(super) fn new(
        config: &TextConfig,
        parameters: &Parameters,
        index: usize,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let own = match index {
            0 => "mtp.".to_owned(),
            _ => format!("mtp.{index}."),
        };
        let get = |name: &str| parameters.get(&format!("{own}{name}.weight"));
        // The depth is one recomputed segment, so the layer inside has nothing to add.
        let inside = match recompute {
            Recompute::Full => &Recompute::None,
            other => other,
        };
        let layer = DecoderLayer::new(
            config,
            LayerKind::FullAttention,
            parameters,
            &format!("mtp.layers.{index}."),
            inside,
        )?;
        Ok(Self {
            pre_fc_norm_embedding: get("pre_fc_norm_embedding")?,
            pre_fc_norm_hidden: get("pre_fc_norm_hidden")?,
            fc: get("fc")?,
            layer,
            norm: get("norm")?,
            eps: config.rms_norm_eps,
            keeps_norm: recompute.keeps(Part::Norm) && parameters.keeps_cheap(),
            keeps_input_only: *recompute == Recompute::Full,
        })
    }

    /// `[N, h]` embedded tokens and `[N, h]` hidden states to `[N, h]` hidden states.
    pub(super) fn forward(
        &self,
        embedded: Tensor,
        hidden: Tensor,
        context: &Context,
    ) -> Result<(Tensor, Saved), NnError> {
        let (y, inner) = self.inner(&embedded, &hidden, context)?;
        let inner = (!self.keeps_input_only).then_some(inner);
        Ok((
            y,
            Saved {
                embedded,
                hidden,
                inner,
            },
        ))
    }

    /// The gradients of embedded tokens and hidden states.
    pub(super) fn backward(
        &self,
        dy: &Tensor,
        saved: Saved,
        context: &Context,
    ) -> Result<InputGrads, NnError> {
        let Saved {
            embedded, hidden, ..
        } = saved;
        let inner = match saved.inner {
            Some(inner) => inner,
            None => self.inner(&embedded, &hidden, context)?.1,
        };
        let dz = self.norm_backward(dy, &inner.z, &self.norm)?;
        let dy = self.layer.backward(&dz, inner.layer, context)?;
        let joined = match inner.joined {
            Some(joined) => joined,
            None => self.joined(&embedded, &hidden)?,
        };
        linear::backward_weight(&dy, &joined, &self.fc.grad)?;
        let d_joined = linear::backward_input(&dy, &self.fc.weight)?;
        let h = hidden.dim(1)?;
        let [d_e, d_h] = columns::split(&d_joined, &[h, h])?;
        Ok(InputGrads {
            embedded: self.norm_backward(&d_e, &embedded, &self.pre_fc_norm_embedding)?,
            hidden: self.norm_backward(&d_h, &hidden, &self.pre_fc_norm_hidden)?,
        })
    }

    fn inner(
        &self,
        embedded: &Tensor,
        hidden: &Tensor,
        context: &Context,
    ) -> Result<(Tensor, Inner), NnError> {
        let joined = self.joined(embedded, hidden)?;
        let y = linear::forward(&joined, &self.fc.weight)?;
        let (z, layer) = self.layer.forward(y, context)?;
        let out = rms_norm::forward(&z, &self.norm.weight, self.eps)?;
        let inner = Inner {
            joined: self.keeps_norm.then_some(joined),
            layer,
            z,
        };
        Ok((out, inner))
    }

    fn joined(&self, embedded: &Tensor, hidden: &Tensor) -> Result<Tensor, NnError> {
        let eps = self.eps;
        let e = rms_norm::forward(embedded, &self.pre_fc_norm_embedding.weight, eps)?;
        let h = rms_norm::forward(hidden, &self.pre_fc_norm_hidden.weight, eps)?;
        Ok(columns::join(&[&e, &h])?)
    }

    fn norm_backward(&self, dy: &Tensor, x: &Tensor, norm: &Parameter) -> Result<Tensor, NnError> {
        let eps = self.eps;
        Ok(rms_norm::backward(dy, x, &norm.weight, eps, &norm.grad)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use serde_json::json;

    use super::*;
    use crate::ops::{CuSeqlens, rope};

    #[test]
    fn the_layer_inside_is_the_decoders_own_full_attention_layer() {
        let config = TextConfig::from_json(&json!({
            "model_type": "qwen3_5_text", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
            "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4, "layer_types": ["full_attention"],
            "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "max_position_embeddings": 64,
            "initializer_range": 0.3, "mtp_num_hidden_layers": 1,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1], "mrope_interleaved": true,
            },
        }))
        .expect("a small config");
        let parameters = Parameters::from_spec(&config, &Device::Cpu, super::super::Precision::F32)
            .expect("zeros");
        parameters.initialize(1).expect("random weights");
        for name in parameters.names() {
            if let Some(name) = name.strip_prefix("mtp.layers.0.") {
                let decoder = format!("model.layers.0.{name}");
                let weight = parameters.weight(&decoder).expect("the decoder has it too");
                let copy = weight.copy().expect("copies");
                parameters
                    .set(&format!("mtp.layers.0.{name}"), &copy)
                    .expect("same shape");
            }
        }
        let depth = MtpDepth::new(&config, &parameters, 0, &Recompute::None).expect("depth 1");
        let kind = LayerKind::FullAttention;
        let prefix = "model.layers.0.";
        let layer = DecoderLayer::new(&config, kind, &parameters, prefix, &Recompute::None)
            .expect("the decoder's layer");

        let positions = [
            vec![0, 1, 2, 2, 0],
            vec![0, 1, 2, 3, 0],
            vec![0, 1, 3, 2, 0],
        ];
        let sections = config.mrope_section;
        let context = Context {
            rope: rope::Table::new(&positions, config.rotary_dim(), config.rope_theta, sections)
                .expect("angles"),
            cu_seqlens: CuSeqlens::new(vec![0, 4, 5]).expect("two documents"),
        };
        let x = Tensor::randn(0f32, 1.0, (5, 16), &Device::Cpu).expect("an input");
        let run = |layer: &DecoderLayer| -> Vec<f32> {
            let y = layer.forward(x.clone(), &context).expect("runs").0;
            y.flatten_all().and_then(|y| y.to_vec1()).expect("f32")
        };
        assert_eq!(run(&depth.layer), run(&layer));
    }
}
