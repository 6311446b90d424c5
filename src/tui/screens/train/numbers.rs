//! The Train screen's numbers of MTP depths, and a bar behind a text.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::train::{RECENT, State as Train, Trend, gap};
use crate::run::series::Metric;
use crate::tui::canvas::Canvas;
use crate::tui::widgets::number::{Unit, short};

/// A line for the main loss and one for each depth with gap, trend and acceptance.
pub(super) fn depths(
    train: &Train,
    canvas: &mut Canvas,
    area: Rect,
    style: &dyn Fn(Metric) -> Style,
) {
    let theme = canvas.theme;
    let table = &train.history.train;
    let rows = table.rows();
    let value = |metric| {
        let smooth = table
            .fold_smoothed(metric, rows.saturating_sub(1)..rows)
            .mean();
        smooth.map_or_else(|| "-".into(), |v| short(v, Unit::Plain))
    };
    let before = table
        .fold(
            Metric::Loss,
            rows.saturating_sub(2 * RECENT)..rows.saturating_sub(RECENT),
        )
        .mean();
    let change = match (train.recent(Metric::Loss), before) {
        (Some(now), Some(before)) => format!("  Δ{:+.3}", now - before),
        _ => String::new(),
    };
    canvas.line(
        area,
        0,
        Line::from(vec![
            Span::styled(" main ", style(Metric::Loss)),
            Span::raw(value(Metric::Loss)),
            Span::styled(change, theme.dim),
        ]),
    );
    for depth in 1..=table.mtp_depth() {
        let (text, tone) = match gap(&train.history, depth) {
            None => (String::new(), theme.dim),
            Some((gap, Trend::Widening)) => (format!("  gap {gap:+.3} ↗ widening"), theme.warning),
            Some((gap, Trend::Narrowing)) => (format!("  gap {gap:+.3} ↘"), theme.dim),
            Some((gap, Trend::Stable)) => (format!("  gap {gap:+.3} →"), theme.dim),
        };
        let accepted = train.recent(Metric::MtpAcceptance(depth));
        let accepted = accepted.map_or_else(String::new, |v| format!("  accept {v:.1} %"));
        canvas.line(
            area,
            depth as u16,
            Line::from(vec![
                Span::styled(format!(" mtp{depth} "), style(Metric::MtpLoss(depth))),
                Span::raw(value(Metric::MtpLoss(depth))),
                Span::styled(text, tone),
                Span::styled(accepted, theme.dim),
            ]),
        );
    }
}

/// A line for each loss of the router with its change; a balanced load is 1.
pub(super) fn router(
    train: &Train,
    canvas: &mut Canvas,
    area: Rect,
    metrics: &[Metric],
    style: &dyn Fn(Metric) -> Style,
) {
    let dim = canvas.theme.dim;
    for (row, &metric) in metrics.iter().enumerate().take(usize::from(area.height)) {
        let now = train.recent(metric);
        let last = train.history.train.last(metric);
        canvas.line(
            area,
            row as u16,
            Line::from(vec![
                Span::styled(format!(" {metric} "), style(metric)),
                Span::raw(last.map_or_else(|| "-".into(), |v| short(v.into(), Unit::Plain))),
                Span::styled(
                    now.map_or_else(String::new, |v| format!("  mean {}", short(v, Unit::Plain))),
                    dim,
                ),
            ]),
        );
    }
}

/// A text with a bar behind it that fills `share` of the rest of the row.
pub(super) fn bar(
    canvas: &mut Canvas,
    area: Rect,
    row: u16,
    head: String,
    share: f64,
    style: Style,
) {
    let room = usize::from(area.width).saturating_sub(head.chars().count() + 1);
    let filled = (share.clamp(0.0, 1.0) * room as f64).round() as usize;
    let dim = canvas.theme.dim;
    canvas.line(
        area,
        row,
        Line::from(vec![
            Span::raw(head),
            Span::styled("█".repeat(filled), style),
            Span::styled("░".repeat(room - filled), dim),
        ]),
    );
}
