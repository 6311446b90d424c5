//! Screens drawn into memory: snapshots of text and styles, and keys that must never panic.

mod bridge;
mod engine;
mod fixture;
mod frame;
mod fuzz;
mod layout;
mod mapping;
mod recipes;
mod runs;
mod train;
