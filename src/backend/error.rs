//! Why something could not be started, asked or stopped.

use std::path::PathBuf;

use thiserror::Error;

/// Why something could not be started, asked or stopped.
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
    /// A program took too long to answer.
    #[error("{} did not answer within {seconds:.0} s", program.display())]
    Slow {
        /// The program.
        program: PathBuf,
        /// How long was waited.
        seconds: f64,
    },
    /// Slurm refused, in its own words.
    #[error("{action}: {reason}")]
    Refused {
        /// What was tried: "sbatch", "scancel 12".
        action: String,
        /// Slurm's answer.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "write", "read".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The nodes would not be alike.
    #[error("{gpus} GPUs do not fill nodes of {gpus_per_node}")]
    UnevenNodes {
        /// Ranks of the job.
        gpus: usize,
        /// GPUs of a node.
        gpus_per_node: usize,
    },
    /// The profile lacks what this kind of launch needs.
    #[error("profile `{profile}` does not say `{key}`")]
    ProfileLacks {
        /// The profile.
        profile: String,
        /// The key.
        key: &'static str,
    },
}
