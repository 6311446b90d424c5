//! Text into batches: tokenizer, sources, packing, resumable loader.
//!
//! ```text
//!  recipe -> sources -> documents -> tokenizer -> token cache (one memory-mapped file) -> rows -> Loader -> Batch
//! ```
//!
//! Documents are read and tokenised once, in a stream, into a cache that lies outside the run. What follows is a function of the
//! cache, the seed and a small [`Position`], so that a loader that is put back to a position delivers the very same batches.

mod batch;
mod cache;
mod corpus;
mod error;
mod loader;
mod rows;
mod source;
mod statistics;
mod tokenizer;

pub use batch::{Batch, Position, Split};
pub use error::DataError;
pub use loader::Loader;
pub use statistics::{SplitStatistics, Statistics, statistics};
pub use tokenizer::{SPECIAL_TOKENS, Tokenizer, train_tokenizer};
