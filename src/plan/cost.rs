//! What a job of Megatron's costs: weights, memory, operations.

mod activations;
mod flops;
mod memory;
mod weights;

pub use flops::{ModuleFlops, job_flops, tflops_per_gpu, vision_flops};
pub use memory::{Routing, job_memory, stage_memory};
pub use weights::{
    Weights, layer_weights, mtp_weights, stage_weights, trained_weights, vision_weights,
};
