//! A whole `config.json` of any class of the family.

use serde_json::Value;

use super::class::Class;
use super::keys::object;
use super::{ModelConfig, TextConfig, VisionConfig};
use crate::spec::SpecError;

impl ModelConfig {
    /// Reads Hugging Face's `config.json` of any class: `qwen3_5`, `qwen3_5_text`, `qwen3_5_moe`, `qwen3_5_moe_text`, by `architectures`
    /// where there is no `model_type`.
    ///
    /// A missing key has the class's value; a missing `mtp_num_hidden_layers` is no MTP. The multimodal classes need `text_config` and
    /// `vision_config`, and `tie_word_embeddings` is read at the top. The JSON is kept in the text model's [`source`](TextConfig::source).
    /// Fails with the first key that is wrong, or with the family if it is another one, whatever keys that one has.
    pub fn from_json(json: &Value) -> Result<Self, SpecError> {
        let top = object(json, "config.json")?;
        let class = Class::read(top)?;
        let text = TextConfig::read(json, top, class)?;
        let vision = if class.has_vision() {
            Some(VisionConfig::read(top)?)
        } else {
            None
        };
        let config = Self { text, vision };
        config.validate()?;
        Ok(config)
    }

    /// Checks that the numbers go together, whatever they were read from.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.text.validate()?;
        self.vision
            .as_ref()
            .map_or(Ok(()), |vision| vision.validate(&self.text))
    }

    /// The same text model in the text class, with the text part of its file.
    #[must_use]
    pub fn text_only(&self) -> Self {
        if self.vision.is_none() {
            return self.clone();
        }
        let mut text = self.text.clone();
        if !text.source.is_null() {
            text.source = text.to_text_json();
        }
        Self { text, vision: None }
    }

    /// `architectures` of its class, as Hugging Face spells it: `Qwen3_5MoeForConditionalGeneration`.
    pub fn architecture(&self) -> &'static str {
        self.class().architecture()
    }

    /// `model_type` of its class: `qwen3_5_moe`.
    pub fn model_type(&self) -> &'static str {
        self.class().model_type()
    }

    pub(super) fn class(&self) -> Class {
        Class::of(self.text.moe.is_some(), self.vision.is_some())
    }
}

impl From<TextConfig> for ModelConfig {
    /// The model of the text class.
    fn from(text: TextConfig) -> Self {
        Self { text, vision: None }
    }
}
