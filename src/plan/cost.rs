//! What a job of Megatron's costs: weights, memory, operations, traffic, time.

mod activations;
mod flops;
mod memory;
mod theoretical;
mod time;
mod traffic;
mod weights;

pub use flops::{ModuleFlops, job_flops, tflops_per_gpu, vision_flops};
pub use memory::{Routing, job_memory, stage_memory};
pub use theoretical::{Counted, Theoretical, theoretical};
pub use time::{StageTime, StepTime, step_time};
pub use traffic::{LinkKind, Traffic, traffic};
pub use weights::{
    Weights, layer_weights, mtp_weights, stage_weights, trained_weights, vision_weights,
};
