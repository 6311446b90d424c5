//! The layouts that no other beats in memory and time, and why others were rejected.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::layout::{Pane, View, degrees_line, seconds};
use crate::app::{Action, State, Target, list};
use crate::plan::{Candidate, recompute_name};
use crate::tui::canvas::Canvas;

pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, _view: &View) {
    let theme = canvas.theme;
    let screen = &state.layout;
    let focused = screen.focus == Pane::Fit;
    let found = screen.found.as_ref();
    let title = match found {
        Some((search, _)) => format!("Layouts for {} {}", search.gpus, search.machine.name),
        None => "Layouts that fit".to_owned(),
    };
    let right = match (&screen.searching, found) {
        (Some(_), _) => "searching…".to_owned(),
        (None, Some((_, found))) => format!("{} tried, {} fit", found.tried, found.fitting),
        (None, None) => String::new(),
    };
    let inner = canvas.pane(area, Pane::Fit as usize, focused, title, right);
    let Some((_, found)) = found else {
        let key = state.keymap.key(Action::FitLayouts);
        let text = match &screen.searching {
            Some(_) => " searching…".to_owned(),
            None => format!(" {key} searches for the layouts that would do best on these GPUs"),
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    };
    let rejected: Vec<String> = found
        .rejected
        .iter()
        .map(|r| match r.needs {
            Some(needs) => format!("✗ {} {}: at least {needs}", r.count, r.code),
            None => format!("✗ {} {}: {}", r.count, r.code, r.message),
        })
        .collect();
    let rows = found.best.len();
    let most = usize::from(inner.height);
    // Reasons have the room that layouts leave, and a third of it at least.
    let reasons = rejected
        .len()
        .min(most.saturating_sub(rows + 1).max(most / 3));
    let height = most.saturating_sub(reasons);
    if rows == 0 {
        let text = " no layout starts and fits; reasons:";
        canvas.line(inner, 0, Span::styled(text, theme.warning));
    }
    let cursor = screen.candidate.min(rows.saturating_sub(1));
    let first = list::offset(cursor, rows, height);
    for (at, one) in found.best.iter().enumerate().skip(first).take(height) {
        let y = (at - first) as u16;
        canvas.line(inner, y, candidate(one));
        if at == cursor && focused {
            canvas.row_style(inner, y, theme.selection);
        }
        let place = Rect::new(inner.x, inner.y + y, inner.width, 1);
        canvas.hits.add(place, Target::Row(Pane::Fit as usize, at));
    }
    for (i, reason) in rejected.into_iter().take(reasons).enumerate() {
        let line = Span::styled(format!(" {reason}"), theme.dim);
        canvas.line(inner, (height + i) as u16, line);
    }
}

fn candidate(one: &Candidate) -> Line<'static> {
    let layout = one
        .pipeline_layout
        .as_ref()
        .map_or(String::new(), |layout| format!("  {layout}"));
    Line::raw(format!(
        " {:>8} {:>9}  {}  mb {} {}{layout}",
        seconds(one.time.seconds),
        one.memory.to_string(),
        degrees_line(&one.degrees),
        one.micro_batch_size,
        recompute_name(&one.recompute),
    ))
}
