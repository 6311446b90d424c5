//! `vision_config` both ways.

use serde_json::{Value, json};

use super::VisionConfig;
use super::keys::{Keys, Object, object, wrong};
use crate::spec::SpecError;

impl Default for VisionConfig {
    /// What a key means that `vision_config` leaves out: the family's values, which are the tower of the sizes from 9B on.
    fn default() -> Self {
        Self {
            depth: 27,
            hidden_size: 1152,
            intermediate_size: 4304,
            num_heads: 16,
            patch_size: 16,
            temporal_patch_size: 2,
            in_channels: 3,
            spatial_merge_size: 2,
            num_position_embeddings: 2304,
            out_hidden_size: 3584,
        }
    }
}

impl VisionConfig {
    /// Width of the square of patches that the merger joins: `hidden_size * spatial_merge_size^2`.
    pub fn merged_size(&self) -> usize {
        self.hidden_size * self.spatial_merge_size * self.spatial_merge_size
    }

    /// Reads `vision_config` of a multimodal file.
    pub(super) fn read(top: &Object) -> Result<Self, SpecError> {
        let nested = top
            .get("vision_config")
            .ok_or_else(|| SpecError::WrongType {
                key: "vision_config".into(),
                expected: "an object with the vision tower",
                found: "nothing".into(),
            })?;
        let keys = Keys {
            object: object(nested, "vision_config")?,
            prefix: "vision_config.",
        };
        refuse_deepstack(&keys)?;
        let mut config = Self::default();
        for (key, field) in config.fields() {
            *field = keys.count(key, *field)?;
        }
        Ok(config)
    }

    /// Every field under its key.
    fn fields(&mut self) -> [(&'static str, &mut usize); 10] {
        [
            ("depth", &mut self.depth),
            ("hidden_size", &mut self.hidden_size),
            ("intermediate_size", &mut self.intermediate_size),
            ("num_heads", &mut self.num_heads),
            ("patch_size", &mut self.patch_size),
            ("temporal_patch_size", &mut self.temporal_patch_size),
            ("in_channels", &mut self.in_channels),
            ("spatial_merge_size", &mut self.spatial_merge_size),
            ("num_position_embeddings", &mut self.num_position_embeddings),
            ("out_hidden_size", &mut self.out_hidden_size),
        ]
    }

    /// Writes the values that differ from `old` into a `vision_config`.
    pub(super) fn write(mut self, mut old: Self, object: &mut Object) {
        for ((key, new), (_, old)) in self.fields().into_iter().zip(old.fields()) {
            if new != old {
                object.insert(key.into(), (*new).into());
            }
        }
    }

    /// `vision_config` of a file of our own.
    pub(super) fn into_json(mut self, model_type: &str) -> Value {
        let mut json = json!({
            "model_type": format!("{model_type}_vision"),
            "hidden_act": "gelu_pytorch_tanh",
            "deepstack_visual_indexes": [],
        });
        for (key, value) in self.fields() {
            json[key] = (*value).into();
        }
        json
    }
}

/// Refuses taps into the text model, for which the family has no tensors.
fn refuse_deepstack(keys: &Keys) -> Result<(), SpecError> {
    let key = "deepstack_visual_indexes";
    let Some(value) = keys.find(key) else {
        return Ok(());
    };
    match value.as_array() {
        None => Err(wrong(&keys.name(key), "a list", value)),
        Some(list) if list.is_empty() => Ok(()),
        Some(_) => Err(SpecError::Unsupported {
            key: keys.name(key),
            value: value.to_string(),
            only: "an empty list",
        }),
    }
}
