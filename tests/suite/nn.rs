//! The model against goldens, against candle's autograd, and against itself.

mod forward;
mod golden;
mod invariants;
mod mtp;
mod oracle;
mod parameters;
mod probe;
mod recompute;
mod shapes;
