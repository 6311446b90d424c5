//! Runs that others train: logs of Megatron-Bridge and Megatron-LM and TensorBoard event files, as our own events.
//!
//! [`Parser`] turns the bytes of one log into [`Line`]s and [`scalars`] does the same for TensorBoard; both touch no file. A
//! [`Translator`] joins the lines of all files of a job and its restarts into [`Record`](crate::event::Record)s. [`Sources`] finds and reads the
//! files, and a [`Mirror`] keeps a run directory in the user's cache whose `events.jsonl` says what they say, so that whatever works on our runs
//! works on these.

mod follower;
mod iteration;
mod line;
mod merge;
mod mirror;
mod number;
mod parser;
pub mod scalars;
mod source;
mod text;
mod translate;

pub use follower::{Followers, cache_folder, list_among, watch};
pub use iteration::Iteration;
pub use line::{Cause, Line, Memory, Split, Stage, Theory};
pub use mirror::{Mirror, News};
pub use parser::Parser;
pub use source::{Kind, Sources};
pub use translate::{Options, Translator};

use std::path::PathBuf;

use thiserror::Error;

/// Why a foreign run cannot be watched.
#[derive(Debug, Error)]
pub enum ForeignError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "create".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder has nothing that could be a log.
    #[error("{} has neither a log nor TensorBoard event files", path.display())]
    NothingThere {
        /// The folder.
        path: PathBuf,
    },
    /// The user has no folder for what can be made again.
    #[error("there is no cache folder")]
    NoCache,
    /// The derived run directory could not be made.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
}
