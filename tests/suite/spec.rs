//! Configs both ways, tensor lists, counts of the published sizes.

mod config;
mod count;
mod model;
mod registry;
mod tensor;
