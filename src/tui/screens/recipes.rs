//! The Recipes screen: list, source with problems at their span, problems, preview.

mod source;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{Room, room};
use crate::app::recipes::{Entry, Pane, Row};
use crate::app::{State, Target, list};
use crate::base::Severity;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let focus = state.recipes.focus;
    match room(state) {
        Room::One => pane(state, canvas, area, focus),
        Room::Two => {
            let [left, right] =
                Layout::horizontal([Constraint::Length(area.width / 3), Constraint::Fill(1)])
                    .areas(area);
            pane(state, canvas, left, Pane::List);
            let side = if focus == Pane::List {
                Pane::Source
            } else {
                focus
            };
            if side == Pane::Source {
                let tall = problems_height(state).min(area.height / 3);
                let [top, bottom] =
                    Layout::vertical([Constraint::Fill(1), Constraint::Length(tall)]).areas(right);
                pane(state, canvas, top, Pane::Source);
                let last = if problems(state) == 0 {
                    Pane::Preview
                } else {
                    Pane::Problems
                };
                pane(state, canvas, bottom, last);
            } else {
                pane(state, canvas, right, side);
            }
        }
        Room::Many => {
            let width = (area.width / 4).clamp(30, 44);
            let [left, right] =
                Layout::horizontal([Constraint::Length(width), Constraint::Fill(1)]).areas(area);
            pane(state, canvas, left, Pane::List);
            let preview = preview_height(state, right.width);
            let [top, middle, bottom] = Layout::vertical([
                Constraint::Fill(1),
                Constraint::Length(problems_height(state)),
                Constraint::Length(preview),
            ])
            .areas(right);
            pane(state, canvas, top, Pane::Source);
            pane(state, canvas, middle, Pane::Problems);
            pane(state, canvas, bottom, Pane::Preview);
        }
    }
}

fn problems(state: &State) -> usize {
    let checked = state.recipes.selected().and_then(|e| e.checked.as_ref());
    checked.map_or(0, |c| c.problems.len())
}

fn problems_height(state: &State) -> u16 {
    (problems(state) as u16 + 2).clamp(5, 8)
}

fn preview_height(state: &State, width: u16) -> u16 {
    let lines = state.selected_recipe().map_or(1, |good| {
        wrapped(&good.preview.lines(), usize::from(width.saturating_sub(4))).len()
    });
    (lines as u16 + 2).clamp(5, 9)
}

/// Lines cut between words so that each fits into `width`.
fn wrapped(lines: &[String], width: usize) -> Vec<String> {
    let mut out = Vec::new();
    for line in lines {
        let mut row = String::new();
        for word in line.split_inclusive(' ') {
            if !row.is_empty() && row.chars().count() + word.trim_end().chars().count() > width {
                out.push(std::mem::take(&mut row));
            }
            row.push_str(word);
        }
        out.push(row);
    }
    out
}

fn pane(state: &State, canvas: &mut Canvas, area: Rect, pane: Pane) {
    match pane {
        Pane::List => entries(state, canvas, area),
        Pane::Source => source::draw(state, canvas, area),
        Pane::Problems => problem_list(state, canvas, area),
        Pane::Preview => preview(state, canvas, area),
    }
}

/// A number with its noun: `1 error`, `2 errors`.
fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The number of a pane for the mouse.
fn number(pane: Pane) -> usize {
    Pane::ALL.iter().position(|p| *p == pane).unwrap_or(0)
}

/// Glyph and count of a recipe's validity.
fn mark(state: &State, entry: &Entry, theme: &Theme) -> Span<'static> {
    if state.train.is_alive && state.train.recipe() == Some(entry.path.as_path()) {
        return Span::styled("●", theme.running);
    }
    if entry.unreadable.is_some() {
        return Span::styled("✗", theme.error);
    }
    let Some(checked) = &entry.checked else {
        return Span::styled("…", theme.dim);
    };
    match (checked.errors(), checked.warnings()) {
        (0, 0) => Span::styled("✓", theme.ok),
        (0, n) => Span::styled(format!("!{n}"), theme.warning),
        (n, _) => Span::styled(format!("✗{n}"), theme.error),
    }
}

