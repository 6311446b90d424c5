//! What a parallel layout costs and whether it can run.
//!
//! [`Degrees`] say how a run is spread; [`RankGrid`] puts every rank in its place and groups, [`rules`] checks them against a model and a
//! batch, [`Pipeline`] cuts the layers into pipeline stages, [`memory`] adds up what the fullest rank holds,
//! [`step_plan`] what our own trainer holds at the fullest moment of a step on one GPU.

mod degrees;
mod memory;
mod pipeline;
mod rule;
mod stage;

pub use degrees::{Axis, Coordinates, Degrees, RankGrid, lcm};
pub use memory::{
    DRIVER_CONTEXT, Fit, MATRIX_WORKSPACE, MemoryEstimate, MemoryTerm, NOT_MODELLED,
    OptimizerState, Precision, Recompute, RecomputeModule, StepPlan, StepShape, Storage,
    TrainShape, fitting, layer_activations, memory, memory_by_stage, step_plan,
};
pub use pipeline::{Pipeline, PipelineError};
pub use rule::{BatchShape, Rule, Violation, check, rules};
pub use stage::{Stage, stages};
