//! The Train screen: charts of the watched run, MTP depths, where memory and time go, events.

mod devices;
mod events;
mod memory;
mod numbers;
mod time;

use std::fmt::Write as _;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{Room, room};
use crate::app::State;
use crate::app::train::{Pane, State as Train};
use crate::event::Event;
use crate::run::Status;
use crate::run::series::{Axis, Metric};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::chart::{Chart, Drawing, Mark, Series};
use crate::tui::widgets::number::{Unit, duration, grouped, short};

/// Columns from which the lower panes stand in one row.
const WIDE: u16 = 160;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    if state.train.run.is_none() {
        let inner = canvas.pane(area, 0, true, "Train", "");
        let text = "no run is watched: launch a recipe with enter on the Recipes screen, or open a run with enter on the Runs screen";
        for (row, line) in crate::tui::widgets::wrap(text, usize::from(inner.width))
            .into_iter()
            .enumerate()
        {
            canvas.line(inner, row as u16, Span::styled(line, canvas.theme.dim));
        }
        return;
    }
    let focus = state.train.focus;
    match room(state) {
        Room::One => pane(state, canvas, area, focus),
        Room::Two => {
            let [top, bottom] =
                Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(area);
            let [left, right] =
                Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(bottom);
            let large = if matches!(focus, Pane::Mtp | Pane::Events) {
                Pane::Main
            } else {
                focus
            };
            pane(state, canvas, top, large);
            pane(state, canvas, left, Pane::Mtp);
            pane(state, canvas, right, Pane::Events);
        }
        Room::Many => many(state, canvas, area),
    }
}

/// All panes: charts above, numbers below.
fn many(state: &State, canvas: &mut Canvas, area: Rect) {
    let fill = Constraint::Fill;
    let rows = [fill(4), fill(3), fill(5)];
    let [top, middle, bottom] = Layout::vertical(rows).areas(area);
    let [main, mtp] = Layout::horizontal([fill(13), fill(7)]).areas(top);
    let thirds = [fill(1); 3];
    let [left, centre, right] = Layout::horizontal(thirds).areas(middle);
    let mut places = vec![
        (main, Pane::Main),
        (mtp, Pane::Mtp),
        (left, Pane::Throughput),
        (centre, Pane::GradNorm),
        (right, Pane::LearningRate),
    ];
    if area.width >= WIDE {
        let quarters = [fill(1); 4];
        let bottom = Layout::horizontal(quarters).areas::<4>(bottom);
        let panes = [Pane::Memory, Pane::Time, Pane::Devices, Pane::Events];
        places.extend(bottom.into_iter().zip(panes));
    } else {
        let [left, centre, right] = Layout::horizontal(thirds).areas(bottom);
        // What the devices have to say, as far as three rows are left for the events.
        let wanted = devices::rows(&state.train) + 2;
        let height = wanted.min(right.height.saturating_sub(5)).max(3);
        let [devices, events] =
            Layout::vertical([Constraint::Length(height), fill(1)]).areas(right);
        places.extend([
            (left, Pane::Memory),
            (centre, Pane::Time),
            (devices, Pane::Devices),
            (events, Pane::Events),
        ]);
    }
    for (place, which) in places {
        pane(state, canvas, place, which);
    }
}

fn number(pane: Pane) -> usize {
    Pane::ALL.iter().position(|p| *p == pane).unwrap_or(0)
}

fn pane(state: &State, canvas: &mut Canvas, area: Rect, which: Pane) {
    let train = &state.train;
    match which {
        Pane::Main => main_chart(train, canvas, area),
        Pane::Mtp => mtp(train, canvas, area),
        Pane::GradNorm => small(train, canvas, area, which, Metric::GradNorm, Unit::Plain),
        Pane::LearningRate => small(
            train,
            canvas,
            area,
            which,
            Metric::LearningRate,
            Unit::Plain,
        ),
        Pane::Throughput => throughput(train, canvas, area),
        Pane::Memory => memory::draw(train, canvas, area),
        Pane::Time => time::draw(train, canvas, area, room(state) != Room::Many),
        Pane::Devices => devices::draw(train, canvas, area),
        Pane::Events => events::draw(state, canvas, area),
    }
}

fn unit(metric: Metric) -> Unit {
    match metric {
        Metric::TokensPerSecond => Unit::Count,
        Metric::Allocated | Metric::Peak | Metric::Rss => Unit::Bytes,
        Metric::MtpAcceptance(_) => Unit::Percent,
        Metric::StepSeconds => Unit::Seconds,
        _ => Unit::Plain,
    }
}

