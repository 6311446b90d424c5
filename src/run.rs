//! The run directory from outside: create, list, steer, follow, draw.
//!
//! A trainer alone appends to `events.jsonl`; everything here reads it or appends requests to `control.jsonl`. What is derived lies in
//! `cache/` and may be deleted at any time.

mod cache;
mod console;
mod directory;
mod error;
mod history;
mod line_text;
mod list;
mod request;
mod scan;
pub mod series;
mod status;
mod tail;
mod watched;

pub use console::{Console, Page, Want};
pub use directory::{CreateRun, RunDirectory, create, find, open, tag};
pub use error::RunError;
pub use history::{Abandoned, History};
pub use line_text::{Filter, Level, Line, step_in};
pub use list::{Summary, list, summary};
pub use request::{Answer, request, wait_for_answer};
pub use status::{Status, is_live};
pub use tail::{Batch, Tail};
pub use watched::{has_news, patience, watched};
