//! The Qwen3.5 text model with Multi-Token Prediction, each layer as an explicit forward and backward.
//!
//! Activations are packed: `[N, ...]` for the `N` tokens of a batch, with borders in `cu_seqlens`. A layer's forward
//! returns its output and what its backward needs; the backward takes that by value, adds weight gradients into the arena
//! of [`Parameters`] and returns the gradient of its input. Nothing here changes a weight.

mod attention;
mod batch;
mod batch_file;
mod decoder_layer;
mod device;
mod error;
mod gated_delta_net;
mod inputs;
mod loss;
mod mlp;
mod model;
mod mtp;
mod parameters;
mod pending;
mod phase;
mod prepared;
mod probe;
mod recompute;
mod runner;
mod shift;

pub use batch::{Batch, Targets};
pub use batch_file::BatchFile;
pub use device::open_device;
pub use error::NnError;
pub use inputs::Inputs;
pub use loss::{DepthLoss, LossScales, Normalisation, StepOutput};
pub use model::{HiddenStates, Model};
pub use parameters::{Entry, Parameter, Parameters, Precision};
pub use pending::{Pending, Reading};
pub use phase::Phase;
pub use prepared::{Preparation, Prepared};
pub use probe::Probe;
pub use recompute::{Part, Recompute};
pub use runner::Runner;
pub use shift::{shift, shift_context_parallel};
