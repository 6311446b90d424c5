//! What every stage computes when, to scale: forward, backward, idle.
//!
//! Where a column is longer than a piece of work, it says how much of it the stage is busy; enlarged, it says with what.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::layout::{Pane, View, seconds};
use crate::app::{State, list};
use crate::plan::{LinkKind, Piece, Schedule, StageTime, Traffic};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// Columns of a mean forward in the enlarged view.
const ENLARGED: f64 = 4.0;

pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, view: &View) {
    let theme = canvas.theme;
    let screen = &state.layout;
    let focused = screen.focus == Pane::Timeline;
    let schedule = view.schedule.as_ref().filter(|s| s.seconds > 0.0);
    let title = schedule.map_or("Timeline".to_owned(), |schedule| {
        let name = if schedule.is_interleaved {
            "Interleaved 1F1B"
        } else {
            "1F1B"
        };
        let all = view.job.micro_batches().unwrap_or(1);
        let of = if schedule.micro_batches == all {
            String::new()
        } else {
            format!("{} of ", schedule.micro_batches)
        };
        format!(
            "{name}, pp {}, {of}{all} micro-batches",
            schedule.stages.len()
        )
    });
    let right = schedule.map_or(String::new(), |_| {
        format!("bubble {:.1} %", 100.0 * view.bubble())
    });
    let inner = canvas.pane(area, Pane::Timeline as usize, focused, title, right);
    let Some(schedule) = schedule else {
        let text = match &view.plan {
            Ok(_) => "too many stages to lay out".to_owned(),
            Err(error) => error.to_string(),
        };
        canvas.line(inner, 0, Span::styled(format!(" {text}"), theme.dim));
        return;
    };
    let names = match inner.width {
        100.. => 28,
        60.. => 18,
        _ => 6,
    };
    let place = Rect {
        x: inner.x + u16::min(names, inner.width),
        width: inner.width.saturating_sub(names + 1),
        ..inner
    };
    let width = usize::from(place.width);
    let (start, a_column) = window(schedule, view, screen.zoom, width);
    let is_coarse = a_column > view.quantum();
    let notes = notes(view, schedule, (start, a_column, width), is_coarse, theme);
    let tall = (notes.len() as u16).min(inner.height.saturating_sub(1));
    let rows = usize::from(inner.height - tall);
    let stages = schedule.stages.len();
    let here = view.stage_of(screen.rank);
    let first = list::offset(here, stages, rows);
    for stage in (first..stages).take(rows) {
        let y = (stage - first) as u16;
        let times = view
            .plan
            .as_ref()
            .ok()
            .and_then(|plan| plan.time.stages.get(stage));
        let name = match times {
            Some(time) if names > 18 => format!(
                " pp {stage:<3} F{:>8} B{:>8}",
                seconds(time.forward),
                seconds(time.backward)
            ),
            Some(time) if names > 6 => {
                format!(
                    " pp {stage:<3} {:>8}",
                    seconds(time.forward + time.backward)
                )
            }
            _ => format!(" pp {stage}"),
        };
        let style = if stage == here {
            theme.accent
        } else {
            theme.dim
        };
        canvas.line(inner, y, Span::styled(name, style));
        let pieces = &schedule.stages[stage];
        let line = if is_coarse {
            shares(&loads(pieces, start, a_column, width), theme)
        } else {
            row(&cells(pieces, start, a_column, width), theme)
        };
        canvas.line(place, y, line);
    }
    for (i, line) in notes.into_iter().take(usize::from(tall)).enumerate() {
        canvas.line(inner, (rows + i) as u16, line);
    }
}

/// Start of the window and seconds of a column.
fn window(schedule: &Schedule, view: &View, zoom: Option<usize>, width: usize) -> (f64, f64) {
    let width = width.max(1) as f64;
    let whole = schedule.seconds / width;
    let Some(at) = zoom else {
        return (0.0, whole);
    };
    let quantum = view.quantum();
    let a_column = (quantum / ENLARGED).min(whole);
    let last = (schedule.seconds - a_column * width).max(0.0);
    ((at as f64 * quantum).min(last), a_column)
}

