//! The Train screen: the watched run.

use std::path::{Path, PathBuf};

use crate::event::Record;

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// The run's trainer wrote records.
    Records(PathBuf, Vec<Record>),
    /// Whether the run's trainer lives.
    Alive(PathBuf, bool),
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Follow this run instead of the one followed before.
    Follow(PathBuf),
}

/// The screen's state.
#[derive(Debug, Default)]
pub struct State {
    /// The watched run's folder.
    pub run: Option<PathBuf>,
    /// Whether its trainer lives.
    pub is_alive: bool,
    /// The recipe file that the run was launched from.
    pub recipe: Option<PathBuf>,
    /// Live keys with their present values, as TOML.
    pub live: Vec<(&'static str, String)>,
}

impl State {
    /// The recipe file that the watched run was launched from.
    pub fn recipe(&self) -> Option<&Path> {
        self.recipe.as_deref()
    }

    /// Whether a second's passing changes the screen.
    pub fn needs_ticks(&self) -> bool {
        self.is_alive
    }
}
