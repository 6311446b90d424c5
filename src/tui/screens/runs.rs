//! The Runs screen: a table, curves of the compared runs over each other, keys that differ.

use std::fmt::Write as _;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::train::status_words;
use super::{Room, room};
use crate::app::runs::Pane;
use crate::app::{State, Target, list};
use crate::run::{RunDirectory, Summary};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::chart::{Chart, Drawing, Series, nearest};
use crate::tui::widgets::number::{Unit, duration, grouped, short};

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let focus = state.runs.focus;
    let jobs = state.runs.runs.iter().filter(|(_, s)| s.launched.is_some());
    let rows = (state.runs.runs.len() as u16 + 3 + u16::from(jobs.count() > 0))
        .clamp(6, (area.height / 2).max(6));
    match room(state) {
        Room::One => pane(state, canvas, area, focus),
        Room::Two => {
            let [top, bottom] = Layout::vertical([
                Constraint::Length(rows.min(area.height / 2)),
                Constraint::Fill(1),
            ])
            .areas(area);
            pane(state, canvas, top, Pane::Table);
            pane(
                state,
                canvas,
                bottom,
                if focus == Pane::Config {
                    Pane::Config
                } else {
                    Pane::Overlay
                },
            );
        }
        Room::Many => {
            let [top, bottom] =
                Layout::vertical([Constraint::Length(rows), Constraint::Fill(1)]).areas(area);
            let [left, right] =
                Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(bottom);
            pane(state, canvas, top, Pane::Table);
            pane(state, canvas, left, Pane::Overlay);
            pane(state, canvas, right, Pane::Config);
        }
    }
}

fn number(pane: Pane) -> usize {
    Pane::ALL.iter().position(|p| *p == pane).unwrap_or(0)
}

fn pane(state: &State, canvas: &mut Canvas, area: Rect, which: Pane) {
    match which {
        Pane::Table => table(state, canvas, area),
        Pane::Overlay => overlay(state, canvas, area),
        Pane::Config => config(state, canvas, area),
    }
}

/// The columns after id, recipe and status: heading, width, and what a run has there.
type Column = (
    &'static str,
    usize,
    fn(&State, &RunDirectory, &Summary) -> String,
);

const COLUMNS: [Column; 10] = [
    ("step", 13, |_, _, s| {
        format!("{}/{}", s.step, s.total_steps)
    }),
    ("loss", 7, |_, _, s| {
        number_or_dash(s.loss_smoothed, Unit::Plain)
    }),
    ("Δ vs ★", 7, |state, run, s| {
        let baseline = state.runs.baseline.as_ref() != Some(&run.path);
        let other = state
            .runs
            .baseline_summary()
            .filter(|_| baseline)
            .and_then(|b| b.loss_smoothed);
        match (s.loss_smoothed, other) {
            (Some(loss), Some(other)) => format!("{:+.3}", loss - other),
            _ => "-".into(),
        }
    }),
    ("eval", 7, |_, _, s| {
        number_or_dash(s.eval_loss, Unit::Plain)
    }),
    ("tokens", 7, |_, _, s| short(s.tokens as f64, Unit::Count)),
    ("tok/s", 7, |_, _, s| {
        number_or_dash(s.tokens_per_second, Unit::Count)
    }),
    ("peak", 9, |_, _, s| short(s.peak as f64, Unit::Bytes)),
    ("mtp", 3, |_, _, s| s.mtp_depth.to_string()),
    ("age", 7, |state, run, _| {
        duration((state.wall_ms - run.info.created_ms).max(0) as f64 / 1000.0)
    }),
    ("tags", 16, |_, run, _| {
        run.info.tags.join(" ").chars().take(16).collect()
    }),
];

fn number_or_dash(value: Option<f64>, unit: Unit) -> String {
    value.map_or_else(|| "-".into(), |v| short(v, unit))
}