fn notes(
    view: &View,
    schedule: &Schedule,
    (start, a_column, width): (f64, f64, usize),
    is_coarse: bool,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let Ok(plan) = &view.plan else {
        return Vec::new();
    };
    let time = &plan.time;
    let end = (start + a_column * width as f64).min(schedule.seconds);
    let span = format!(
        "   {} to {} of {}",
        seconds(start),
        seconds(end),
        seconds(schedule.seconds)
    );
    let legend = if is_coarse {
        vec![
            Span::styled(" █▓▒░", theme.series[0]),
            Span::styled(" busy · idle, enter enlarges", theme.dim),
        ]
    } else {
        vec![
            Span::styled(" █", theme.series[0]),
            Span::styled(" forward ", theme.dim),
            Span::styled("▒", theme.series[1]),
            Span::styled(" backward  · idle", theme.dim),
        ]
    };
    let mut lines = vec![Line::from(
        [legend, vec![Span::styled(span, theme.dim)]].concat(),
    )];
    let slowest = time.stages.iter().max_by(|one, other| {
        (one.forward + one.backward).total_cmp(&(other.forward + other.backward))
    });
    if let (Some(slowest), true) = (slowest, time.stages.len() > 1) {
        let over = 100.0 * (time.skew - 1.0);
        let why = why_slow(view, slowest);
        let text = if over < 0.5 {
            " stages take as long as each other".to_owned()
        } else {
            format!(" pp {} takes {over:.0} % over the mean{why}", slowest.stage)
        };
        lines.push(Line::styled(text, theme.dim));
    }
    lines.push(Line::styled(
        format!(
            " step about {} ({} to {}), {:.0} TFLOP/s a GPU; by operations, not measured",
            seconds(time.seconds),
            seconds(time.low),
            seconds(time.high),
            time.tflops_per_gpu
        ),
        theme.dim,
    ));
    lines
}

