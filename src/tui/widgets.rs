//! Drawing that several screens use.

mod bar;
pub mod chart;
pub mod number;
pub mod stack;
mod wrap;

pub use bar::bar;
pub use wrap::{fill, wrap};
