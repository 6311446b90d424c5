//! A model by the names and shapes of a `torch_dist` checkpoint, for those that say nothing about themselves.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Format, Weights};
use crate::base::Shape;
use crate::checkpoint::CheckpointError;
use crate::mapping::key;
use crate::spec::{LayerKind, ModelConfig, MoeConfig, TextConfig, VisionConfig};

/// Names with their shapes; those of the text model without `language_model.`.
struct Shapes<'a>(HashMap<Cow<'a, str>, &'a Shape>);

impl Shapes<'_> {
    /// The size of a dim, 0 if there is no such tensor.
    fn dim(&self, name: &str, dim: usize) -> usize {
        let shape = self.0.get(name);
        shape
            .and_then(|shape| shape.0.get(dim).copied())
            .unwrap_or(0)
    }

    /// One more than the largest number after `start`.
    fn count(&self, start: &str) -> usize {
        let numbers = self.0.keys().filter_map(|name| {
            let (number, _) = name.strip_prefix(start)?.split_once('.')?;
            number.parse::<usize>().ok().filter(|&n| n < 1 << 16)
        });
        numbers.max().map_or(0, |n| n + 1)
    }
}

/// The model.
pub(super) fn model(weights: &Weights) -> Result<ModelConfig, CheckpointError> {
    let unknown = |what: &'static str| CheckpointError::Unrecognised {
        path: weights.path.clone(),
        what,
    };
    if weights.format != Format::TorchDist {
        return Err(CheckpointError::NoConfig {
            path: weights.path.clone(),
        });
    }
    let shapes = Shapes(
        weights
            .tensors
            .iter()
            .map(|tensor| {
                let name = match key(&tensor.name) {
                    Cow::Borrowed(name) => {
                        Cow::Borrowed(name.strip_prefix("language_model.").unwrap_or(name))
                    }
                    Cow::Owned(name) => Cow::Owned(
                        name.strip_prefix("language_model.")
                            .unwrap_or(&name)
                            .to_owned(),
                    ),
                };
                (name, &tensor.shape)
            })
            .collect(),
    );
    let layers = shapes.count("decoder.layers.");
    let hidden_size = shapes.dim("embedding.word_embeddings.weight", 1);
    if layers == 0 || hidden_size == 0 {
        return Err(unknown("a decoder and an embedding"));
    }
    let layer_types: Vec<LayerKind> = (0..layers)
        .map(|layer| {
            let name = format!("decoder.layers.{layer}.self_attention.linear_qkv.weight");
            if shapes.dim(&name, 0) > 0 {
                LayerKind::FullAttention
            } else {
                LayerKind::LinearAttention
            }
        })
        .collect();
    let position = |kind| layer_types.iter().position(|&k| k == kind);
    let mut text = TextConfig {
        vocab_size: shapes.dim("embedding.word_embeddings.weight", 0),
        hidden_size,
        num_hidden_layers: layers,
        tie_word_embeddings: shapes.dim("output_layer.weight", 0) == 0,
        mtp_num_hidden_layers: shapes.count("mtp.layers."),
        ..TextConfig::default()
    };
    match position(LayerKind::FullAttention) {
        Some(layer) => attention(&shapes, layer, &mut text)
            .ok_or_else(|| unknown("an attention layer of Qwen3.5's form"))?,
        None if text.mtp_num_hidden_layers > 0 => {
            return Err(unknown("a full-attention layer"));
        }
        None => {}
    }
    if let Some(layer) = position(LayerKind::LinearAttention) {
        delta_net(&shapes, layer, &mut text)
            .ok_or_else(|| unknown("a gated delta net of Qwen3.5's form"))?;
    }
    let mlp = "decoder.layers.0.mlp";
    let experts = shapes.dim(&format!("{mlp}.router.weight"), 0);
    if experts > 0 {
        text.moe = Some(MoeConfig {
            num_experts: experts,
            num_experts_per_tok: 1,
            moe_intermediate_size: shapes
                .dim(&format!("{mlp}.experts.experts.linear_fc1.weight"), 1)
                / 2,
            shared_expert_intermediate_size: shapes
                .dim(&format!("{mlp}.shared_experts.linear_fc1.weight"), 0)
                / 2,
        });
    } else {
        text.intermediate_size = shapes.dim(&format!("{mlp}.linear_fc1.weight"), 0) / 2;
    }
    text.layer_types = layer_types;
    let has_vision = shapes.dim("vision_model.patch_embed.proj.bias", 0) > 0;
    Ok(ModelConfig {
        text,
        vision: has_vision.then(|| vision(&shapes)),
    })
}

/// Heads of full attention.
fn attention(shapes: &Shapes, layer: usize, text: &mut TextConfig) -> Option<()> {
    let at = format!("decoder.layers.{layer}.self_attention");
    let d = shapes.dim(&format!("{at}.q_layernorm.weight"), 0);
    let heads = shapes
        .dim(&format!("{at}.linear_proj.weight"), 1)
        .checked_div(d)?;
    let rows = shapes
        .dim(&format!("{at}.linear_qkv.weight"), 0)
        .checked_div(2 * d)?;
    text.head_dim = d;
    text.num_attention_heads = heads;
    text.num_key_value_heads = rows.checked_sub(heads).filter(|&n| n > 0)?;
    Some(())
}

/// Heads of the gated delta net. Key heads are taken to be as wide as value heads, which is so in every published size.
fn delta_net(shapes: &Shapes, layer: usize, text: &mut TextConfig) -> Option<()> {
    let at = format!("decoder.layers.{layer}.self_attention");
    let value = shapes.dim(&format!("{at}.out_norm.weight"), 0);
    let key = shapes.dim(&format!("{at}.in_proj.weight.query"), 0);
    let width = if key.checked_rem(value)? == 0 {
        value
    } else {
        key
    };
    text.linear_value_head_dim = value;
    text.linear_num_value_heads = shapes.dim(&format!("{at}.A_log"), 0);
    text.linear_key_head_dim = width;
    text.linear_num_key_heads = key / width;
    text.linear_conv_kernel_dim = shapes.dim(&format!("{at}.conv1d.weight.query"), 2);
    Some(())
}

/// The vision tower. How many heads it has is not in its shapes; the published towers have 12 of 64 or 16 of what divides their width.
fn vision(shapes: &Shapes) -> VisionConfig {
    let patch = "vision_model.patch_embed.proj.weight";
    let hidden_size = shapes.dim("vision_model.patch_embed.proj.bias", 0);
    let merged = shapes.dim("vision_model.merger.linear_fc1.weight", 0);
    let heads = [16, 12, 8, 4, 2]
        .into_iter()
        .find(|&n| hidden_size.is_multiple_of(n) && (n != 16 || hidden_size != 768));
    VisionConfig {
        depth: shapes.count("vision_model.decoder.layers."),
        hidden_size,
        intermediate_size: shapes.dim("vision_model.decoder.layers.0.mlp.linear_fc1.weight", 0),
        num_heads: heads.unwrap_or(1),
        patch_size: shapes.dim(patch, 3),
        temporal_patch_size: shapes.dim(patch, 2),
        in_channels: shapes.dim(patch, 1),
        spatial_merge_size: (merged / hidden_size.max(1)).isqrt(),
        num_position_embeddings: shapes.dim("vision_model.pos_embed.weight", 0),
        out_hidden_size: shapes.dim("vision_model.merger.linear_fc2.weight", 0),
    }
}
