//! Keys of a `config.json`: their values, types and ranges.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::LayerKind;
use crate::base::DType;
use crate::spec::SpecError;

pub(super) type Object = Map<String, Value>;

/// The places of a rotary key: Hub configs nest it in `rope_parameters`, older ones in `rope_scaling` or not at all.
pub(super) fn rope(key: &str) -> [String; 3] {
    [
        format!("rope_parameters.{key}"),
        format!("rope_scaling.{key}"),
        key.to_owned(),
    ]
}

/// An object of the file, with what stands before its keys in messages.
pub(super) struct Keys<'a> {
    pub(super) object: &'a Object,
    pub(super) prefix: &'static str,
}

impl<'a> Keys<'a> {
    /// A key for messages, from the top of the file.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The value of a key, or of `outer.inner`; null is absent.
    pub(super) fn find(&self, key: &str) -> Option<&'a Value> {
        let found = match key.split_once('.') {
            Some((outer, inner)) => self.object.get(outer)?.get(inner),
            None => self.object.get(key),
        };
        found.filter(|value| !value.is_null())
    }

    /// A count that may be 0.
    pub(super) fn integer(&self, key: &str, default: usize) -> Result<usize, SpecError> {
        let Some(value) = self.find(key) else {
            return Ok(default);
        };
        value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n < 1 << 40)
            .ok_or_else(|| wrong(&self.name(key), "a non-negative integer", value))
    }

    /// A count above 0, within its range.
    pub(super) fn count(&self, key: &str, default: usize) -> Result<usize, SpecError> {
        let value = self.integer(key, default)?;
        in_range(&self.name(key), key, value)?;
        Ok(value)
    }

    /// A number above 0, from the first place that has one.
    pub(super) fn positive(&self, places: &[String], default: f64) -> Result<f64, SpecError> {
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

    pub(super) fn sections(
        &self,
        places: &[String],
        default: [usize; 3],
    ) -> Result<[usize; 3], SpecError> {
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

    pub(super) fn layer_types(&self) -> Result<Option<Vec<LayerKind>>, SpecError> {
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

    pub(super) fn dtype(&self) -> Result<Option<DType>, SpecError> {
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

pub(super) fn object<'a>(json: &'a Value, at: &str) -> Result<&'a Object, SpecError> {
    json.as_object().ok_or_else(|| SpecError::NotAnObject {
        at: at.into(),
        found: excerpt(json),
    })
}

pub(super) fn wrong(key: &str, expected: &'static str, found: &Value) -> SpecError {
    SpecError::WrongType {
        key: key.into(),
        expected,
        found: excerpt(found),
    }
}

pub(super) fn impossible(key: &str, value: impl Display + Copy, must: &'static str) -> SpecError {
    SpecError::Impossible {
        key: key.into(),
        value: value.to_string(),
        must,
    }
}

pub(super) fn disagree(
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

/// Refuses 0, and numbers so large that sums over a model's scalars could overflow, or lists of its tensors and heads not be held in memory;
/// `key` says which limit counts.
pub(super) fn in_range(name: &str, key: &str, value: usize) -> Result<(), SpecError> {
    let (limit, must) = match key {
        "num_hidden_layers" | "depth" => (1 << 10, "at most 1024"),
        "num_experts" => (1 << 12, "at most 4096"),
        "num_attention_heads"
        | "num_key_value_heads"
        | "linear_num_key_heads"
        | "linear_num_value_heads"
        | "num_heads" => (1 << 10, "at most 1024"),
        "experts of all layers" => (1 << 17, "at most 2^17"),
        "patch_size" | "temporal_patch_size" | "in_channels" | "spatial_merge_size" => {
            (1 << 8, "at most 256")
        }
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
pub(super) fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(57).chain("...".chars()).collect()
}
