//! Configs both ways, tensor lists, counts of the published sizes.

mod config;
mod count;
mod tensor;
