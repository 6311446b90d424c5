//! The Layout screen.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::State;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let name = state.recipes.selected().map_or("", |entry| &entry.name);
    let inner = canvas.pane(area, 0, true, "Layout", name);
    let lines = state.selected_recipe().map_or_else(
        || vec!["no valid recipe is selected".to_owned()],
        |good| good.preview.lines(),
    );
    for (row, line) in lines.into_iter().enumerate() {
        canvas.line(inner, row as u16, line);
    }
}

/// The right end of the tab bar.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let name = state.recipes.selected().map_or("", |entry| &entry.name);
    Line::from(Span::styled(name, theme.dim))
}
