//! The source pane: lines with numbers, problems at their span, base values at the right.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::number;
use crate::app::recipes::{Checked, Entry, Pane};
use crate::app::{State, Target, list};
use crate::base::{Diagnostic, LineColumn, Place, Severity};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// A drawn row: a line of the file, or the caret line under it.
enum Row<'a> {
    Text(usize, &'a str),
    Caret(&'a Diagnostic, LineColumn),
}

pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let focused = state.recipes.focus == Pane::Source;
    let Some(entry) = state.recipes.selected() else {
        canvas.pane(area, number(Pane::Source), focused, "Source", "");
        return;
    };
    let summary = entry.checked.as_ref().map_or("", |c| &c.summary);
    let inner = canvas.pane(
        area,
        number(Pane::Source),
        focused,
        entry.name.as_str(),
        summary,
    );
    if let Some(why) = &entry.unreadable {
        canvas.line(inner, 0, Span::styled(why.as_str(), theme.error));
        return;
    }
    let Some(checked) = &entry.checked else {
        canvas.line(inner, 0, Span::styled("reading...", theme.dim));
        return;
    };
    let rows = rows(entry, checked);
    let cursor = rows
        .iter()
        .position(|row| matches!(row, Row::Text(n, _) if *n == state.recipes.line))
        .unwrap_or(0);
    let height = usize::from(inner.height);
    let first = list::offset(cursor, rows.len(), height);
    for (y, row) in rows.iter().skip(first).take(height).enumerate() {
        let y = y as u16;
        match row {
            Row::Text(number_of_line, text) => {
                text_row(entry, checked, canvas, inner, y, *number_of_line, text);
                if *number_of_line == state.recipes.line {
                    let style = if focused {
                        theme.selection
                    } else {
                        theme.selection_idle
                    };
                    canvas.row_style(inner, y, style);
                }
                let place = Rect::new(inner.x, inner.y + y, inner.width, 1);
                canvas
                    .hits
                    .add(place, Target::Row(number(Pane::Source), *number_of_line));
            }
            Row::Caret(problem, at) => caret_row(canvas, inner, y, problem, *at, checked),
        }
    }
}

fn rows<'a>(entry: &Entry, checked: &'a Checked) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (i, text) in checked.text.lines().enumerate() {
        rows.push(Row::Text(i + 1, text));
        for problem in &checked.problems {
            if let Some((line, column)) = entry.place(problem)
                && line == i + 1
            {
                rows.push(Row::Caret(problem, LineColumn { line, column }));
            }
        }
    }
    if rows.is_empty() {
        rows.push(Row::Text(1, ""));
    }
    rows
}

fn style_of(problem: &Diagnostic, theme: &Theme) -> ratatui::style::Style {
    match problem.severity {
        Severity::Error => theme.error,
        Severity::Warning => theme.warning,
    }
}

fn text_row(
    entry: &Entry,
    checked: &Checked,
    canvas: &mut Canvas,
    inner: Rect,
    y: u16,
    number: usize,
    text: &str,
) {
    let theme = canvas.theme;
    let problem = checked
        .problems
        .iter()
        .find(|p| entry.place(p).is_some_and(|(line, _)| line == number));
    let sign = match problem {
        Some(problem) => Span::styled("≈", style_of(problem, theme)),
        None => Span::raw(" "),
    };
    let mut spans = vec![sign, Span::styled(format!("{number:>3} "), theme.dim)];
    highlight(text, theme, &mut spans);
    canvas.line(inner, y, Line::from(spans));
    let base = checked.bases.iter().find(|(line, _)| *line == number);
    if let Some((_, value)) = base {
        let note = format!("◂ base {value} ");
        let width = (note.chars().count() as u16).min(inner.width);
        let used = text.chars().count() as u16 + 6;
        if used + width <= inner.width {
            let place = Rect::new(inner.right() - width, inner.y + y, width, 1);
            canvas.line(place, 0, Span::styled(note, theme.accent));
        }
    }
}

/// Colours a line of TOML: headings, keys, comments.
fn highlight<'t>(text: &'t str, theme: &Theme, spans: &mut Vec<Span<'t>>) {
    let trimmed = text.trim_start();
    if trimmed.starts_with('#') {
        spans.push(Span::styled(text, theme.dim));
    } else if trimmed.starts_with('[') {
        spans.push(Span::styled(text, theme.title));
    } else if let Some(at) = text.find('=') {
        spans.push(Span::styled(&text[..at], theme.accent));
        let value = &text[at..];
        // A comment after a value, unless the sign may stand in a string.
        match value.find(" #").filter(|_| !value.contains('"')) {
            Some(comment) => {
                spans.push(Span::styled(&value[..comment], theme.text));
                spans.push(Span::styled(&value[comment..], theme.dim));
            }
            None => spans.push(Span::styled(value, theme.text)),
        }
    } else {
        spans.push(Span::styled(text, theme.text));
    }
}

fn caret_row(
    canvas: &mut Canvas,
    inner: Rect,
    y: u16,
    problem: &Diagnostic,
    at: LineColumn,
    checked: &Checked,
) {
    let style = style_of(problem, canvas.theme);
    let width = match &problem.place {
        Place::File { span, .. } => checked
            .text
            .get(span.clone())
            .map_or(1, |t| t.lines().next().unwrap_or("").chars().count().max(1)),
        _ => 1,
    };
    let glyph = match problem.severity {
        Severity::Error => "✗",
        Severity::Warning => "!",
    };
    let text = format!(
        "     {}{} {}:{} {glyph} {}",
        " ".repeat(at.column.saturating_sub(1)),
        "^".repeat(width.min(60)),
        at.line,
        at.column,
        problem.message
    );
    canvas.line(inner, y, Span::styled(text, style));
}
