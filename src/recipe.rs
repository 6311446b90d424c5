//! Recipes: TOML documents into resolved, validated experiments.

mod resolved;

pub use resolved::{
    Alerts, Checkpoint, Data, DataSource, DeviceChoice, Init, Logging, Model, Mtp, Optimizer,
    Packing, Parallel, Recipe, Recompute, RecomputeModule, Schedule, ScheduleKind, Train,
};
