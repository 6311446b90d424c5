//! The Train screen.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::State;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let run = state.train.run.as_ref().map_or_else(
        || "no run is watched; launch a recipe or open a run".to_owned(),
        |run| run.display().to_string(),
    );
    let inner = canvas.pane(area, 0, true, "Train", "");
    canvas.line(inner, 0, run);
}

/// The right end of the tab bar.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let name = state.train.run.as_ref().and_then(|run| run.file_name());
    Line::from(Span::styled(
        name.map_or_else(Default::default, |n| n.to_string_lossy()),
        theme.dim,
    ))
}
