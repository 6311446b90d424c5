//! `config.json` into a [`TextConfig`].

use serde_json::Value;

use super::class::Class;
use super::keys::{Keys, Object, object, rope, wrong};
use super::{MoeConfig, TextConfig, layer_pattern, mrope_split};
use crate::spec::SpecError;

impl TextConfig {
    /// Reads Hugging Face's `config.json` of the dense text class (`qwen3_5_text`) or of the dense multimodal class (`qwen3_5`, where the
    /// text model is under `text_config` and `tie_word_embeddings` at the top). This is the trainer's door: it refuses experts, which
    /// [`ModelConfig::from_json`](super::ModelConfig::from_json) reads.
    ///
    /// A missing key has the value of [`TextConfig::default`]; a missing `mtp_num_hidden_layers` is no MTP. The JSON is kept in
    /// [`source`](TextConfig::source). Fails with the first key that is wrong, or with the family if it is another one.
    pub fn from_json(json: &Value) -> Result<Self, SpecError> {
        let top = object(json, "config.json")?;
        let class = Class::read(top)?;
        if class.has_experts() {
            return Err(SpecError::MixtureOfExperts {
                found: name(top).into(),
            });
        }
        Self::read(json, top, class)
    }

    /// Reads the text model of any class.
    pub(super) fn read(json: &Value, top: &Object, class: Class) -> Result<Self, SpecError> {
        let keys = text_keys(top, class)?;
        refuse_variants(&keys, class.has_experts())?;

        let default = Self::default_of(class);
        let num_hidden_layers = keys.count("num_hidden_layers", default.num_hidden_layers)?;
        let full_attention_interval =
            keys.count("full_attention_interval", default.full_attention_interval)?;
        let head_dim = keys.count("head_dim", default.head_dim)?;
        let partial_rotary_factor = keys.positive(
            &rope("partial_rotary_factor"),
            default.partial_rotary_factor,
        )?;
        let layer_types = match keys.layer_types()? {
            Some(types) => types,
            None => layer_pattern(num_hidden_layers, full_attention_interval),
        };
        let rotary_half = (head_dim as f64 * partial_rotary_factor) as usize / 2;
        let moe = match default.moe {
            None => None,
            Some(default) => Some(MoeConfig::read(&keys, default)?),
        };
        let intermediate_size = match moe {
            None => keys.count("intermediate_size", default.intermediate_size)?,
            Some(_) => keys.integer("intermediate_size", 0)?,
        };

        let config = Self {
            vocab_size: keys.count("vocab_size", default.vocab_size)?,
            hidden_size: keys.count("hidden_size", default.hidden_size)?,
            intermediate_size,
            moe,
            num_hidden_layers,
            num_attention_heads: keys.count("num_attention_heads", default.num_attention_heads)?,
            num_key_value_heads: keys.count("num_key_value_heads", default.num_key_value_heads)?,
            head_dim,
            linear_num_key_heads: keys
                .count("linear_num_key_heads", default.linear_num_key_heads)?,
            linear_num_value_heads: keys
                .count("linear_num_value_heads", default.linear_num_value_heads)?,
            linear_key_head_dim: keys.count("linear_key_head_dim", default.linear_key_head_dim)?,
            linear_value_head_dim: keys
                .count("linear_value_head_dim", default.linear_value_head_dim)?,
            linear_conv_kernel_dim: keys
                .count("linear_conv_kernel_dim", default.linear_conv_kernel_dim)?,
            full_attention_interval,
            layer_types,
            rope_theta: keys.positive(&rope("rope_theta"), default.rope_theta)?,
            partial_rotary_factor,
            mrope_section: keys.sections(&rope("mrope_section"), mrope_split(rotary_half))?,
            rms_norm_eps: keys.positive(&["rms_norm_eps".into()], default.rms_norm_eps)?,
            // The multimodal classes have it at the top; what their text model says counts for nothing.
            tie_word_embeddings: match top.get("tie_word_embeddings") {
                None | Some(Value::Null) => default.tie_word_embeddings,
                Some(Value::Bool(tie)) => *tie,
                Some(other) => return Err(wrong("tie_word_embeddings", "true or false", other)),
            },
            initializer_range: keys
                .positive(&["initializer_range".into()], default.initializer_range)?,
            max_position_embeddings: keys
                .count("max_position_embeddings", default.max_position_embeddings)?,
            mtp_num_hidden_layers: keys
                .integer("mtp_num_hidden_layers", default.mtp_num_hidden_layers)?,
            dtype: match keys.dtype()? {
                None if class.has_vision() => Keys {
                    object: top,
                    prefix: "",
                }
                .dtype()?,
                found => found,
            },
            source: json.clone(),
        };
        config.validate()?;
        Ok(config)
    }
}

