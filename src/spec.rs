//! Qwen3.5 and Qwen3.6 as data: geometry, tensors, counts.
//!
//! [`TextConfig`] is `config.json`; everything else follows from it: [`tensors`] names every weight with its shape and [`Role`],
//! [`parameters`] adds them up, [`flops_per_token`] says what a token costs. [`registry`] lists the published sizes.

mod config;
mod count;
mod error;
mod registry;
mod tensor;

pub use config::{
    ExpertLayout, ExpertStyle, LayerKind, ModelConfig, MoeConfig, TextConfig, VisionConfig,
    layer_pattern, mrope_split,
};
pub use count::{
    FlopsTerm, ParameterCount, flops_per_token, flops_terms, layer_parameters, parameters,
};
pub use error::SpecError;
pub use registry::{Entry, find, registry};
pub use tensor::{LayerRef, Projection, Role, TensorSpec, tensors};