fn entries(state: &State, canvas: &mut Canvas, area: Rect) {
    let recipes = &state.recipes;
    let theme = canvas.theme;
    let focused = recipes.focus == Pane::List;
    let filter = if recipes.query.is_empty() {
        String::new()
    } else {
        format!("/{}", recipes.query.text)
    };
    let shown = recipes.visible().len();
    let title = if shown == recipes.entries.len() {
        format!("Recipes {shown}")
    } else {
        format!("Recipes {shown} of {}", recipes.entries.len())
    };
    let inner = canvas.pane(area, number(Pane::List), focused, title, filter);
    if let Some(problem) = &recipes.problem {
        canvas.line(inner, 0, Span::styled(problem.as_str(), theme.error));
        return;
    }
    let rows = recipes.rows();
    if rows.is_empty() {
        let text = if !recipes.listed {
            "reading..."
        } else if recipes.query.is_empty() {
            "no recipe in this folder"
        } else {
            "no recipe matches"
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    }
    let cursor = rows
        .iter()
        .position(|row| *row == Row::Recipe(recipes.cursor))
        .unwrap_or(0);
    let first = list::offset(cursor, rows.len(), usize::from(inner.height));
    for (y, row) in rows
        .iter()
        .skip(first)
        .take(usize::from(inner.height))
        .enumerate()
    {
        let y = y as u16;
        match row {
            Row::Group(name) => {
                canvas.line(inner, y, Span::styled(format!("▾ {name}"), theme.title));
            }
            Row::Recipe(at) => {
                let entry = &recipes.entries[*at];
                let indent = if entry.group.is_empty() { 0 } else { 2 };
                let sign = if entry.marked { "*" } else { " " };
                let pointer = if *at == recipes.cursor { "▸" } else { " " };
                let name = format!("{}{pointer}{sign}{}", " ".repeat(indent), entry.name);
                let mark = mark(state, entry, theme);
                let width = (mark.width() as u16 + 1).min(inner.width);
                let place = Rect::new(inner.x, inner.y, inner.width - width, inner.height);
                canvas.line(place, y, name);
                let place = Rect::new(inner.right() - width, inner.y, width, inner.height);
                canvas.line(place, y, mark);
                if *at == recipes.cursor {
                    canvas.row_style(
                        inner,
                        y,
                        if focused {
                            theme.selection
                        } else {
                            theme.selection_idle
                        },
                    );
                }
                let line = Rect::new(inner.x, inner.y + y, inner.width, 1);
                canvas.hits.add(line, Target::Row(number(Pane::List), *at));
            }
        }
    }
}

fn problem_list(state: &State, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let recipes = &state.recipes;
    let focused = recipes.focus == Pane::Problems;
    let entry = recipes.selected();
    let checked = entry.and_then(|e| e.checked.as_ref());
    let title = checked.map_or("Problems".to_owned(), |c| {
        match (c.errors(), c.warnings()) {
            (0, 0) => "Problems none".into(),
            (e, 0) => format!("Problems {}", counted(e, "error")),
            (0, w) => format!("Problems {}", counted(w, "warning")),
            (e, w) => format!(
                "Problems {}, {}",
                counted(e, "error"),
                counted(w, "warning")
            ),
        }
    });
    let inner = canvas.pane(
        area,
        number(Pane::Problems),
        focused,
        title,
        "enter line  E editor",
    );
    let (Some(entry), Some(checked)) = (entry, checked) else {
        let why = entry.and_then(|e| e.unreadable.as_deref()).unwrap_or("");
        canvas.line(inner, 0, Span::styled(why, theme.error));
        return;
    };
    let height = usize::from(inner.height);
    let first = list::offset(recipes.problem_cursor, checked.problems.len(), height);
    for (i, problem) in checked.problems.iter().enumerate().skip(first).take(height) {
        let y = (i - first) as u16;
        let (glyph, style) = match problem.severity {
            Severity::Error => ("✗", theme.error),
            Severity::Warning => ("!", theme.warning),
        };
        let place = match entry.place(problem) {
            Some((line, column)) => format!("{line}:{column}"),
            None => problem.place.to_string(),
        };
        let mut spans = vec![
            Span::styled(format!("{glyph} {place:<6} "), style),
            Span::raw(problem.message.as_str()),
        ];
        let mut remedy = String::new();
        if let Some(fix) = &problem.fix {
            remedy = format!("  → {}  [F] fix", fix.title);
        } else if !problem.nearest.is_empty() {
            remedy = format!("  → nearest {}", problem.nearest.join(", "));
        } else if let Some(hint) = &problem.hint {
            remedy = format!("  → {hint}");
        }
        spans.push(Span::styled(remedy, theme.dim));
        canvas.line(inner, y, Line::from(spans));
        if i == recipes.problem_cursor {
            canvas.row_style(
                inner,
                y,
                if focused {
                    theme.selection
                } else {
                    theme.selection_idle
                },
            );
        }
        let row = Rect::new(inner.x, inner.y + y, inner.width, 1);
        canvas.hits.add(row, Target::Row(number(Pane::Problems), i));
    }
}

fn preview(state: &State, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let focused = state.recipes.focus == Pane::Preview;
    let good = state.selected_recipe();
    let title = good.map_or("Preview".to_owned(), |g| {
        format!("Preview (of r{})", g.number)
    });
    let inner = canvas.pane(area, number(Pane::Preview), focused, title, "");
    let Some(good) = good else {
        let checked = state.recipes.selected().and_then(|e| e.checked.as_ref());
        let megatron = checked.and_then(|checked| checked.megatron.as_deref());
        let text = megatron.unwrap_or("no valid revision yet").to_owned();
        for (y, line) in wrapped(&[text], usize::from(inner.width.saturating_sub(1)))
            .iter()
            .enumerate()
        {
            canvas.line(inner, y as u16, Span::styled(line.clone(), theme.dim));
        }
        return;
    };
    let lines = wrapped(
        &good.preview.lines(),
        usize::from(inner.width.saturating_sub(1)),
    );
    for (y, line) in lines.iter().enumerate() {
        canvas.line(inner, y as u16, format!(" {line}"));
    }
}

/// The right end of the tab bar: what was last saved, and which revision counts while there are errors.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let Some(entry) = state.recipes.selected() else {
        return Line::default();
    };
    let mut spans = Vec::new();
    let differ = crate::app::update::recipes::live::differences(state).len();
    if differ > 0 {
        spans.push(Span::styled(
            format!("{differ} live keys differ "),
            theme.warning,
        ));
    }
    if let Some(ms) = state.recipes.saved_ms {
        let seconds = ms.div_euclid(1000).rem_euclid(86_400);
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        spans.push(Span::styled(
            format!("saved {h:02}:{m:02}:{s:02} UTC "),
            theme.dim,
        ));
    }
    let errors = entry
        .checked
        .as_ref()
        .map_or(0, crate::app::recipes::Checked::errors);
    if entry.unreadable.is_some() {
        spans.push(Span::styled("✗ unreadable ", theme.error));
    } else if errors > 0 {
        let text = format!("✗ {} ", counted(errors, "error"));
        spans.push(Span::styled(text, theme.error));
    } else if entry.checked.is_some() {
        spans.push(Span::styled("✓ valid ", theme.ok));
    }
    if let Some(good) = &entry.good {
        if entry.is_stale() {
            spans.push(Span::styled(
                format!("r{} still active ", good.number),
                theme.warning,
            ));
        } else {
            spans.push(Span::styled(format!("r{} ", good.number), theme.dim));
        }
    }
    Line::from(spans)
}
