//! Where a recipe runs. For now on this machine, in a process of its own.

mod error;
pub mod local;

pub use error::BackendError;