/// Signs on the x axis: changed values and the user's notes.
fn marks(train: &Train, theme: &Theme) -> Vec<Mark> {
    let table = &train.history.train;
    let sign = |record: &crate::event::Record| {
        let (step, glyph, style) = match &record.event {
            Event::LiveChange { step, .. } => (*step, '◆', theme.accent),
            Event::Mark { step, .. } => (*step, '⚑', theme.accent),
            _ => return None,
        };
        let row = table.row_at(Axis::Step, step as f64);
        (row < table.rows()).then(|| Mark {
            x: table.x(train.view.axis, row),
            glyph,
            style,
        })
    };
    train.history.events.iter().filter_map(sign).collect()
}

/// Lines of what rewinds left behind, then the line that counts.
fn lines<'a>(
    train: &'a Train,
    metric: Metric,
    style: Style,
    drawing: Drawing,
    theme: &Theme,
) -> Vec<Series<'a>> {
    let abandoned = train.history.abandoned.iter().map(|left| Series {
        table: &left.steps,
        metric,
        style: theme.dim,
        drawing: Drawing::Ghost,
    });
    let counts = Series {
        table: &train.history.train,
        metric,
        style,
        drawing,
    };
    abandoned.chain([counts]).collect()
}

fn main_chart(train: &Train, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let mut series = lines(train, train.metric, theme.series[0], Drawing::Line, theme);
    if matches!(train.metric, Metric::Loss | Metric::MtpLoss(_))
        && train.history.eval.has(train.metric)
    {
        series.push(Series {
            table: &train.history.eval,
            metric: train.metric,
            style: theme.series[1],
            drawing: Drawing::Points,
        });
    }
    let marks = marks(train, theme);
    let chart = Chart {
        series,
        view: &train.view,
        range: train.range(),
        unit: unit(train.metric),
        marks: &marks,
        readout: true,
    };
    let mut right = vec![];
    let not_finite = chart.not_finite();
    if not_finite > 0 {
        right.push(Span::styled(format!("▼ NaN ×{not_finite}  "), theme.error));
    }
    if let Some(eval) = train.history.eval.last(train.metric) {
        right.push(Span::styled(
            format!("◆ eval {}  ", short(eval.into(), unit(train.metric))),
            theme.series[1],
        ));
    }
    let column = chart.column_text(area.width.saturating_sub(2));
    right.push(Span::raw(column));
    let title = train.view.title(&train.metric.to_string());
    let inner = canvas.pane(
        area,
        number(Pane::Main),
        train.focus == Pane::Main,
        title,
        Line::from(right),
    );
    if let Some(why) = &train.unreadable {
        canvas.line(inner, 0, Span::styled(why.as_str(), theme.error));
        return;
    }
    chart.draw(canvas, inner);
}

/// A chart of one metric with its last value in the title.
fn small(train: &Train, canvas: &mut Canvas, area: Rect, which: Pane, metric: Metric, unit: Unit) {
    let inner = small_frame(train, canvas, area, which, metric, unit);
    small_chart(train, metric, unit, canvas.theme).draw(canvas, inner);
}

/// Tokens a second, and under the chart what they are by GPU and of the peak.
fn throughput(train: &Train, canvas: &mut Canvas, area: Rect) {
    let (metric, unit) = (Metric::TokensPerSecond, Unit::Count);
    let mut inner = small_frame(train, canvas, area, Pane::Throughput, metric, unit);
    if inner.height >= 4 {
        let text = time::rate(train, usize::from(inner.width));
        let dim = canvas.theme.dim;
        canvas.line(inner, inner.height - 1, Span::styled(text, dim));
        inner.height -= 1;
    }
    small_chart(train, metric, unit, canvas.theme).draw(canvas, inner);
}

fn small_chart<'a>(train: &'a Train, metric: Metric, unit: Unit, theme: &Theme) -> Chart<'a> {
    Chart {
        series: lines(train, metric, theme.series[0], Drawing::Line, theme),
        view: &train.view,
        range: train.range(),
        unit,
        marks: &[],
        readout: train.view.inspect,
    }
}

