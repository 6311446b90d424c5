//! Problems with code, numbers and fixes, and the rules that hold.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::layout::{Pane, View};
use crate::app::{State, Target, list};
use crate::base::Severity;
use crate::plan::Problem;
use crate::recipe;
use crate::tui::canvas::Canvas;
use crate::tui::widgets::wrap;

pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, view: &View) {
    let theme = canvas.theme;
    let focused = state.layout.focus == Pane::Problems;
    let problems = &view.problems;
    let rows = problems.len() + view.held.len();
    let title = match problems.len() {
        0 => "Rules checked".to_owned(),
        n => format!("Problems {n}"),
    };
    let right = format!("{} hold", view.held.len());
    let inner = canvas.pane(area, Pane::Problems as usize, focused, title, right);
    let cursor = state.layout.problem.min(rows.saturating_sub(1));
    // The problem under the cursor stands below in full.
    let mut below: Vec<(String, bool)> = problems.get(cursor).map_or_else(Vec::new, |problem| {
        detail(problem, usize::from(inner.width))
    });
    below.truncate(usize::from(inner.height) * 2 / 3);
    let height = usize::from(inner.height) - below.len();
    for (i, (line, is_fix)) in below.into_iter().enumerate() {
        let style = if is_fix { theme.accent } else { theme.dim };
        let line = Span::styled(format!(" {line}"), style);
        canvas.line(inner, (height + i) as u16, line);
    }
    let first = list::offset(cursor, rows, height);
    for at in (first..rows).take(height) {
        let y = (at - first) as u16;
        let spans = match problems.get(at) {
            Some(problem) => {
                let (glyph, style) = match problem.severity {
                    Severity::Error => (" ✗ ", theme.error),
                    Severity::Warning => (" ! ", theme.warning),
                };
                vec![
                    Span::styled(glyph, style),
                    Span::styled(format!("{} ", problem.code), theme.title),
                    Span::raw(problem.message.as_str()),
                ]
            }
            None => vec![
                Span::styled(" ✓ ", theme.ok),
                Span::raw(view.held[at - problems.len()].as_str()),
            ],
        };
        canvas.line(inner, y, Line::from(spans));
        if at == cursor && focused {
            canvas.row_style(inner, y, theme.selection);
        }
        let row = Rect::new(inner.x, inner.y + y, inner.width, 1);
        canvas
            .hits
            .add(row, Target::Row(Pane::Problems as usize, at));
    }
}

/// The message, the two numbers and every fix, in lines; fixes are marked.
fn detail(problem: &Problem, width: usize) -> Vec<(String, bool)> {
    let width = width.saturating_sub(2);
    let mut lines: Vec<(String, bool)> = wrap(&problem.message, width)
        .into_iter()
        .map(|line| (line, false))
        .collect();
    let [(one, a), (other, b)] = &problem.numbers;
    lines.push((format!("{one} = {a}, {other} = {b}"), false));
    for fix in &problem.fixes {
        let text = format!("fix: {}", recipe::change(fix));
        lines.extend(wrap(&text, width).into_iter().map(|line| (line, true)));
    }
    lines
}