fn table(state: &State, canvas: &mut Canvas, area: Rect) {
    let runs = &state.runs;
    let theme = canvas.theme;
    let rows = runs.rows();
    let title = if rows.len() == runs.runs.len() {
        format!("Runs {}", rows.len())
    } else {
        format!(
            "Runs {} of {}  /{}",
            rows.len(),
            runs.runs.len(),
            runs.query.text
        )
    };
    let right = format!("sort: {} (left/right)", runs.order.name());
    let focused = runs.focus == Pane::Table;
    let inner = canvas.pane(area, number(Pane::Table), focused, title, right);
    if rows.is_empty() {
        let text = match (runs.is_listed, runs.runs.is_empty()) {
            (false, _) => "reading the runs",
            (true, true) => "no run yet: launch a recipe with enter on the Recipes screen",
            (true, false) => "no run matches",
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    }
    let widest = rows
        .iter()
        .map(|&i| runs.runs[i].0.id().chars().count())
        .max()
        .unwrap_or(3);
    let id_width = widest.clamp(3, usize::from(inner.width / 3).max(3));
    let mut heading = format!("    {:id_width$} {:<9}", "run", "status");
    let fitting = fitting(inner.width, id_width);
    for (name, width, _) in &COLUMNS[..fitting] {
        let _ = write!(heading, " {name:>width$}");
    }
    canvas.line(inner, 0, Span::styled(heading, theme.dim));
    let mut body = Rect::new(
        inner.x,
        inner.y + 1,
        inner.width,
        inner.height.saturating_sub(1),
    );
    // What its queue says of the run under the cursor, below the table.
    if let Some(job) = runs.job().filter(|_| body.height > 1) {
        body.height -= 1;
        let keys = if job.is_over() {
            "R submits it again"
        } else {
            "S stops it"
        };
        let line = format!("    {}; {keys}", job.words());
        canvas.line(inner, body.height + 1, Span::styled(line, theme.dim));
    }
    let first = list::offset(runs.cursor, rows.len(), usize::from(body.height));
    for (at, &i) in rows
        .iter()
        .enumerate()
        .skip(first)
        .take(usize::from(body.height))
    {
        let (run, summary) = &runs.runs[i];
        let row = (at - first) as u16;
        let (glyph, word, style) = status_words(&summary.status, theme);
        let star = if runs.baseline.as_ref() == Some(&run.path) {
            "★"
        } else {
            " "
        };
        let mark = if runs.marked.contains(&run.path) {
            "●"
        } else {
            " "
        };
        let id: String = run.id().chars().take(id_width).collect();
        let mut spans = vec![
            Span::styled(format!(" {star}{mark} "), theme.accent),
            Span::styled(format!("{id:id_width$}"), theme.text),
            Span::styled(format!(" {glyph} {word:<7}"), style),
        ];
        for (_, width, value) in &COLUMNS[..fitting] {
            spans.push(Span::raw(format!(
                " {:>width$}",
                value(state, run, summary)
            )));
        }
        canvas.line(body, row, Line::from(spans));
        if at == runs.cursor {
            let style = if focused {
                theme.selection
            } else {
                theme.selection_idle
            };
            canvas.row_style(body, row, style);
        }
        let place = Rect::new(body.x, body.y + row, body.width, 1);
        canvas.hits.add(place, Target::Row(number(Pane::Table), at));
    }
}

/// How many columns fit beside an id of this width.
fn fitting(width: u16, id_width: usize) -> usize {
    let mut left = usize::from(width).saturating_sub(id_width + 14);
    COLUMNS
        .iter()
        .take_while(|(_, width, _)| {
            let fits = *width < left;
            left = left.saturating_sub(width + 1);
            fits
        })
        .count()
}

fn style_of(index: usize, theme: &Theme) -> Style {
    theme.series[index % theme.series.len()]
}

fn overlay(state: &State, canvas: &mut Canvas, area: Rect) {
    let runs = &state.runs;
    let theme = canvas.theme;
    let compared = runs.compared();
    let series: Vec<Series> = compared
        .iter()
        .enumerate()
        .filter_map(|(i, (run, _))| {
            Some(Series {
                table: &runs.details.get(&run.path)?.history.train,
                metric: runs.metric,
                style: style_of(i, theme),
                drawing: Drawing::Plain,
            })
        })
        .collect();
    let title = runs.view.title(&format!("overlay {}", runs.metric));
    let title = title.trim_end_matches(" + band").to_owned();
    let mut names = vec![];
    for (i, (run, _)) in compared.iter().enumerate() {
        names.push(Span::styled(format!("─ {} ", run.id()), style_of(i, theme)));
    }
    let focused = runs.focus == Pane::Overlay;
    let inner = canvas.pane(area, number(Pane::Overlay), focused, title, "");
    canvas.line(inner, 0, Line::from(names));
    let text_rows = u16::from(inner.height > 6);
    let plot = Rect::new(
        inner.x,
        inner.y + 1,
        inner.width,
        inner.height.saturating_sub(1 + text_rows),
    );
    if series.is_empty() {
        let text = if runs.reading.is_empty() {
            "mark runs with space"
        } else {
            "reading"
        };
        canvas.line(plot, 0, Span::styled(text, theme.dim));
        return;
    }
    let chart = Chart {
        series,
        view: &runs.view,
        range: runs.range(),
        unit: Unit::Plain,
        marks: &[],
        readout: false,
    };
    chart.draw(canvas, plot);
    if text_rows == 1 {
        let line = at_cursor(state, theme);
        canvas.line(inner, inner.height - 1, line);
    }
}

/// The compared values at the cursor, or where the shortest run ends, with the distance to the first.
fn at_cursor(state: &State, theme: &Theme) -> Line<'static> {
    let runs = &state.runs;
    let compared = runs.compared();
    let tables: Vec<_> = compared
        .iter()
        .enumerate()
        .filter_map(|(i, (run, _))| {
            Some((i, run.id(), &runs.details.get(&run.path)?.history.train))
        })
        .filter(|(_, _, table)| table.rows() > 0)
        .collect();
    let ends = tables
        .iter()
        .filter_map(|(_, _, table)| Some(table.x_range(runs.view.axis)?.1));
    let x = runs
        .view
        .cursor
        .unwrap_or_else(|| ends.fold(f64::INFINITY, f64::min));
    let mut spans = vec![Span::styled(
        format!(" at {}: ", short(x, Unit::Count)),
        theme.dim,
    )];
    let mut first = None;
    for (i, id, table) in tables {
        let row = nearest(table, runs.view.axis, x);
        let Some(value) = table.fold_smoothed(runs.metric, row..row + 1).mean() else {
            continue;
        };
        let distance = first.map_or_else(String::new, |f: f64| format!(" ({:+.3})", value - f));
        first.get_or_insert(value);
        spans.push(Span::styled(format!("{id} "), style_of(i, theme)));
        spans.push(Span::raw(format!(
            "{}{distance}  ",
            short(value, Unit::Plain)
        )));
    }
    Line::from(spans)
}

