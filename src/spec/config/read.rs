//! `config.json` into a [`TextConfig`].

use std::fmt::Display;

use serde_json::{Map, Value};

use super::{LayerKind, TextConfig, layer_pattern, mrope_split};
use crate::base::DType;
use crate::spec::SpecError;

type Object = Map<String, Value>;

impl TextConfig {
    /// Reads Hugging Face's `config.json` of the text class (`qwen3_5_text`) or of the multimodal class (`qwen3_5`, where the text model is
    /// under `text_config` and `tie_word_embeddings` at the top).
    ///
    /// A missing key has the value of [`TextConfig::default`]; a missing `mtp_num_hidden_layers` is no MTP. The JSON is kept in
    /// [`source`](TextConfig::source). Fails with the first key that is wrong, or with the family if it is another one.
    pub fn from_json(json: &Value) -> Result<Self, SpecError> {
        let top = object(json, "config.json")?;
        let (text, prefix) = match family(top)? {
            Class::Text => (top, ""),
            Class::Multimodal => {
                let nested = top.get("text_config").ok_or_else(|| SpecError::WrongType {
                    key: "text_config".into(),
                    expected: "an object with the text model",
                    found: "nothing".into(),
                })?;
                (object(nested, "text_config")?, "text_config.")
            }
        };
        let keys = Keys { text, prefix };
        refuse_variants(&keys)?;

        let default = Self::default();
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
        let tie = match top.get("tie_word_embeddings") {
            None => text.get("tie_word_embeddings"),
            found => found,
        };

        let config = Self {
            vocab_size: keys.count("vocab_size", default.vocab_size)?,
            hidden_size: keys.count("hidden_size", default.hidden_size)?,
            intermediate_size: keys.count("intermediate_size", default.intermediate_size)?,
            moe: None,
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
            tie_word_embeddings: match tie {
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
                None if !prefix.is_empty() => Keys {
                    text: top,
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

    /// Checks that the numbers go together, whatever they were read from.
    pub fn validate(&self) -> Result<(), SpecError> {
        let counts = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("linear_num_key_heads", self.linear_num_key_heads),
            ("linear_num_value_heads", self.linear_num_value_heads),
            ("linear_key_head_dim", self.linear_key_head_dim),
            ("linear_value_head_dim", self.linear_value_head_dim),
            ("linear_conv_kernel_dim", self.linear_conv_kernel_dim),
            ("full_attention_interval", self.full_attention_interval),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, value) in counts {
            in_range(key, key, value)?;
        }
        in_range(
            "mtp_num_hidden_layers",
            "mtp_num_hidden_layers",
            self.mtp_num_hidden_layers.max(1),
        )?;
        for (key, heads, width) in [
            (
                "num_attention_heads * head_dim",
                self.num_attention_heads,
                self.head_dim,
            ),
            (
                "linear_num_key_heads * linear_key_head_dim",
                self.linear_num_key_heads,
                self.linear_key_head_dim,
            ),
            (
                "linear_num_value_heads * linear_value_head_dim",
                self.linear_num_value_heads,
                self.linear_value_head_dim,
            ),
        ] {
            in_range(key, "", heads * width)?;
        }
        if self.layer_types.len() != self.num_hidden_layers {
            return Err(disagree(
                ("num_hidden_layers", self.num_hidden_layers),
                ("entries of layer_types", self.layer_types.len()),
                "there must be one entry a layer",
            ));
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(disagree(
                ("num_attention_heads", self.num_attention_heads),
                ("num_key_value_heads", self.num_key_value_heads),
                "the first must be a multiple of the second",
            ));
        }
        if !self
            .linear_num_value_heads
            .is_multiple_of(self.linear_num_key_heads)
        {
            return Err(disagree(
                ("linear_num_value_heads", self.linear_num_value_heads),
                ("linear_num_key_heads", self.linear_num_key_heads),
                "the first must be a multiple of the second",
            ));
        }
        if self.partial_rotary_factor > 1.0 {
            return Err(impossible(
                "partial_rotary_factor",
                self.partial_rotary_factor,
                "above 0 and at most 1",
            ));
        }
        let rotary = self.rotary_dim();
        if rotary == 0 || !rotary.is_multiple_of(2) {
            return Err(disagree(
                ("head_dim", self.head_dim),
                ("partial_rotary_factor", self.partial_rotary_factor),
                "their product, the rotary width, must be even and above 0",
            ));
        }
        let sections = self.mrope_section.iter().sum::<usize>();
        if sections != rotary / 2 {
            return Err(disagree(
                ("sum of mrope_section", sections),
                ("half of the rotary width", rotary / 2),
                "they must be equal",
            ));
        }
        for (key, value) in [
            ("rope_theta", self.rope_theta),
            ("partial_rotary_factor", self.partial_rotary_factor),
            ("rms_norm_eps", self.rms_norm_eps),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(impossible(key, value, "above 0"));
            }
        }
        Ok(())
    }
}

/// Which of the family's classes a config belongs to.
pub(super) enum Class {
    /// The text model is the whole.
    Text,
    /// The text model is under `text_config`.
    Multimodal,
}

/// Reads the class from `model_type`, else from `architectures`.
pub(super) fn family(top: &Object) -> Result<Class, SpecError> {
    let model_type = top.get("model_type").and_then(Value::as_str);
    let architecture = top
        .get("architectures")
        .and_then(|list| list.get(0))
        .and_then(Value::as_str);
    let found = model_type.or(architecture).ok_or(SpecError::NoFamily)?;
    let class = match (model_type, architecture) {
        (Some("qwen3_5_text"), _) | (None, Some("Qwen3_5ForCausalLM")) => Class::Text,
        (Some("qwen3_5"), _) | (None, Some("Qwen3_5ForConditionalGeneration")) => Class::Multimodal,
        _ if found.starts_with("qwen3_5_moe") || found.starts_with("Qwen3_5Moe") => {
            return Err(SpecError::MixtureOfExperts {
                found: found.into(),
            });
        }
        _ => {
            return Err(SpecError::OtherFamily {
                found: found.into(),
            });
        }
    };
    Ok(class)
}

/// The places of a rotary key: Hub configs nest it in `rope_parameters`, older ones in `rope_scaling` or not at all.
pub(super) fn rope(key: &str) -> [String; 3] {
    [
        format!("rope_parameters.{key}"),
        format!("rope_scaling.{key}"),
        key.to_owned(),
    ]
}

/// Refuses what would train another model than the config describes.
fn refuse_variants(keys: &Keys) -> Result<(), SpecError> {
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

/// The object that holds the text model's keys, with its name for messages.
struct Keys<'a> {
    text: &'a Object,
    prefix: &'static str,
}

impl<'a> Keys<'a> {
    /// A key for messages, from the top of the file.
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The value of a key, or of `outer.inner`; null is absent.
    fn find(&self, key: &str) -> Option<&'a Value> {
        let found = match key.split_once('.') {
            Some((outer, inner)) => self.text.get(outer)?.get(inner),
            None => self.text.get(key),
        };
        found.filter(|value| !value.is_null())
    }

    fn integer(&self, key: &str, default: usize) -> Result<usize, SpecError> {
        let Some(value) = self.find(key) else {
            return Ok(default);
        };
        value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n < 1 << 40)
            .ok_or_else(|| wrong(&self.name(key), "a non-negative integer", value))
    }

