//! Trestle: the terminal workbench for people who train Qwen3.5-class models.
//!
//! ```text
//!  main  cli  tui                  arguments and printing | terminal, keys, screens
//!         app                      State, Action, Message, Effect, update: knows neither terminal nor candle
//!  backend run telemetry watch hub | bench train data nn checkpoint ops   processes and files | tensors (+ kernels/*.cu)
//!  ----------------------------- below: no file, no clock, no candle, no ratatui
//!  recipe  event  mapping  plan  spec
//!         base
//! ```
//!
//! Imports point down, and the tensor side never imports the process side: the two meet in [`event`] and [`recipe`].
//! `tests/architecture.rs` holds the table. A run is a directory that the trainer appends to and everybody else reads.

pub mod app;
pub mod backend;
pub mod base;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod event;
pub mod hub;
pub mod mapping;
pub mod nn;
pub mod ops;
pub mod plan;
pub mod recipe;
pub mod run;
pub mod spec;
pub mod telemetry;
pub mod train;
pub mod tui;
pub mod watch;
