//! What a parallel layout costs and whether it can run.
//!
//! A [`Job`] is a model with everything that a layout depends on; [`problems`] says why it cannot start,
//! [`job_memory`] what every stage holds by Megatron's terms, [`job_flops`] what a step computes, and [`plan`] all of it and the time of a step,
//! [`fit`] which layouts would do best, and a [`Machine`] what it runs on.
//! [`Degrees`] say how a run is spread; [`RankGrid`] puts every rank in its place and groups, [`rules`] checks them against a model and a
//! batch, [`Pipeline`] cuts the layers into pipeline stages, [`memory`] adds up what the fullest rank holds,
//! [`step_plan`] what our own trainer holds at the fullest moment of a step on one GPU.

mod cost;
mod degrees;
mod grid;
mod job;
pub mod machine;
mod memory;
mod order;
mod pipeline;
mod problem;
mod report;
mod rule;
mod schedule;
mod search;
mod stage;
mod whole;

pub use cost::{
    Counted, LinkKind, ModuleFlops, Routing, StageTime, StepTime, Theoretical, Traffic, Weights,
    job_flops, job_memory, layer_weights, mtp_weights, stage_memory, stage_weights, step_time,
    tflops_per_gpu, theoretical, traffic, trained_weights, vision_flops, vision_weights,
};
pub use degrees::{Axis, Coordinates, Degrees, lcm};
pub use grid::{GridError, Group, MOST_RANKS, RankGrid};
pub use job::{
    CrossEntropy, CudaGraphs, Dispatcher, Frozen, Fsdp, Job, MathPrecision, MegatronOptions,
    MegatronRecompute, OptimizerOptions, RecomputeMethod, RecomputePart, SequencePacking, Tuning,
};
pub use machine::{Link, Machine, MachineError};
pub use memory::{
    DRIVER_CONTEXT, Fit, MATRIX_WORKSPACE, MemoryEstimate, MemoryTerm, NOT_MODELLED,
    OptimizerState, Precision, Recompute, RecomputeModule, StepPlan, StepShape, Storage,
    TrainShape, fitting, layer_activations, memory, memory_by_stage, step_plan,
};
pub use order::{RankOrder, RankOrderError};
pub use pipeline::{Pipeline, PipelineError};
pub use problem::{Fix, Problem, errors, mended, problems};
pub use report::{recompute_name, report};
pub use rule::{BatchShape, Rule, Violation, check, rules};
pub use schedule::{MOST_PIECES, Piece, Schedule, Turn, schedule};
pub use search::{Candidate, Constraints, Found, Rejection, fit};
pub use stage::{Stage, stages};
pub use whole::{Outline, Plan, PlanError, outline, plan, plan_with};
