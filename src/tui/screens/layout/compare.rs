//! The marked layout beside the present one, number by number.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::layout::{Pane, Unit, View, compare};
use crate::app::{Action, State};
use crate::tui::canvas::Canvas;

/// What is better when it is smaller, as all numbers are but these.
const MORE_IS_BETTER: [&str; 1] = ["TFLOP/s a GPU"];
/// Numbers that are neither good nor bad.
const NEUTRAL: [&str; 2] = ["GPUs", "micro-batches"];

pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, view: &View) {
    let theme = canvas.theme;
    let focused = state.layout.focus == Pane::Compare;
    let mark = state.layout.mark.as_ref();
    let right = mark.map_or("", |mark| mark.recipe.as_str());
    let inner = canvas.pane(
        area,
        Pane::Compare as usize,
        focused,
        "Marked layout and this one",
        right,
    );
    let Some(mark) = mark else {
        let key = state.keymap.key(Action::MarkLayout);
        let text = format!(" {key} marks this layout; what you change then is compared with it");
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    };
    let now = &view.figures;
    let wide = usize::from(inner.width);
    let name = if wide >= 64 { 26 } else { 16 };
    let mut lines = vec![
        Line::from(vec![
            Span::styled(" marked  ", theme.title),
            Span::raw(mark.figures.degrees.clone()),
        ]),
        Line::styled(format!("         {}", mark.figures.setup), theme.dim),
        Line::from(vec![
            Span::styled(" now     ", theme.title),
            Span::raw(now.degrees.clone()),
        ]),
        Line::styled(format!("         {}", now.setup), theme.dim),
        Line::styled(
            format!(
                " {:<name$}{:>11}{:>11}{:>12}",
                "", "marked", "now", "difference"
            ),
            theme.title,
        ),
    ];
    for row in compare(&mark.figures, now) {
        let text = |value: Option<f64>| value.map_or("-".to_owned(), |v| row.unit.text(v));
        let short: String = row.name.chars().take(name).collect();
        let by = match (row.marked, row.now) {
            (Some(marked), Some(now)) => now - marked,
            // What is not there takes nothing.
            (None, Some(now)) if row.unit == Unit::Bytes => now,
            (Some(marked), None) if row.unit == Unit::Bytes => -marked,
            _ => 0.0,
        };
        let difference = row.unit.difference(by);
        let better = if MORE_IS_BETTER.contains(&row.name.as_str()) {
            by > 0.0
        } else {
            by < 0.0
        };
        let style = if difference == "=" || NEUTRAL.contains(&row.name.as_str()) {
            theme.dim
        } else if better {
            theme.ok
        } else {
            theme.warning
        };
        lines.push(Line::from(vec![
            Span::raw(format!(
                " {short:<name$}{:>11}{:>11}",
                text(row.marked),
                text(row.now)
            )),
            Span::styled(format!("{difference:>12}"), style),
        ]));
    }
    let last = lines.len().saturating_sub(usize::from(inner.height));
    let first = state.layout.compare.min(last);
    for (y, line) in lines.into_iter().skip(first).enumerate() {
        canvas.line(inner, y as u16, line);
    }
}
