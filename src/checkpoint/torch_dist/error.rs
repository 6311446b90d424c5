//! Why a `torch_dist` checkpoint was refused.

use std::path::PathBuf;

use thiserror::Error;

use super::boxes::Cover;
use super::item::ItemError;
use super::metadata::MetadataError;
use super::pickle::PickleError;
use crate::base::Bytes;

/// A checkpoint that is damaged, unfinished, of another format, or that cannot be planned.
#[derive(Debug, Error)]
pub enum TorchDistError {
    /// A folder that is neither a checkpoint nor one that holds checkpoints.
    #[error("{} is no torch_dist checkpoint: it has neither .metadata nor latest_checkpointed_iteration.txt", path.display())]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// A tracker that names no checkpoint.
    #[error("{}: expected a step number or \"release\", found {found:?}", path.display())]
    Tracker {
        /// The tracker.
        path: PathBuf,
        /// Its text.
        found: String,
    },
    /// A `metadata.json` of another backend or version.
    #[error("{}: {problem}; only torch_dist of version 1 can be read", path.display())]
    Backend {
        /// The file.
        path: PathBuf,
        /// What it says.
        problem: String,
    },
    /// A `.metadata` that cannot be understood.
    #[error("{}: {problem}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: MetadataError,
    },
    /// A path of an item that leads out of the folder.
    #[error("{}: {key} lies in {relative:?}, which is not a file of the checkpoint's folder", path.display())]
    Outside {
        /// `.metadata`.
        path: PathBuf,
        /// A key that lies there.
        key: String,
        /// The path as written.
        relative: String,
    },
    /// A file of items that is not there or cannot be opened.
    #[error("{key} lies in {}, which cannot be opened: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// A key that lies there.
        key: String,
        /// Why not.
        source: std::io::Error,
    },
    /// An item that ends behind its file.
    #[error("{}: {key} lies at bytes {offset}..{}, but the file has {size}", path.display(), offset.saturating_add(*length))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// First byte of the item.
        offset: u64,
        /// Bytes of the item.
        length: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// An item that is not what `.metadata` says.
    #[error("{}: {key}, item at byte {offset}: {problem}", path.display())]
    Item {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// First byte of the item.
        offset: u64,
        /// What is wrong.
        problem: Box<ItemError>,
    },
    /// A chunk that lies outside its tensor.
    #[error("{}: {key} is {shape}, but a chunk of it begins at {offsets} with {sizes}", path.display())]
    Chunk {
        /// `.metadata`.
        path: PathBuf,
        /// The key.
        key: String,
        /// The tensor's extents.
        shape: String,
        /// The chunk's place.
        offsets: String,
        /// The chunk's extents.
        sizes: String,
    },
    /// Chunks that do not hold every element once.
    #[error("{}: {key} of {shape}: {problem}", path.display())]
    Cover {
        /// `.metadata`.
        path: PathBuf,
        /// The key.
        key: String,
        /// The tensor's extents.
        shape: String,
        /// What is wrong.
        problem: String,
    },
    /// An object that was asked for and is not there.
    #[error("{} has no object {key}", path.display())]
    NoObject {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// An object whose pickle cannot be read.
    #[error("{}: {key}: {problem}", path.display())]
    Object {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The object.
        key: String,
        /// What is wrong.
        problem: PickleError,
    },
    /// A tensor that is to be written twice.
    #[error("{key} is to be written twice")]
    Twice {
        /// The key.
        key: String,
    },
    /// A tensor whose first dim cannot be cut finely enough.
    #[error("{key} of {shape}: one index of its first dim takes {}, but an item holds {} at most", Bytes(*bytes), Bytes(*limit))]
    Row {
        /// The key.
        key: String,
        /// Its extents.
        shape: String,
        /// Bytes of one index of the first dim.
        bytes: u64,
        /// Bytes that an item can hold.
        limit: u64,
    },
}

impl TorchDistError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound { .. } => {
                "point at an iter_* folder, or at the folder that holds them and latest_checkpointed_iteration.txt"
            }
            Self::Tracker { .. } => "point at one of the iter_* folders instead",
            Self::Backend { .. } => "save the checkpoint with dist_ckpt_format = torch_dist",
            Self::File { .. } => {
                "every .distcp file must be beside .metadata; copy the whole folder"
            }
            Self::Truncated { .. } => "the file may be cut off; copy it again",
            Self::Metadata {
                problem: MetadataError::Pickle(_),
                ..
            } => "the file is damaged, or not written by PyTorch or Megatron Core",
            _ => return None,
        })
    }
}

/// What is wrong with chunks that should cover a tensor, in words.
pub(super) fn in_words(problem: &Cover) -> String {
    match problem {
        Cover::Overlap([(rows, cols), (other_rows, other_cols)]) => format!(
            "two chunks overlap: rows {rows:?} columns {cols:?}, and rows {other_rows:?} columns {other_cols:?}"
        ),
        Cover::Gap { held, of } => format!("the chunks hold {held} of {of} elements"),
    }
}
