//! Why a trainer cannot start or go on.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a trainer cannot start or go on.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Another trainer has the run.
    #[error("{} is being trained by another process{}", run.display(), pid.map(|p| format!(" ({p})")).unwrap_or_default())]
    Locked {
        /// The run's folder.
        run: PathBuf,
        /// The other trainer, if it has written its id.
        pid: Option<u32>,
    },
    /// Something in the run's folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in the run's folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The run's recipe is not valid; all its problems.
    #[error("{} is not a valid recipe:\n{problems}", path.display())]
    Recipe {
        /// The recipe.
        path: PathBuf,
        /// The problems, one after the other.
        problems: String,
    },
    /// The recipe asks for a device that is not there.
    #[error("{reason}")]
    Device {
        /// What is missing.
        reason: String,
        /// How to train nevertheless.
        hint: String,
    },
    /// The recipe asks for something that the local trainer does not do.
    #[error("{0}")]
    Unsupported(String),
    /// A step that cannot fit on the GPU by plan; nothing was started.
    #[error("{report}")]
    TooLarge {
        /// What is needed, what is left, what would fit.
        report: String,
    },
    /// The GPU had not enough memory for a step.
    #[error("{report}")]
    OutOfMemory {
        /// Plan, peak, largest terms, what would fit, the last checkpoint.
        report: String,
    },
    /// Text or tokenizer.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A checkpoint or a Hugging Face directory.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// A checkpoint that does not fit this trainer.
    #[error("{} does not continue this run: {reason}", path.display())]
    Progress {
        /// The checkpoint.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The model.
    #[error(transparent)]
    Model(#[from] crate::nn::NnError),
    /// A tensor operation.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// Too many steps in a row had a non-finite loss or gradient.
    #[error(
        "{in_a_row} steps in a row had a loss or gradient that is not finite; the last was step {step}"
    )]
    NonFinite {
        /// The last of them.
        step: u64,
        /// How many.
        in_a_row: u64,
    },
    /// The trainer panicked, which is a mistake in the program.
    #[error("the trainer panicked: {0}")]
    Panicked(String),
}

impl TrainError {
    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { .. } => {
                Some("watch it, or stop it before another trainer takes the run".to_owned())
            }
            Self::Write { source, .. } if is_full(source) => {
                Some("free some space, then resume the run".to_owned())
            }
            Self::Write { .. } => Some("make the run's folder writable".to_owned()),
            Self::Device { hint, .. } => Some(hint.clone()),
            Self::TooLarge { .. } => Some(
                "take what would fit, or set train.check_memory = false to try nevertheless"
                    .to_owned(),
            ),
            Self::OutOfMemory { .. } => Some(
                "take what would fit in a fork of the run, or free memory of the GPU and resume it"
                    .to_owned(),
            ),
            Self::NonFinite { .. } => Some(
                "the batches are in the run's folder `bad`; fork from an earlier checkpoint with a lower optimizer.lr"
                    .to_owned(),
            ),
            Self::Panicked(_) => Some(
                "this is a mistake in trestle; console.log has the details, and the run can be resumed"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Whether an error means that the disk, a quota or a file size limit is exhausted.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error),
        Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG)
    )
}
