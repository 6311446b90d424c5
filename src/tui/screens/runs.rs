//! The Runs screen.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::State;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let inner = canvas.pane(area, 0, true, "Runs", "");
    for (row, run) in state.runs.runs.iter().enumerate() {
        canvas.line(inner, row as u16, run.display().to_string());
    }
}

/// The right end of the tab bar.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    Line::from(Span::styled(
        format!("{} runs", state.runs.runs.len()),
        theme.dim,
    ))
}
