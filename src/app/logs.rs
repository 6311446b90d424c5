//! The Logs screen: the watched run's console.

use std::path::PathBuf;

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// Lines that the run's console gained.
    Lines(PathBuf, Vec<String>),
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Follow this run's console instead of the one followed before.
    Follow(PathBuf),
}

/// The screen's state.
#[derive(Debug, Default)]
pub struct State {
    /// Lines read so far.
    pub lines: Vec<String>,
    /// The row under the cursor.
    pub cursor: usize,
    /// Whether the cursor follows the end.
    pub follow: bool,
}
