//! Screens drawn into memory: snapshots of text and styles, and keys that must never panic.

mod fixture;
mod frame;
mod fuzz;
mod recipes;
mod runs;
mod train;
