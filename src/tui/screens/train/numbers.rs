//! The Train screen's panes of numbers: depths, memory, time.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::number;
use crate::app::train::{Pane, State as Train, Trend, gap};
use crate::run::series::Metric;
use crate::tui::canvas::Canvas;
use crate::tui::widgets::number::{Unit, short};

/// Steps that means are taken over.
const RECENT: usize = 50;

fn recent(train: &Train, metric: Metric) -> Option<f64> {
    let rows = train.history.train.rows();
    train
        .history
        .train
        .fold(metric, rows.saturating_sub(RECENT)..rows)
        .mean()
}

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
    let change = match (recent(train, Metric::Loss), before) {
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
        let accepted = recent(train, Metric::MtpAcceptance(depth));
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

/// Bytes after the step, peak in the step, and resident in the process, each beside the largest of them.
pub(super) fn memory(train: &Train, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let table = &train.history.train;
    let last = |metric| f64::from(table.last(metric).unwrap_or(0.0));
    let rows = [
        ("allocated", last(Metric::Allocated)),
        ("peak", last(Metric::Peak)),
        ("RSS", last(Metric::Rss)),
    ];
    let highest = table.fold(Metric::Peak, 0..table.rows()).max;
    let right = if highest.is_finite() {
        format!("highest {}", short(highest.into(), Unit::Bytes))
    } else {
        String::new()
    };
    let inner = canvas.pane(
        area,
        number(Pane::Memory),
        train.focus == Pane::Memory,
        "memory",
        right,
    );
    let whole = rows.iter().map(|(_, v)| *v).fold(0.0, f64::max);
    for (row, (name, value)) in rows.into_iter().enumerate() {
        let head = format!(" {name:<9} {:>9} ", short(value, Unit::Bytes));
        bar(
            canvas,
            inner,
            row as u16,
            head,
            value / whole.max(1.0),
            theme.bar,
        );
    }
}

/// Where the time of the last steps went.
pub(super) fn time(train: &Train, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let whole = recent(train, Metric::StepSeconds);
    let right = whole.map_or_else(String::new, |s| format!("step {}", short(s, Unit::Seconds)));
    let inner = canvas.pane(
        area,
        number(Pane::Time),
        train.focus == Pane::Time,
        "step time",
        right,
    );
    let parts = [
        ("fwd+bwd", Metric::ForwardBackward),
        ("optimizer", Metric::Optimizer),
        ("data", Metric::Data),
        ("other", Metric::Other),
    ];
    let mut row = 0;
    for (name, metric) in parts {
        let Some(seconds) = recent(train, metric) else {
            continue;
        };
        let head = format!(" {name:<9} {:>8} ", short(seconds, Unit::Seconds));
        let share = seconds / whole.unwrap_or(seconds).max(1e-12);
        bar(canvas, inner, row, head, share, theme.bar);
        row += 1;
    }
    let rate = |metric, unit| recent(train, metric).map(|v| short(v, unit));
    if let Some(rate) = rate(Metric::TokensPerSecond, Unit::Count) {
        let mfu = recent(train, Metric::Mfu).filter(|&m| m > 0.0);
        let mfu = mfu.map_or_else(String::new, |m| format!("   MFU {:.1} %", 100.0 * m));
        canvas.line(
            inner,
            row + 1,
            Span::styled(format!(" {rate} tok/s{mfu}"), theme.dim),
        );
    }
}

/// A text with a bar behind it that fills `share` of the rest of the row.
fn bar(canvas: &mut Canvas, area: Rect, row: u16, head: String, share: f64, style: Style) {
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
