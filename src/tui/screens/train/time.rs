//! Where the time of a step goes, phase by phase, and what comes out of it.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::number;
use crate::app::train::{Pane, State as Train};
use crate::run::series::{Metric, PHASES};
use crate::tui::canvas::Canvas;
use crate::tui::widgets::number::{Unit, short};
use crate::tui::widgets::stack::{FILLS, stack};

/// Draws the pane, with tokens a second below where no other pane shows them.
pub(super) fn draw(train: &Train, canvas: &mut Canvas, area: Rect, with_rate: bool) {
    let theme = canvas.theme;
    let step = train.recent(Metric::StepSeconds);
    let right = step.map_or_else(String::new, |s| format!("step {}", short(s, Unit::Seconds)));
    let focused = train.focus == Pane::Time;
    let inner = canvas.pane(area, number(Pane::Time), focused, "step time", right);
    let phases: Vec<(Metric, f64)> = PHASES
        .into_iter()
        .filter_map(|phase| Some((phase, train.phase_seconds(phase)?)))
        .collect();
    let whole: f64 = phases.iter().map(|(_, seconds)| seconds).sum();
    if phases.is_empty() || whole <= 0.0 {
        let text = if train.history.train.rows() == 0 {
            " no step yet"
        } else {
            " the trainer does not tell phases"
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
    } else {
        let width = usize::from(inner.width).saturating_sub(2);
        let parts: Vec<f64> = phases.iter().map(|(_, seconds)| *seconds).collect();
        let mut spans = vec![Span::raw(" ")];
        for (i, count) in stack(&parts, whole, width).into_iter().enumerate() {
            let style = theme.series[i % theme.series.len()];
            let fill = FILLS[i % FILLS.len()].to_string().repeat(count);
            spans.push(Span::styled(fill, style));
        }
        canvas.line(inner, 0, Line::from(spans));
    }
    let mut row = 1;
    for (i, (phase, seconds)) in phases.into_iter().enumerate() {
        let name = match phase {
            Metric::ForwardBackward => "fwd+bwd".to_owned(),
            phase => phase.to_string(),
        };
        let share = 100.0 * seconds / whole.max(1e-12);
        let line = Line::from(vec![
            Span::styled(
                format!(" {} ", FILLS[i % FILLS.len()]),
                theme.series[i % theme.series.len()],
            ),
            Span::raw(format!("{name:<10} {:>9}", milliseconds(seconds))),
            Span::styled(format!(" {share:>5.1} %"), theme.dim),
        ]);
        canvas.line(inner, row, line);
        row += 1;
    }
    if with_rate && row < inner.height {
        let rate = rate(train, usize::from(inner.width));
        canvas.line(inner, inner.height - 1, Span::styled(rate, theme.dim));
    }
}

/// Seconds to three figures below a second, where phases live.
fn milliseconds(seconds: f64) -> String {
    let value = seconds * 1e3;
    match value {
        v if v >= 9999.5 => short(seconds, Unit::Seconds),
        v if v >= 99.95 => format!("{value:.0} ms"),
        v if v >= 9.995 => format!("{value:.1} ms"),
        _ => format!("{value:.2} ms"),
    }
}

/// Tokens a second in all and by GPU, MFU and HFU, as many of them as fit.
pub(super) fn rate(train: &Train, width: usize) -> String {
    let percent = |name: &str, metric| {
        let value = train.recent(metric).filter(|&v| v > 0.0)?;
        Some(format!("{name} {:.1} %", 100.0 * value))
    };
    let gpus = train.facts.gpus();
    let rate = train.recent(Metric::TokensPerSecond);
    let total = rate.map(|rate| format!("{} tok/s", short(rate, Unit::Count)));
    let each = rate.filter(|_| gpus > 1).map(|rate| {
        let each = short(rate / gpus as f64, Unit::Count);
        format!("{each}/GPU x{gpus}")
    });
    let mut parts = vec![
        total,
        each,
        percent("MFU", Metric::Mfu),
        percent("HFU", Metric::Hfu),
    ];
    let length = |parts: &[Option<String>]| -> usize {
        parts
            .iter()
            .flatten()
            .map(|part| part.chars().count() + 2)
            .sum()
    };
    // The title of the chart has the total.
    if parts[1].is_some() && length(&parts) > width + 1 {
        parts.remove(0);
    }
    let mut text = String::new();
    for part in parts.into_iter().flatten() {
        let gap = if text.is_empty() { " " } else { "  " };
        if text.chars().count() + gap.len() + part.chars().count() <= width {
            text.push_str(gap);
            text.push_str(&part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn phases_have_three_figures() {
        for (seconds, text) in [
            (0.000_123, "0.12 ms"),
            (0.012_34, "12.3 ms"),
            (0.123_4, "123 ms"),
            (1.234, "1234 ms"),
            (12.34, "12.3 s"),
        ] {
            assert_eq!(milliseconds(seconds), text);
        }
    }
}
