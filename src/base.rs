//! Words that every room uses: quantities, places in a text, diagnostics.

mod diagnostic;
mod quantity;

pub use diagnostic::{Diagnostic, Fix, LineColumn, Place, Severity, Span};
pub use quantity::{Bytes, DType, Flops, Shape};
