//! What crosses rooms, in one runner so that it links once.
#![allow(missing_docs, reason = "tests are read, not linked against")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod backend;
mod checkpoint;
mod commands;
mod data;
mod event;
mod hub;
mod interop;
mod mapping;
mod nn;
mod ops;
mod plan;
mod recipe;
mod run;
mod screens;
mod spec;
mod telemetry;
mod train;
