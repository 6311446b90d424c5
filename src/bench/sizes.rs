//! The sizes that operations are measured at.

use crate::spec::TextConfig;

/// A model and a micro-batch.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// The geometry.
    pub config: TextConfig,
    /// Rows of the micro-batch.
    pub micro_batch_size: usize,
    /// Tokens of a row.
    pub seq_length: usize,
    /// Tokens of a cross-entropy chunk.
    pub loss_chunk: usize,
}

impl Sizes {
    /// Tokens of the micro-batch.
    pub fn tokens(&self) -> usize {
        self.micro_batch_size * self.seq_length
    }
}
