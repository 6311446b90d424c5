//! The model against goldens, against candle's autograd, and against itself.

mod parameters;