fn config(state: &State, canvas: &mut Canvas, area: Rect) {
    let runs = &state.runs;
    let theme = canvas.theme;
    let compared = runs.compared();
    let which = if runs.differing {
        "keys that differ"
    } else {
        "all keys"
    };
    let right = format!("{} runs", compared.len());
    let focused = runs.focus == Pane::Config;
    let inner = canvas.pane(
        area,
        number(Pane::Config),
        focused,
        format!("config: {which}"),
        right,
    );
    let keys = runs.keys();
    if keys.is_empty() {
        let text = match (compared.len(), runs.reading.is_empty()) {
            (_, false) => "reading",
            (0 | 1, _) => "mark two runs with space",
            _ => "the recipes are equal; d shows all keys",
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    }
    let widest = keys
        .iter()
        .map(|(key, _)| key.chars().count())
        .max()
        .unwrap_or(0);
    let key_width = widest.min(usize::from(inner.width) / 2);
    let column = (usize::from(inner.width).saturating_sub(key_width + 1) / compared.len().max(1))
        .saturating_sub(1);
    let cut = |text: &str| -> String { text.chars().take(column).collect() };
    let mut heading = vec![Span::styled(format!(" {:key_width$}", "key"), theme.dim)];
    for (i, (run, _)) in compared.iter().enumerate() {
        heading.push(Span::styled(
            format!(" {:<column$}", cut(run.id())),
            style_of(i, theme),
        ));
    }
    canvas.line(inner, 0, Line::from(heading));
    let body = usize::from(inner.height.saturating_sub(1));
    let first = runs.scroll.min(keys.len().saturating_sub(body));
    for (row, (key, values)) in keys.iter().skip(first).take(body).enumerate() {
        let key: String = key.chars().take(key_width).collect();
        let mut spans = vec![Span::raw(format!(" {key:key_width$}"))];
        for (i, value) in values.iter().enumerate() {
            let differs = i > 0 && *value != values[0];
            let style = if differs { theme.warning } else { theme.text };
            spans.push(Span::styled(
                format!(" {:<column$}", cut(value.unwrap_or("-"))),
                style,
            ));
        }
        canvas.line(inner, row as u16 + 1, Line::from(spans));
    }
}

/// The right end of the tab bar.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let runs = &state.runs;
    let live = runs.runs.iter().filter(|(_, s)| s.status.is_live()).count();
    let mut text = format!("{} runs", grouped(runs.runs.len() as u64));
    if live > 0 {
        let _ = write!(text, " · {live} running");
    }
    if !runs.marked.is_empty() {
        let _ = write!(text, " · {} marked", runs.marked.len());
    }
    Line::from(Span::styled(text, theme.dim))
}
