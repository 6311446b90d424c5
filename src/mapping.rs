//! Hugging Face and Megatron as two ways to hold one model.
//!
//! A [`Table`] lists every tensor of Megatron as an [`Entry`]: which Hugging Face tensors it is made of, in which order of rows
//! ([`Permutation`]), how ranks cut it ([`Shard`]), where it lives ([`Place`]). A [`View`] says which rectangles of which entries the tensors of a
//! format hold: [`View::huggingface`], [`View::torch_dist`], [`View::shards`]. Two views of one table are all that a conversion is: [`join`] gives
//! the moves from one to the other, in either direction, and [`Table::trace`] follows one element through all of them.
//!
//! Rows and columns are those of a tensor seen as a matrix: all dims but the last are rows, a vector is one column.

mod audit;
mod differ;
mod entry;
mod error;
mod join;
mod layout;
mod name;
mod permutation;
mod shard;
mod table;
mod trace;
mod view;
mod vision;

pub use audit::{Audit, Found, Problem, ProblemKind, audit, expert_style};
pub use differ::{Difference, differences};
pub use entry::{Arithmetic, Entry, Kind, Place, Source};
pub use error::MappingError;
pub use join::{Move, join};
pub use layout::{Coordinates, Layout, LayoutOptions, Spelling};
pub use name::key;
pub use permutation::{Block, Permutation};
pub use shard::{Axis, Shard};
pub use table::Table;
pub use trace::{At, Held, Trace};
pub use view::{Convention, Piece, View, ViewTensor};
