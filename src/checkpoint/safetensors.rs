//! The safetensors format: a strict reader of headers and directories, and a planner of files to write.
//!
//! A file is a length (8 bytes, little-endian), a JSON header of that length, and the tensors' bytes back to back. [`Header`] reads one
//! file's header, [`Directory`] all files of a Hugging Face directory; neither reads a tensor. [`Plan`] fixes names, headers and the place
//! of every tensor of files that do not exist yet, so that several threads can fill them by positioned writes.
//!
//! Whatever a file claims, no more is allocated than a small multiple of its header, which is at most 100 MB and no longer than the file.

mod directory;
mod error;
mod header;
mod index;
mod json;
mod plan;
mod write;

pub use directory::Directory;
pub use error::SafetensorsError;
pub use header::Header;
pub use index::Index;
pub use plan::{Plan, PlannedFile, PlannedTensor};
pub(super) use write::write_floats;

/// The file of a directory whose weights are in one file.
pub const SINGLE: &str = "model.safetensors";
/// The index of a directory whose weights are in several.
pub const INDEX: &str = "model.safetensors.index.json";
