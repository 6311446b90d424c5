//! The Logs screen.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::logs::Level;
use crate::app::{State, Target, list};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::number::grouped;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let logs = &state.logs;
    let theme = canvas.theme;
    let found = if logs.query.is_empty() {
        String::new()
    } else {
        format!("/{}", logs.query.text)
    };
    let inner = canvas.pane(area, 0, true, "Console", found);
    if state.train.run.is_none() {
        canvas.line(
            inner,
            0,
            Span::styled(
                "no run is watched; launch a recipe or open a run",
                theme.dim,
            ),
        );
        return;
    }
    if logs.shown.is_empty() {
        let text = if logs.lines.is_empty() {
            "the trainer has printed nothing yet"
        } else {
            "no line of this level; w shows more"
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    }
    let height = usize::from(inner.height);
    let first = list::offset(logs.cursor, logs.shown.len(), height);
    for (row, index) in (first..logs.shown.len()).take(height).enumerate() {
        let Some(line) = logs.line(index) else { break };
        let style = match line.level {
            Level::All => theme.text,
            Level::Warning => theme.warning,
            Level::Error => theme.error,
        };
        let is_match = !logs.query.is_empty() && logs.query.is_match(&line.text);
        let mark = if is_match { "▸" } else { " " };
        let row = row as u16;
        canvas.line(
            inner,
            row,
            Line::from(vec![
                Span::styled(mark, theme.accent),
                Span::styled(line.text.as_str(), style),
            ]),
        );
        if index == logs.cursor {
            canvas.row_style(inner, row, theme.selection);
        }
        let place = Rect::new(inner.x, inner.y + row, inner.width, 1);
        canvas.hits.add(place, Target::Row(0, index));
    }
}

/// The right end of the tab bar.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let logs = &state.logs;
    let lines = grouped((logs.lines.len() + logs.dropped) as u64);
    let follow = if logs.follow { "on" } else { "off" };
    Line::from(Span::styled(
        format!(
            "{} · {lines} lines · follow {follow} · level {}",
            state.train.info.id,
            logs.level.name()
        ),
        theme.dim,
    ))
}
