//! What can happen, and what follows.

use std::path::PathBuf;

use crate::base::Fix;
use crate::event::RequestKind;

use super::launch::{LaunchRequest, bridge};
use super::{Action, Key, Screen, Size, Tone, layout, logs, mapping, recipes, runs, train};

/// What lies under the mouse; the view knows and tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A tab.
    Tab(Screen),
    /// A hint of the status line.
    Hint(Action),
    /// A pane of the screen, by the screen's own number.
    Pane(usize),
    /// A row of a pane, by the screen's own numbers.
    Row(usize, usize),
}

/// What the mouse did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mouse {
    /// The left button went down.
    Click,
    /// The wheel turned up.
    WheelUp,
    /// The wheel turned down.
    WheelDown,
}

/// Something that happened.
#[derive(Debug)]
pub enum Message {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The mouse did something over a target.
    Mouse(Mouse, Target),
    /// The terminal has a new size.
    Resize(Size),
    /// An action was chosen by other means than its key.
    Action(Action),
    /// Time has passed.
    Tick {
        /// Monotonic milliseconds since the program's start.
        now_ms: u64,
        /// Milliseconds since the Unix epoch.
        wall_ms: i64,
    },
    /// Something to show in the status line.
    Say(Tone, String),
    /// Quit was asked from outside: SIGTERM or a hang-up.
    Terminate,
    /// A run was created and its trainer started, or why not.
    Launched(Result<PathBuf, String>),
    /// For the launch dialog of jobs beyond this machine's trainer.
    Bridge(bridge::Message),
    /// For the Recipes screen.
    Recipes(recipes::Message),
    /// For the Mapping screen.
    Mapping(mapping::Message),
    /// For the Layout screen.
    Layout(layout::Message),
    /// For the Train screen.
    Train(train::Message),
    /// For the Runs screen.
    Runs(runs::Message),
    /// For the Logs screen.
    Logs(logs::Message),
}

/// Work for the outside world, described as data and done by the runtime.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Leave the program.
    Quit,
    /// Stop this process as Ctrl-Z does.
    Suspend,
    /// Draw every cell again.
    Redraw,
    /// Ask the terminal to tell the mouse, or to keep it for selecting text.
    Mouse(bool),
    /// Put text on the clipboard.
    Copy(String),
    /// Leave the terminal to `$EDITOR`.
    OpenEditor {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// List the recipes of the folder.
    ListRecipes,
    /// Read and validate a recipe.
    CheckRecipe(PathBuf),
    /// Watch these folders' own files too: recipes extend files that lie there.
    WatchFolders(Vec<PathBuf>),
    /// Change a file as a fix says, if its text there is still `expected`.
    ApplyFix {
        /// The change.
        fix: Fix,
        /// The text that the fix replaces.
        expected: Option<String>,
    },
    /// Write a new file; refuse if there is one.
    CreateFile {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
    /// Write a file that exists: a temporary file renamed over it.
    ReplaceFile {
        /// The file.
        path: PathBuf,
        /// Its new text.
        text: String,
    },
    /// Look how much memory the machine has free.
    LookAtMachine,
    /// Create a run and start its trainer.
    Launch(LaunchRequest),
    /// For jobs of Megatron-Bridge.
    Bridge(bridge::Effect),
    /// Ask a run's trainer for something.
    Request {
        /// The run's folder.
        run: PathBuf,
        /// What is asked.
        kind: RequestKind,
    },
    /// For the Mapping screen.
    Mapping(mapping::Effect),
    /// For the Layout screen.
    Layout(layout::Effect),
    /// For the Train screen.
    Train(train::Effect),
    /// For the Runs screen.
    Runs(runs::Effect),
    /// For the Logs screen.
    Logs(logs::Effect),
}
