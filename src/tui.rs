//! The terminal face of the workbench: keys, screens, widgets, and the loop between them and the outside world.
//!
//! The main thread owns the terminal. Threads that read the terminal, wait for signals, watch files, follow runs and do slow work send
//! into one bounded channel; the loop takes everything that is there, updates the state, and draws at most once per 33 ms (16 ms after
//! a key), never when nothing changed. Without news it sleeps.

mod ascii;
pub mod canvas;
mod dialogs;
mod editor;
mod effects;
mod input;
mod mailbox;
mod runtime;
pub mod screens;
mod signals;
mod terminal;
pub mod theme;
mod view;
pub mod widgets;
mod worker;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

pub use view::draw;

/// What the workbench opens on.
#[derive(Debug, Clone)]
pub struct Options {
    /// The recipes' folder.
    pub recipes: PathBuf,
    /// The runs' folder, if the user named one; else `runs`, and new runs go where their recipe says.
    pub runs: Option<PathBuf>,
    /// The run that Train opens on; else the newest one that is live.
    pub show: Option<PathBuf>,
    /// The keymap file's text and name, if there is one.
    pub keymap: Option<(PathBuf, String)>,
}

/// What to say after the screen is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// The run whose trainer goes on, if one does.
    pub detached: Option<PathBuf>,
}

/// Why the workbench cannot open or had to close.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// Nobody could see or steer it.
    #[error("the workbench needs a terminal; standard {0} is not one")]
    NoTerminal(&'static str),
    /// The terminal does not do what it is told.
    #[error("the terminal does not answer: {0}")]
    Terminal(#[from] io::Error),
}

/// Opens the workbench and returns when the user leaves.
pub fn run(options: Options) -> Result<Farewell, TuiError> {
    if !io::stdin().is_terminal() {
        return Err(TuiError::NoTerminal("input"));
    }
    if !io::stdout().is_terminal() {
        return Err(TuiError::NoTerminal("output"));
    }
    runtime::run(options)
}
