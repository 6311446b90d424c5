//! A [`TextConfig`] or a [`ModelConfig`] into `config.json`.

use serde_json::{Map, Value, json};

use super::class::Class;
use super::keys::{object, rope};
use super::{ModelConfig, TextConfig};

impl TextConfig {
    /// `config.json` of the class it was read from; of the text class if it was not read from a file.
    ///
    /// A file that was read comes back with its keys in their order, unknown ones included; only values that differ from what the file says
    /// are replaced, where the file has them.
    pub fn to_json(&self) -> Value {
        let Some((class, original)) = self.as_read() else {
            return self.from_scratch();
        };
        let mut json = self.source.clone();
        let Some(top) = json.as_object_mut() else {
            return self.from_scratch();
        };
        let changes = original.changes_to(self);
        if class.has_vision() {
            if original.tie_word_embeddings != self.tie_word_embeddings {
                top.insert(
                    "tie_word_embeddings".into(),
                    self.tie_word_embeddings.into(),
                );
            }
            if let Some(text) = top.get_mut("text_config").and_then(Value::as_object_mut) {
                apply(text, changes);
            }
        } else {
            apply(top, changes);
        }
        json
    }

    /// Class and geometry of the file it was read from; none if there is no such file, or one with experts for a model without or the other
    /// way round.
    fn as_read(&self) -> Option<(Class, Self)> {
        let top = object(&self.source, "config.json").ok()?;
        let class = Class::read(top).ok()?;
        let original = Self::read(&self.source, top, class).ok()?;
        (class.has_experts() == self.moe.is_some()).then_some((class, original))
    }

    /// `config.json` of the text class, to go with weights named `model.layers...`: the text part of a multimodal file, else
    /// [`to_json`](Self::to_json).
    pub fn to_text_json(&self) -> Value {
        let json = self.to_json();
        let Some(text) = json.get("text_config").and_then(Value::as_object) else {
            return json;
        };
        let mut text = text.clone();
        let class = Class::of(self.moe.is_some(), false);
        text.insert("architectures".into(), json!([class.architecture()]));
        text.insert("model_type".into(), class.model_type().into());
        text.insert(
            "tie_word_embeddings".into(),
            self.tie_word_embeddings.into(),
        );
        // The type may be said at the top alone.
        let is_said = |key| text.get(key).is_some_and(|dtype: &Value| !dtype.is_null());
        if let Some(dtype) = self.dtype
            && !is_said("dtype")
            && !is_said("torch_dtype")
        {
            text.insert("dtype".into(), json!(dtype));
        }
        Value::Object(text)
    }

    /// The keys and values that turn `self`'s file into `other`'s; rotary keys by their bare name.
    fn changes_to(&self, other: &Self) -> Vec<(&'static str, Value)> {
        let old = self.values();
        let mut changes = other.values();
        changes.retain(|(key, value)| !old.contains(&(*key, value.clone())));
        changes
    }

    /// Every value under its key in the text class, rotary keys by their bare name.
    fn values(&self) -> Vec<(&'static str, Value)> {
        let mut values = vec![
            ("vocab_size", self.vocab_size.into()),
            ("hidden_size", self.hidden_size.into()),
            ("num_hidden_layers", self.num_hidden_layers.into()),
            ("num_attention_heads", self.num_attention_heads.into()),
            ("num_key_value_heads", self.num_key_value_heads.into()),
            ("head_dim", self.head_dim.into()),
            ("linear_num_key_heads", self.linear_num_key_heads.into()),
            ("linear_num_value_heads", self.linear_num_value_heads.into()),
            ("linear_key_head_dim", self.linear_key_head_dim.into()),
            ("linear_value_head_dim", self.linear_value_head_dim.into()),
            ("linear_conv_kernel_dim", self.linear_conv_kernel_dim.into()),
            (
                "full_attention_interval",
                self.full_attention_interval.into(),
            ),
            ("layer_types", json!(self.layer_types)),
            ("rope_theta", self.rope_theta.into()),
            ("partial_rotary_factor", self.partial_rotary_factor.into()),
            ("mrope_section", json!(self.mrope_section)),
            ("rms_norm_eps", self.rms_norm_eps.into()),
            ("tie_word_embeddings", self.tie_word_embeddings.into()),
            ("initializer_range", self.initializer_range.into()),
            (
                "max_position_embeddings",
                self.max_position_embeddings.into(),
            ),
            ("mtp_num_hidden_layers", self.mtp_num_hidden_layers.into()),
            ("dtype", json!(self.dtype)),
        ];
        values.extend(match &self.moe {
            None => vec![("intermediate_size", self.intermediate_size.into())],
            Some(moe) => vec![
                ("num_experts", moe.num_experts.into()),
                ("num_experts_per_tok", moe.num_experts_per_tok.into()),
                ("moe_intermediate_size", moe.moe_intermediate_size.into()),
                (
                    "shared_expert_intermediate_size",
                    moe.shared_expert_intermediate_size.into(),
                ),
            ],
        });
        values
    }

