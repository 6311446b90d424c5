//! The Logs screen.

use std::fmt::Write as _;

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::logs::Level;
use crate::app::{State, Target, list};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::number::{Unit, short};

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
    if logs.entries.is_empty() {
        let text = match (logs.is_waiting, logs.size) {
            (true, _) => "reading",
            (false, 0) => "the trainer has printed nothing yet",
            (false, _) => "no line of this level and rank; w and r show more",
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    }
    let height = usize::from(inner.height);
    let first = list::offset(logs.cursor, logs.entries.len(), height);
    for (row, index) in (first..logs.entries.len()).take(height).enumerate() {
        let Some(entry) = logs.entry(index) else {
            break;
        };
        let line = &entry.line;
        let style = match line.level {
            Level::All => theme.text,
            Level::Warning => theme.warning,
            Level::Error => theme.error,
        };
        let is_match = !logs.query.is_empty() && logs.query.is_match(&line.text);
        let mark = if is_match { "▸" } else { " " };
        let row = row as u16;
        let mut spans = vec![Span::styled(mark, theme.accent)];
        if entry.count > 1 {
            spans.push(Span::styled(format!("×{} ", entry.count), theme.accent));
        }
        spans.push(Span::styled(line.text.as_str(), style));
        canvas.line(inner, row, Line::from(spans));
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
    let follow = if logs.follow { "on" } else { "off" };
    let mut text = format!("{} · ", state.train.info.id);
    if let Some(line) = logs.line(logs.cursor).filter(|_| logs.size > 0) {
        let share = 100.0 * line.end as f64 / logs.size as f64;
        let _ = write!(text, "{:.0} % of ", share.min(100.0));
    }
    text += &short(logs.size as f64, Unit::Bytes);
    if let Some(rank) = logs.filter.rank {
        let _ = write!(text, " · rank {rank}");
    }
    let level = logs.filter.level.name();
    let _ = write!(text, " · level {level} · follow {follow}");
    Line::from(Span::styled(text, theme.dim))
}