/// Why a stage takes longer than others, in brackets; empty where that is not plain.
fn why_slow(view: &View, slowest: &StageTime) -> String {
    let Ok(plan) = &view.plan else {
        return String::new();
    };
    // The same traffic goes over a faster link elsewhere.
    let far = slowest.traffic.iter().find(|item| {
        let is_near = |other: &Traffic| other.name == item.name && other.link == LinkKind::NvLink;
        let mut others = plan.time.stages.iter().flat_map(|stage| &stage.traffic);
        item.link == LinkKind::Infiniband && others.any(is_near)
    });
    let stage = plan.stages.get(slowest.stage);
    let parts: Vec<String> = [
        stage
            .filter(|stage| stage.mtp > 0)
            .map(|_| "MTP".to_owned()),
        stage.filter(|stage| stage.head).map(|_| "loss".to_owned()),
        stage
            .filter(|stage| stage.pp == 0 && view.job.megatron.patches > 0)
            .map(|_| "vision tower".to_owned()),
        far.map(|item| format!("{} over InfiniBand", item.name)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    Idle,
    /// A piece of work by its number in the stage, and whether it is a backward; the number is the micro-batch.
    Work {
        piece: usize,
        is_backward: bool,
        micro_batch: usize,
    },
}

/// The column's cells: each is what the stage does in the column's middle.
fn cells(pieces: &[Piece], start: f64, a_column: f64, width: usize) -> Vec<Cell> {
    (0..width)
        .map(|column| {
            let moment = start + (column as f64 + 0.5) * a_column;
            // The last piece that begins no later.
            let at = pieces.partition_point(|piece| piece.start <= moment);
            match at.checked_sub(1).map(|at| (at, &pieces[at])) {
                Some((piece, work)) if moment < work.end => Cell::Work {
                    piece,
                    is_backward: work.is_backward,
                    micro_batch: work.micro_batch,
                },
                _ => Cell::Idle,
            }
        })
        .collect()
}

/// The share of each column in which a stage is busy.
fn loads(pieces: &[Piece], start: f64, a_column: f64, width: usize) -> Vec<f64> {
    let mut loads = vec![0.0; width];
    for piece in pieces {
        let (from, to) = (
            (piece.start - start) / a_column,
            (piece.end - start) / a_column,
        );
        let first = from.max(0.0) as usize;
        for (column, load) in loads.iter_mut().enumerate().skip(first) {
            let (left, right) = (column as f64, column as f64 + 1.0);
            if to <= left {
                break;
            }
            *load += (to.min(right) - from.max(left)).max(0.0);
        }
    }
    loads
}

/// A stage's line of shares.
fn shares(loads: &[f64], theme: &Theme) -> Line<'static> {
    const LEVELS: [char; 5] = ['·', '░', '▒', '▓', '█'];
    let spans = loads.chunk_by(|one, other| (*one < 0.125) == (*other < 0.125));
    let spans = spans.map(|chunk| {
        let text: String = chunk
            .iter()
            .map(|load| LEVELS[((load * 4.0 + 0.5) as usize).min(4)])
            .collect();
        let is_idle = chunk.first().is_none_or(|load| *load < 0.125);
        Span::styled(text, if is_idle { theme.dim } else { theme.series[0] })
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// A stage's line: forwards and backwards filled, with their micro-batch where there is room for it.
fn row(cells: &[Cell], theme: &Theme) -> Line<'static> {
    let mut spans: Vec<Span> = Vec::new();
    let mut at = 0;
    while at < cells.len() {
        let cell = cells[at];
        let len = cells[at..]
            .iter()
            .take_while(|&&other| other == cell)
            .count();
        let (text, style) = match cell {
            Cell::Idle => ("·".repeat(len), theme.dim),
            Cell::Work {
                is_backward,
                micro_batch,
                ..
            } => filled(is_backward, micro_batch + 1, len, theme),
        };
        spans.push(Span::styled(text, style));
        at += len;
    }
    Line::from(spans)
}

fn filled(is_backward: bool, number: usize, len: usize, theme: &Theme) -> (String, Style) {
    let (letter, fill, style) = if is_backward {
        ('B', "▒", theme.series[1])
    } else {
        ('F', "█", theme.series[0])
    };
    let label = format!("{letter}{number}");
    let text = if len > label.len() {
        format!("{label}{}", fill.repeat(len - label.len()))
    } else {
        fill.repeat(len)
    };
    (text, style)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Turn, schedule};

    proptest! {
        #[test]
        fn columns_show_as_much_work_as_there_is(
            times in prop::collection::vec((0.2..2.0f64, 0.2..2.0f64), 1..6),
            vpp in 1usize..3,
            micro_batches in 1usize..20,
            width in 1usize..400,
        ) {
            let turns: Vec<Turn> = times
                .iter()
                .map(|&(forward, backward)| Turn { forward, backward })
                .collect();
            let laid = schedule(&turns, vpp, micro_batches);
            let a_column = laid.seconds / width as f64;
            for pieces in &laid.stages {
                let cells = cells(pieces, 0.0, a_column, width);
                prop_assert_eq!(cells.len(), width);
                let busy = cells.iter().filter(|cell| **cell != Cell::Idle).count() as f64;
                let wanted: f64 = pieces.iter().map(|piece| piece.end - piece.start).sum();
                // An edge of each run of work is rounded to a column.
                let runs = 1 + pieces.windows(2).filter(|pair| pair[0].end < pair[1].start).count();
                prop_assert!((busy * a_column - wanted).abs() <= a_column * (runs as f64 + 1e-6));
                let seen: Vec<usize> = cells
                    .iter()
                    .filter_map(|cell| match cell {
                        Cell::Work { piece, .. } => Some(*piece),
                        Cell::Idle => None,
                    })
                    .collect();
                prop_assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]));
                let loads = loads(pieces, 0.0, a_column, width);
                prop_assert!(loads.iter().all(|load| (0.0..1.0 + 1e-6).contains(load)));
                let sum: f64 = loads.iter().sum();
                prop_assert!((sum * a_column - wanted).abs() < 1e-6);
            }
        }
    }
}
