//! The family's four classes.

use serde_json::{Map, Value};

use crate::spec::SpecError;

/// A class of the family: dense or a mixture of experts, text alone or with vision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Dense, text alone.
    Text,
    /// Dense, with vision; the text model is under `text_config`.
    Multimodal,
    /// Experts, text alone.
    MoeText,
    /// Experts, with vision; the text model is under `text_config`.
    MoeMultimodal,
}

impl Class {
    const ALL: [Self; 4] = [
        Self::Text,
        Self::Multimodal,
        Self::MoeText,
        Self::MoeMultimodal,
    ];

    /// The class of a model with these parts.
    pub(super) fn of(experts: bool, vision: bool) -> Self {
        match (experts, vision) {
            (false, false) => Self::Text,
            (false, true) => Self::Multimodal,
            (true, false) => Self::MoeText,
            (true, true) => Self::MoeMultimodal,
        }
    }

    /// Reads the class from `model_type`, else from `architectures`.
    pub(super) fn read(top: &Map<String, Value>) -> Result<Self, SpecError> {
        let model_type = top.get("model_type").and_then(Value::as_str);
        let architecture = top
            .get("architectures")
            .and_then(|list| list.get(0))
            .and_then(Value::as_str);
        let found = model_type.or(architecture).ok_or(SpecError::NoFamily)?;
        Self::ALL
            .into_iter()
            .find(|class| match model_type {
                Some(name) => class.model_type() == name,
                None => class.architecture() == found,
            })
            .ok_or_else(|| SpecError::OtherFamily {
                found: found.into(),
            })
    }

    pub(super) fn has_experts(self) -> bool {
        matches!(self, Self::MoeText | Self::MoeMultimodal)
    }

    pub(super) fn has_vision(self) -> bool {
        matches!(self, Self::Multimodal | Self::MoeMultimodal)
    }

    /// The class of the text model inside.
    pub(super) fn text(self) -> Self {
        Self::of(self.has_experts(), false)
    }

    pub(super) fn model_type(self) -> &'static str {
        match self {
            Self::Text => "qwen3_5_text",
            Self::Multimodal => "qwen3_5",
            Self::MoeText => "qwen3_5_moe_text",
            Self::MoeMultimodal => "qwen3_5_moe",
        }
    }

    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Text => "Qwen3_5ForCausalLM",
            Self::Multimodal => "Qwen3_5ForConditionalGeneration",
            Self::MoeText => "Qwen3_5MoeForCausalLM",
            Self::MoeMultimodal => "Qwen3_5MoeForConditionalGeneration",
        }
    }
}
