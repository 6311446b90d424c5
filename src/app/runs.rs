//! The Runs screen: every run of the folder.

use std::path::PathBuf;

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// The runs' folders, newest first.
    Listed(Vec<PathBuf>),
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// List the runs.
    List,
}

/// The screen's state.
#[derive(Debug, Default)]
pub struct State {
    /// The runs' folders, newest first.
    pub runs: Vec<PathBuf>,
    /// The run under the cursor.
    pub cursor: usize,
}

impl State {
    /// Whether a second's passing changes the screen.
    pub fn needs_ticks(&self) -> bool {
        false
    }
}
