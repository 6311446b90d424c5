//! The screens: each draws its part of the state and says what stands at the right end of the tab bar.

mod layout;
mod logs;
mod mapping;
mod recipes;
mod runs;
mod train;

use ratatui::layout::Rect;
use ratatui::text::Line;

use super::canvas::Canvas;
use super::theme::Theme;
use crate::app::{Screen, State};

/// How much room a screen has, which decides how many panes stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Below 60x16: only the focused pane.
    One,
    /// Below 100x30: side panes become tabs.
    Two,
    /// Everything.
    Many,
}

/// The room of the terminal's size.
pub fn room(state: &State) -> Room {
    let size = state.size;
    if state.maximised || size.width < 60 || size.height < 16 {
        Room::One
    } else if size.width < 100 || size.height < 30 {
        Room::Two
    } else {
        Room::Many
    }
}

/// Draws the present screen.
pub fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    match state.screen {
        Screen::Recipes => recipes::draw(state, canvas, area),
        Screen::Mapping => mapping::draw(state, canvas, area),
        Screen::Layout => layout::draw(state, canvas, area),
        Screen::Train => train::draw(state, canvas, area),
        Screen::Runs => runs::draw(state, canvas, area),
        Screen::Logs => logs::draw(state, canvas, area),
    }
}

/// What stands at the right end of the tab bar.
pub fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    match state.screen {
        Screen::Recipes => recipes::status(state, theme),
        Screen::Mapping => mapping::status(state, theme),
        Screen::Layout => layout::status(state, theme),
        Screen::Train => train::status(state, theme),
        Screen::Runs => runs::status(state, theme),
        Screen::Logs => logs::status(state, theme),
    }
}