    fn count(&self, key: &str, default: usize) -> Result<usize, SpecError> {
        let value = self.integer(key, default)?;
        in_range(&self.name(key), key, value)?;
        Ok(value)
    }

    fn positive(&self, places: &[String], default: f64) -> Result<f64, SpecError> {
        for key in places {
            let Some(value) = self.find(key) else {
                continue;
            };
            let number = value
                .as_f64()
                .ok_or_else(|| wrong(&self.name(key), "a number", value))?;
            return if number.is_finite() && number > 0.0 {
                Ok(number)
            } else {
                Err(impossible(&self.name(key), number, "above 0"))
            };
        }
        Ok(default)
    }

    fn sections(&self, places: &[String], default: [usize; 3]) -> Result<[usize; 3], SpecError> {
        for key in places {
            let Some(value) = self.find(key) else {
                continue;
            };
            let list: Option<Vec<usize>> = value.as_array().and_then(|list| {
                list.iter()
                    .map(|n| n.as_u64().map(|n| n as usize))
                    .collect()
            });
            return list
                .and_then(|list| <[usize; 3]>::try_from(list).ok())
                .ok_or_else(|| wrong(&self.name(key), "a list of three integers", value));
        }
        Ok(default)
    }

    fn layer_types(&self) -> Result<Option<Vec<LayerKind>>, SpecError> {
        let Some(value) = self.find("layer_types") else {
            return Ok(None);
        };
        let expected = "a list of `linear_attention` and `full_attention`";
        let list = value
            .as_array()
            .ok_or_else(|| wrong(&self.name("layer_types"), expected, value))?;
        list.iter()
            .enumerate()
            .map(|(layer, kind)| match kind.as_str() {
                Some("linear_attention") => Ok(LayerKind::LinearAttention),
                Some("full_attention") => Ok(LayerKind::FullAttention),
                _ => Err(wrong(
                    &format!("{}[{layer}]", self.name("layer_types")),
                    "`linear_attention` or `full_attention`",
                    kind,
                )),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn dtype(&self) -> Result<Option<DType>, SpecError> {
        for key in ["dtype", "torch_dtype"] {
            let Some(value) = self.find(key) else {
                continue;
            };
            return value
                .as_str()
                .and_then(DType::from_name)
                .filter(|dtype| dtype.is_weight())
                .map(Some)
                .ok_or_else(|| {
                    wrong(&self.name(key), "`bfloat16`, `float16` or `float32`", value)
                });
        }
        Ok(None)
    }
}

fn object<'a>(json: &'a Value, at: &str) -> Result<&'a Object, SpecError> {
    json.as_object().ok_or_else(|| SpecError::NotAnObject {
        at: at.into(),
        found: excerpt(json),
    })
}

fn wrong(key: &str, expected: &'static str, found: &Value) -> SpecError {
    SpecError::WrongType {
        key: key.into(),
        expected,
        found: excerpt(found),
    }
}

fn impossible(key: &str, value: impl Display + Copy, must: &'static str) -> SpecError {
    SpecError::Impossible {
        key: key.into(),
        value: value.to_string(),
        must,
    }
}

fn disagree(
    left: (&str, impl Display + Copy),
    right: (&str, impl Display + Copy),
    rule: &'static str,
) -> SpecError {
    SpecError::Disagree {
        left: left.0.into(),
        left_value: left.1.to_string(),
        right: right.0.into(),
        right_value: right.1.to_string(),
        rule,
    }
}

/// Refuses 0, and numbers so large that sums over a model's scalars could overflow; `key` says which limit counts.
fn in_range(name: &str, key: &str, value: usize) -> Result<(), SpecError> {
    let (limit, must) = match key {
        "num_hidden_layers" => (1 << 10, "at most 1024"),
        "mtp_num_hidden_layers" => (1 << 6, "at most 64"),
        "max_position_embeddings" => (1 << 40, "at most 2^40"),
        _ => (1 << 24, "at most 2^24"),
    };
    match value {
        0 => Err(impossible(name, 0, "at least 1")),
        _ if value > limit => Err(impossible(name, value, must)),
        _ => Ok(()),
    }
}

/// A value short enough for a message.
fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(57).chain("...".chars()).collect()
}
