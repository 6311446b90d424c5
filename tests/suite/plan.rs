//! Rank grids, stages, rules and memory of parallel layouts.

mod grid;
mod memory;
mod rule;
mod stage;
