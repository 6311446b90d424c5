//! What can be wrong with a `config.json`.

use thiserror::Error;

/// Why a `config.json` is not a Qwen3.5 model, or not one that this version trains.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SpecError {
    /// The JSON is a list, a number, ...
    #[error("{at} must be a JSON object, found {found}")]
    NotAnObject {
        /// The key, or `config.json` for the whole.
        at: String,
        /// What is there.
        found: String,
    },
    /// Another model family.
    #[error(
        "this is a `{found}` config; only the Qwen3.5 family is known (model_type `qwen3_5`, `qwen3_5_text`, `qwen3_5_moe` or `qwen3_5_moe_text`)"
    )]
    OtherFamily {
        /// Its `model_type`, else its architecture.
        found: String,
    },
    /// Neither `model_type` nor `architectures`.
    #[error(
        "no `model_type` and no `architectures`: cannot tell which family this config is of (expected `qwen3_5`, `qwen3_5_text`, `qwen3_5_moe` or `qwen3_5_moe_text`)"
    )]
    NoFamily,
    /// A mixture-of-experts model of the family, where only dense ones are taken.
    #[error("`{found}` is a mixture-of-experts model; this version trains dense models only")]
    MixtureOfExperts {
        /// Its `model_type`, else its architecture.
        found: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` must be {expected}, found {found}")]
    WrongType {
        /// Dotted key.
        key: String,
        /// What is allowed.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A value that no model can have.
    #[error("`{key}` = {value}, but it must be {must}")]
    Impossible {
        /// Dotted key.
        key: String,
        /// What is there.
        value: String,
        /// What is allowed.
        must: &'static str,
    },
    /// Two values that do not go together.
    #[error("{left} = {left_value} and {right} = {right_value}: {rule}")]
    Disagree {
        /// The first key or quantity.
        left: String,
        /// Its value.
        left_value: String,
        /// The second key or quantity.
        right: String,
        /// Its value.
        right_value: String,
        /// What must hold.
        rule: &'static str,
    },
    /// A variant of the architecture that is not implemented.
    #[error("`{key}` = {value} is not supported; only {only} is")]
    Unsupported {
        /// Dotted key.
        key: String,
        /// What is there.
        value: String,
        /// What is implemented.
        only: &'static str,
    },
}
