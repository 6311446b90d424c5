//! Weights and training state on disk.
//!
//! [`safetensors`] is the format of weights. [`huggingface`] reads and writes a Hugging Face directory (`config.json` and safetensors, one file or sharded). [`training`] keeps
//! checkpoints of a run: each is such a directory with the optimizer's moments and the trainer's progress beside the weights, written
//! so that a kill or a full disk at any moment leaves the previous one intact.

mod error;
mod files;
pub mod huggingface;
pub mod safetensors;
mod stored;
pub mod torch_dist;
pub mod training;

pub use error::CheckpointError;
pub use stored::{Extent, StoredTensor, matrix};
