//! Checkpoints of Megatron Core's `torch_dist` format, which is PyTorch's `torch.distributed.checkpoint` with names of Megatron.
//!
//! A folder `iter_0000500/` holds `metadata.json` (backend and version), `.metadata` (a pickle: every tensor's shape, type and chunks, and where
//! each chunk's item lies) and `__{rank}_{n}.distcp` files: items one after the other, each a `torch.save` archive, that is an uncompressed zip
//! whose record `data/0` is the chunk's scalars. So a chunk can be read and written in place, and this room does.

mod archive;
mod boxes;
mod common;
mod error;
mod extra_state;
mod item;
mod locate;
pub mod metadata;
pub mod pickle;
mod plan;
mod read;
mod trackers;
pub mod zip;

pub use common::Common;
pub use error::TorchDistError;
pub use item::ItemError;
pub use plan::{Options, Plan, PlannedFile, PlannedItem, track, write_all};
pub use read::{Listed, Reader};
pub use trackers::{TRACKER, folder_name};
