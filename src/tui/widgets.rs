//! Drawing that several screens use.

mod bar;
mod wrap;

pub use bar::bar;
pub use wrap::wrap;
