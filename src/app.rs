//! The workbench as a state machine: state, actions, messages, effects, and the function between them.
//!
//! Nothing here reads a clock, a file or a terminal. The terminal face ([`crate::tui`]) turns keys and files into [`Message`]s, calls
//! [`update()`], carries out the [`Effect`]s it returns and draws the [`State`].
//!
//! # Where a screen lives
//!
//! The same noun names a screen in every layer. For the Layout screen:
//!
//! | file | what it holds |
//! |---|---|
//! | `app/layout.rs` | `State`, `Message`, `Effect` of the screen; pure queries that update and view share |
//! | `app/update/layout.rs` | `act` (an [`Action`] of the screen or a movement), `message`, `unavailable` (why an action cannot run now), `search`, `accept` (a form of the screen was filled in), `HINTS` |
//! | `tui/screens/layout.rs` | `draw` and `status` (the right end of the tab bar); borrow the state, decide nothing |
//! | `tui/effects/layout.rs` | work for the outside world that answers with messages |
//!
//! A screen's own messages and effects are the variants [`Message::Layout`] and [`Effect::Layout`], so that a screen grows without
//! changing this file. New actions are lines in `app/action.rs`. Questions to the user are [`dialog::Form`], [`dialog::Choice`] and
//! [`dialog::View`] with a purpose that says which screen gets the answer.

pub mod action;
pub mod chart;
pub mod dialog;
pub mod key;
mod keymap;
pub mod launch;
pub mod layout;
pub mod list;
pub mod logs;
pub mod mapping;
mod message;
pub mod palette;
pub mod preview;
pub mod recipes;
pub mod runs;
pub mod search;
pub mod train;
pub mod update;

use std::path::PathBuf;

pub use action::{Action, Scope};
pub use dialog::Dialog;
pub use key::{Code, Key};
pub use keymap::{Keymap, Resolution, reference as key_reference};
pub use message::{Effect, Message, Mouse, Target};
pub use search::{Search, SearchMode};
pub use update::update;

/// The screens, in the order of the tab bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Screen {
    /// Recipes of the folder: validity, source, problems, preview.
    Recipes,
    /// Tensors of the model and what they become elsewhere.
    Mapping,
    /// Ranks, groups, stages, memory.
    Layout,
    /// The watched run.
    Train,
    /// All runs.
    Runs,
    /// The watched run's console.
    Logs,
}

impl Screen {
    /// Every screen, in the order of the tab bar.
    pub const ALL: [Self; 6] = [
        Self::Recipes,
        Self::Mapping,
        Self::Layout,
        Self::Train,
        Self::Runs,
        Self::Logs,
    ];

    /// The name on the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Recipes => "Recipes",
            Self::Mapping => "Mapping",
            Self::Layout => "Layout",
            Self::Train => "Train",
            Self::Runs => "Runs",
            Self::Logs => "Logs",
        }
    }

    /// The action that goes there.
    pub fn action(self) -> Action {
        match self {
            Self::Recipes => Action::GoRecipes,
            Self::Mapping => Action::GoMapping,
            Self::Layout => Action::GoLayout,
            Self::Train => Action::GoTrain,
            Self::Runs => Action::GoRuns,
            Self::Logs => Action::GoLogs,
        }
    }
}

/// Columns and rows of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Which background the colours are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Light text on dark.
    #[default]
    Dark,
    /// Dark text on light.
    Light,
}

/// How much a short message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something was done.
    Good,
    /// The user may want to know.
    Neutral,
    /// Something did not work.
    Bad,
}

/// A short message in the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toast {
    /// What it says.
    pub text: String,
    /// How much it matters.
    pub tone: Tone,
    /// When it goes, on the clock of [`Message::Tick`].
    pub until_ms: u64,
}

/// Everything the workbench knows.
#[derive(Debug)]
pub struct State {
    /// The screen shown.
    pub screen: Screen,
    /// The terminal's size.
    pub size: Size,
    /// Which background the colours are made for.
    pub background: Background,
    /// Whether the terminal tells us the mouse; if not, it selects text with it.
    pub mouse: bool,
    /// Whether the focused pane has the whole screen.
    pub maximised: bool,
    /// Which keys mean what.
    pub keymap: Keymap,
    /// Keys of a chord that is not complete.
    pub pending: Vec<Key>,
    /// Boxes over the screen, the topmost last.
    pub dialogs: Vec<Dialog>,
    /// The search box of the status line, while it is open.
    pub search: Option<Search>,
    /// A short message in the status line.
    pub toast: Option<Toast>,
    /// Monotonic milliseconds of the last tick.
    pub now_ms: u64,
    /// Milliseconds since the Unix epoch of the last tick.
    pub wall_ms: i64,
    /// Where runs lie.
    pub runs_folder: PathBuf,
    /// The Recipes screen.
    pub recipes: recipes::State,
    /// The Mapping screen.
    pub mapping: mapping::State,
    /// The Layout screen.
    pub layout: layout::State,
    /// The Train screen.
    pub train: train::State,
    /// The Runs screen.
    pub runs: runs::State,
    /// The Logs screen.
    pub logs: logs::State,
    /// Whether the screen differs from what was drawn; the runtime draws and clears it.
    pub dirty: bool,
}

impl State {
    /// The state at the start, before anything was read.
    pub fn new(recipes: PathBuf, runs: PathBuf, keymap: Keymap) -> Self {
        Self {
            screen: Screen::Recipes,
            size: Size::default(),
            background: Background::Dark,
            mouse: true,
            maximised: false,
            keymap,
            pending: Vec::new(),
            dialogs: Vec::new(),
            search: None,
            toast: None,
            now_ms: 0,
            wall_ms: 0,
            runs_folder: runs,
            recipes: recipes::State::new(recipes),
            mapping: mapping::State::default(),
            layout: layout::State::default(),
            train: train::State::default(),
            runs: runs::State::default(),
            logs: logs::State::default(),
            dirty: true,
        }
    }

    /// Shows a short message for four seconds.
    pub fn say(&mut self, tone: Tone, text: impl Into<String>) {
        self.toast = Some(Toast {
            text: text.into(),
            tone,
            until_ms: self.now_ms + 4000,
        });
        self.dirty = true;
    }

    /// The first resolved recipe that is valid for the selected entry: what Mapping, Layout and the preview show.
    pub fn selected_recipe(&self) -> Option<&recipes::Revision> {
        self.recipes.selected()?.good.as_ref()
    }

    /// Rows that a half page moves by on this terminal.
    pub fn half_page(&self) -> usize {
        (usize::from(self.size.height) / 2).max(1)
    }

    /// Whether a second's passing changes the screen or the state: then the runtime sends ticks.
    pub fn needs_ticks(&self) -> bool {
        self.toast.is_some() || self.train.needs_ticks() || self.runs.needs_ticks()
    }
}
