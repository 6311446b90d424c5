//! Weights and training state on disk.
//!
//! [`safetensors`] reads headers and plans files of that format. [`huggingface`] reads and writes a Hugging Face directory
//! (`config.json` and safetensors, one file or sharded) for the trainer. [`training`] keeps checkpoints of a run: each is such a directory
//! with the optimizer's moments and the trainer's progress beside the weights, written so that a kill or a full disk at any moment leaves
//! the previous one intact. [`statistics`] says what the numbers of any stored tensor look like.

pub mod compare;
pub mod convert;
mod error;
mod files;
pub mod huggingface;
pub mod safetensors;
pub mod statistics;
mod stored;
pub mod torch_dist;
pub mod training;
pub mod weights;

pub use error::CheckpointError;
pub use statistics::Statistics;
pub use stored::{Extent, StoredTensor, matrix};
pub use weights::{Bound, Format, Weights};
