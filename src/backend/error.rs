//! Why a trainer could not be started.

use std::path::PathBuf;

use thiserror::Error;

/// Why a trainer could not be started.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The run's console could not be opened for appending.
    #[error("cannot open {}: {source}", path.display())]
    Console {
        /// The console.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The program could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}
