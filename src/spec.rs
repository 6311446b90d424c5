//! Qwen3.5 and Qwen3.6 as data: geometry, tensors, counts.

mod config;

pub use config::{LayerKind, TextConfig};