impl MoeConfig {
    /// Reads the keys of the experts; a missing one has the class's value.
    fn read(keys: &Keys, default: Self) -> Result<Self, SpecError> {
        Ok(Self {
            num_experts: keys.count("num_experts", default.num_experts)?,
            num_experts_per_tok: keys.count("num_experts_per_tok", default.num_experts_per_tok)?,
            moe_intermediate_size: keys
                .count("moe_intermediate_size", default.moe_intermediate_size)?,
            shared_expert_intermediate_size: keys.count(
                "shared_expert_intermediate_size",
                default.shared_expert_intermediate_size,
            )?,
        })
    }
}

/// What the file calls its class: `model_type`, else the architecture.
fn name(top: &Object) -> &str {
    top.get("model_type")
        .and_then(Value::as_str)
        .or_else(|| top.get("architectures")?.get(0)?.as_str())
        .unwrap_or_default()
}

/// The object with the text model's keys.
fn text_keys(top: &Object, class: Class) -> Result<Keys<'_>, SpecError> {
    if !class.has_vision() {
        return Ok(Keys {
            object: top,
            prefix: "",
        });
    }
    let nested = top.get("text_config").ok_or_else(|| SpecError::WrongType {
        key: "text_config".into(),
        expected: "an object with the text model",
        found: "nothing".into(),
    })?;
    let text = object(nested, "text_config")?;
    match text.get("model_type").and_then(Value::as_str) {
        // Some files repeat the outer class here.
        Some(found) if found != class.text().model_type() && found != class.model_type() => {
            Err(SpecError::Disagree {
                left: "model_type".into(),
                left_value: class.model_type().into(),
                right: "text_config.model_type".into(),
                right_value: found.into(),
                rule: "the text model must be of the same class",
            })
        }
        _ => Ok(Keys {
            object: text,
            prefix: "text_config.",
        }),
    }
}

/// Refuses what would train another model than the config describes.
fn refuse_variants(keys: &Keys, experts: bool) -> Result<(), SpecError> {
    if experts {
        refuse_moe_variants(keys)?;
    }
    let fixed: [(&str, Value, &'static str); 7] = [
        ("hidden_act", "silu".into(), "`silu`"),
        ("attention_bias", false.into(), "false"),
        ("attn_output_gate", true.into(), "true"),
        ("mtp_use_dedicated_embeddings", false.into(), "false"),
        ("rope_parameters.rope_type", "default".into(), "`default`"),
        (
            "rope_parameters.mrope_interleaved",
            true.into(),
            "interleaved mRoPE (true)",
        ),
        (
            "rope_scaling.mrope_interleaved",
            true.into(),
            "interleaved mRoPE (true)",
        ),
    ];
    for (key, expected, only) in fixed {
        match keys.find(key) {
            Some(found) if *found != expected => {
                return Err(SpecError::Unsupported {
                    key: keys.name(key),
                    value: found.to_string(),
                    only,
                });
            }
            _ => {}
        }
    }
    // Older files call the type of the scaling "mrope" or "default"; both are the plain rotary embedding.
    for key in ["rope_scaling.rope_type", "rope_scaling.type"] {
        match keys.find(key) {
            Some(found) if !matches!(found.as_str(), Some("default" | "mrope")) => {
                return Err(SpecError::Unsupported {
                    key: keys.name(key),
                    value: found.to_string(),
                    only: "`default`",
                });
            }
            _ => {}
        }
    }
    match keys.find("attention_dropout") {
        Some(found) if found.as_f64() != Some(0.0) => Err(SpecError::Unsupported {
            key: keys.name("attention_dropout"),
            value: found.to_string(),
            only: "0",
        }),
        _ => Ok(()),
    }
}

/// Refuses layers that are not all experts, which the published classes do not have.
fn refuse_moe_variants(keys: &Keys) -> Result<(), SpecError> {
    let unsupported = |key: &str, found: &Value, only| {
        Err(SpecError::Unsupported {
            key: keys.name(key),
            value: found.to_string(),
            only,
        })
    };
    match keys.find("decoder_sparse_step") {
        Some(step) if step.as_u64() != Some(1) => {
            return unsupported("decoder_sparse_step", step, "1 (experts in every layer)");
        }
        _ => {}
    }
    match keys.find("mlp_only_layers") {
        Some(list) if list.as_array().is_none_or(|list| !list.is_empty()) => {
            unsupported("mlp_only_layers", list, "an empty list")
        }
        _ => Ok(()),
    }
}
