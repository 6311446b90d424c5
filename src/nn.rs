//! The Qwen3.5 text model with Multi-Token Prediction, each layer as an explicit forward and backward.
//!
//! Activations are packed: `[N, ...]` for the `N` tokens of a batch, with borders in `cu_seqlens`. A layer's forward
//! returns its output and what its backward needs; the backward takes that by value, adds weight gradients into the arena
//! of [`Parameters`] and returns the gradient of its input. Nothing here changes a weight.

mod error;
mod parameters;

pub use error::NnError;
pub use parameters::{Entry, Parameter, Parameters};
