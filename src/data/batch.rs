//! What a loader delivers, and where it stands.

use serde::{Deserialize, Serialize};

/// Which part of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What is held out, `data.validation_fraction` of the documents by a hash of their text.
    Validation,
}

/// One micro-batch: `N = micro_batch_size * seq_length` tokens in segments that nothing crosses.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Tokens, `[N]`.
    pub input_ids: Vec<u32>,
    /// The token that follows each token in its document (`packed`) or in the stream (`concat`); 0 where the mask is 0.
    pub labels: Vec<u32>,
    /// 1 where the label counts, else 0: at the last token of a document and in padding.
    pub loss_mask: Vec<f32>,
    /// Time, height and width; equal rows that count from 0 in each segment.
    pub position_ids: [Vec<i64>; 3],
    /// Borders of the segments: 0, ..., `N`. A row's padding is a segment of its own.
    pub cu_seqlens: Vec<usize>,
}

/// Where a loader stands: the batch that comes next. Means something only together with the same documents, seed, packing,
/// `seq_length` and `micro_batch_size`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Times that all documents were read, from 0.
    pub epoch: u64,
    /// Place of a document in the epoch's order: the next one (`concat`), or the first of the window that is being packed.
    pub document: u64,
    /// Tokens of the document that were read (`concat`), or rows of the window that were delivered (`packed`).
    pub offset: u64,
}
