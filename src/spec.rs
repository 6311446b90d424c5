//! Qwen3.5 and Qwen3.6 as data: geometry, tensors, counts.
//!
//! [`ModelConfig`] is `config.json`, [`TextConfig`] its text model; everything else follows: [`model_tensors`] names every weight with its
//! shape and [`Role`], [`model_parameters`] adds them up, [`flops_per_token`] says what a token costs. [`registry`] lists the published sizes.

mod config;
mod count;
mod error;
mod registry;
mod role;
mod tensor;

pub use config::{
    ExpertLayout, ExpertStyle, LayerKind, ModelConfig, MoeConfig, TextConfig, VisionConfig,
    layer_pattern, mrope_split,
};
pub use count::{
    FlopsTerm, ParameterCount, flops_per_token, flops_terms, layer_parameters, model_parameters,
    parameters,
};
pub use error::SpecError;
pub use registry::{Entry, find, registry};
pub use role::{Projection, Role, VisionPart};
pub use tensor::{LayerRef, TensorSpec, model_tensors, tensors};
