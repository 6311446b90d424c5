//! Rank grids, stages, rules and memory of parallel layouts.

mod cost;
mod fit;
mod grid;
mod memory;
mod pipeline;
mod problem;
mod rule;
mod stage;
mod theoretical;