    #[expect(clippy::wrong_self_convention, reason = "it converts to JSON")]
    fn from_scratch(&self) -> Value {
        let class = Class::of(self.moe.is_some(), false);
        let mut json = json!({
            "architectures": [class.architecture()],
            "model_type": class.model_type(),
            "attention_bias": false,
            "attention_dropout": 0.0,
            "attn_output_gate": true,
            "bos_token_id": null,
            "eos_token_id": null,
            "pad_token_id": null,
            "hidden_act": "silu",
            "mtp_use_dedicated_embeddings": false,
            "use_cache": true,
            "rope_parameters": {
                "mrope_interleaved": true,
                "rope_type": "default",
            },
        });
        if let Some(top) = json.as_object_mut() {
            apply(top, self.values());
        }
        json
    }
}

impl ModelConfig {
    /// `config.json` of the model's class.
    ///
    /// A file of the same class that was read comes back with its keys in their order, unknown ones included; only values that differ from what
    /// the file says are replaced. Otherwise the file is made anew.
    pub fn to_json(&self) -> Value {
        let was_read = Self::from_json(&self.text.source)
            .ok()
            .filter(|read| read.class() == self.class());
        let Some(original) = was_read else {
            return self.from_scratch();
        };
        let mut json = self.text.to_json();
        if let (Some(new), Some(old)) = (self.vision, original.vision)
            && let Some(tower) = json.get_mut("vision_config").and_then(Value::as_object_mut)
        {
            new.write(old, tower);
        }
        json
    }

    #[expect(clippy::wrong_self_convention, reason = "it converts to JSON")]
    fn from_scratch(&self) -> Value {
        let Some(vision) = self.vision else {
            return self.text.to_text_json();
        };
        let class = self.class();
        json!({
            "architectures": [class.architecture()],
            "model_type": class.model_type(),
            "image_token_id": 248_056,
            "video_token_id": 248_057,
            "vision_start_token_id": 248_053,
            "vision_end_token_id": 248_054,
            "tie_word_embeddings": self.text.tie_word_embeddings,
            "text_config": self.text.to_text_json(),
            "vision_config": vision.into_json(class.model_type()),
        })
    }
}

/// Sets keys of the text class where the object has them already.
fn apply(text: &mut Map<String, Value>, changes: Vec<(&'static str, Value)>) {
    for (key, value) in changes {
        let places = match key {
            "rope_theta" | "partial_rotary_factor" | "mrope_section" => rope(key).to_vec(),
            "dtype" => vec!["dtype".into(), "torch_dtype".into()],
            _ => vec![key.to_owned()],
        };
        // A key that the file lacks goes where the Hub's files have it.
        let place = match places.iter().find(|place| has(text, place)) {
            Some(place) => place.as_str(),
            None if places.len() == 3 && !text.contains_key("rope_parameters") => key,
            None => &places[0],
        };
        match place.split_once('.') {
            Some((outer, inner)) => {
                if let Some(nested) = text.get_mut(outer).and_then(Value::as_object_mut) {
                    nested.insert(inner.into(), value);
                }
            }
            None => {
                text.insert(place.into(), value);
            }
        }
    }
}

fn has(text: &Map<String, Value>, place: &str) -> bool {
    match place.split_once('.') {
        Some((outer, inner)) => text
            .get(outer)
            .is_some_and(|nested| nested.get(inner).is_some()),
        None => text.contains_key(place),
    }
}
