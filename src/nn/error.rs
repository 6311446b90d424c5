//! What can go wrong in a model.

use std::path::PathBuf;

use thiserror::Error;

use crate::base::Shape;

/// Why a model could not be built or run.
#[derive(Debug, Error)]
pub enum NnError {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A model with experts, which have no layers here.
    #[error("the config has {num_experts} experts a layer; this version trains dense models only")]
    MixtureOfExperts {
        /// Routed experts of a layer.
        num_experts: usize,
    },
    /// A name that the model does not have.
    #[error("the model has no parameter {name}")]
    UnknownParameter {
        /// The name asked for.
        name: String,
    },
    /// A tensor of another shape than the model's.
    #[error("{name} is {found}, but the model needs {expected}")]
    ShapeMismatch {
        /// The parameter.
        name: String,
        /// What the model needs.
        expected: Shape,
        /// What was given.
        found: Shape,
    },
    /// Matrices that do not lie one behind the other.
    #[error("{names} do not follow each other in the arena")]
    NotAdjacent {
        /// The parameters.
        names: String,
    },
    /// A part of a batch that is not as long as the batch.
    #[error("the batch has {tokens} tokens, but its {part} has {found}")]
    BatchLength {
        /// Which part.
        part: &'static str,
        /// Tokens of the batch, by its `cu_seqlens`.
        tokens: usize,
        /// Entries of the part.
        found: usize,
    },
    /// A token that the embedding does not have.
    #[error("token {index} is {id}, but the vocabulary has {vocab_size} entries")]
    TokenOutOfRange {
        /// Place in the batch.
        index: usize,
        /// The token.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// A sequence that context parallelism cannot cut evenly.
    #[error("a sequence of {length} tokens does not divide into {chunks} chunks")]
    UnevenContextParallel {
        /// Tokens of the sequence.
        length: usize,
        /// Twice the context-parallel degree.
        chunks: usize,
    },
    /// A batch file that cannot be used.
    #[error("{}: {problem}", path.display())]
    BatchFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A device that this program or machine does not have.
    #[error("{device} is not available: {reason}")]
    DeviceUnavailable {
        /// The device asked for.
        device: &'static str,
        /// Why not.
        reason: String,
    },
}