/// The frame of a small chart with the last value in its title; returns the inside.
fn small_frame(
    train: &Train,
    canvas: &mut Canvas,
    area: Rect,
    which: Pane,
    metric: Metric,
    unit: Unit,
) -> Rect {
    let theme = canvas.theme;
    let chart = small_chart(train, metric, unit, theme);
    let last = train
        .history
        .train
        .last(metric)
        .map_or_else(String::new, |v| short(v.into(), unit));
    let not_finite = chart.not_finite();
    let right = if not_finite > 0 {
        Line::from(vec![
            Span::styled(format!("▼ NaN ×{not_finite} "), theme.error),
            Span::raw(last),
        ])
    } else {
        Line::from(last)
    };
    let focused = train.focus == which;
    canvas.pane(area, number(which), focused, metric.to_string(), right)
}

/// Losses of all depths in one chart, and the gap of each to the main loss. The router's losses stand below, or alone where there is no depth.
fn mtp(train: &Train, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let table = &train.history.train;
    let depths = table.mtp_depth();
    let router = train.router();
    let lambda = table
        .last(Metric::MtpLossScale)
        .filter(|&l| depths > 0 && l > 0.0);
    let right = lambda.map_or_else(String::new, |l| {
        format!("λ {}", short(l.into(), Unit::Plain))
    });
    let title = if depths == 0 && !router.is_empty() {
        "router losses"
    } else {
        "MTP depth losses"
    };
    let inner = canvas.pane(
        area,
        number(Pane::Mtp),
        train.focus == Pane::Mtp,
        title,
        right,
    );
    if depths == 0 && router.is_empty() {
        let text = if table.rows() == 0 {
            "no step yet"
        } else {
            "the model has no MTP depth"
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    }
    let of_depths = if depths == 0 { 0 } else { depths as u16 + 1 };
    let text_rows = (of_depths + router.len() as u16).min(inner.height);
    let plot = Rect {
        height: inner.height - text_rows,
        ..inner
    };
    let metrics: Vec<Metric> = if depths == 0 {
        router.clone()
    } else {
        let depths = (1..=depths).rev().map(Metric::MtpLoss);
        depths.chain([Metric::Loss]).collect()
    };
    let style = |metric| {
        let of = |index: usize| theme.series[index.min(theme.series.len() - 1)];
        match metric {
            Metric::MtpLoss(depth) => of(depth),
            Metric::Loss => theme.series[0],
            other if depths == 0 => of(router.iter().position(|&m| m == other).unwrap_or(0)),
            _ => theme.dim,
        }
    };
    let chart = Chart {
        series: metrics
            .into_iter()
            .map(|metric| Series {
                table,
                metric,
                style: style(metric),
                drawing: Drawing::Plain,
            })
            .collect(),
        view: &train.view,
        range: train.range(),
        unit: Unit::Plain,
        marks: &[],
        readout: train.view.inspect,
    };
    chart.draw(canvas, plot);
    let text = Rect::new(inner.x, inner.y + plot.height, inner.width, text_rows);
    if depths > 0 {
        numbers::depths(train, canvas, text, &style);
    }
    let text = Rect {
        y: text.y + of_depths.min(text.height),
        height: text.height.saturating_sub(of_depths),
        ..text
    };
    numbers::router(train, canvas, text, &router, &style);
}

/// The glyph, word and style of a status.
pub(super) fn status_words(status: &Status, theme: &Theme) -> (&'static str, &'static str, Style) {
    match status {
        Status::New => ("○", "new", theme.dim),
        Status::Queued => ("…", "queued", theme.dim),
        Status::Running => ("●", "running", theme.running),
        Status::Paused => ("‖", "paused", theme.warning),
        Status::Completed => ("✓", "done", theme.ok),
        Status::Stopped => ("■", "stopped", theme.dim),
        Status::Failed { .. } => ("✗", "failed", theme.error),
        Status::Killed => ("✗", "killed", theme.error),
        Status::Stale => ("?", "stale", theme.warning),
    }
}

/// The right end of the tab bar.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let train = &state.train;
    if train.run.is_none() {
        return Line::from(Span::styled("no run", theme.dim));
    }
    let (glyph, word, style) = status_words(&train.status(), theme);
    let summary = &train.summary;
    let share = 100.0 * summary.step as f64 / summary.total_steps.max(1) as f64;
    let (step, total) = (grouped(summary.step), grouped(summary.total_steps));
    let narrow = state.size.width < 100;
    let mut text = if narrow {
        format!(" {step}/{total}")
    } else {
        format!(" {word}  step {step}/{total}  {share:.1} %")
    };
    if let Some(eta) = train.eta_seconds() {
        let _ = write!(text, "  ETA {}", duration(eta));
    }
    Line::from(vec![
        Span::raw(train.info.id.as_str()),
        Span::styled(format!(" {glyph}"), style),
        Span::styled(text, theme.dim),
    ])
}
