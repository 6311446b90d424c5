//! Ops against goldens, against candle's autograd in f64, and against finite differences.
//!
//! `cargo test --test suite ops:: -- --nocapture` prints the worst error of each op beside what is allowed.

mod adamw;
mod attention;
mod convolution;
mod cross_entropy;
mod delta;
mod elementwise;
mod golden;
mod norms;
mod oracle;
mod places;
mod products;
mod views;
