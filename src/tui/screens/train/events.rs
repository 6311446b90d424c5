//! What happened in the watched run, newest first, with the time since its first event.

use std::fmt::Write as _;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::number;
use crate::app::train::Pane;
use crate::app::{State, Target, list};
use crate::base::Bytes;
use crate::event::Event;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::number::{Unit, duration, short};

/// Draws the pane.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let train = &state.train;
    let theme = canvas.theme;
    let focused = train.focus == Pane::Events;
    let bad = train.history.bad_lines;
    let right = if bad > 0 {
        format!("{bad} unreadable lines")
    } else {
        String::new()
    };
    let inner = canvas.pane(area, number(Pane::Events), focused, "events", right);
    let start = train
        .history
        .events
        .first()
        .map_or(0, |record| record.time_ms);
    let count = train.events().count();
    let height = usize::from(inner.height);
    let first = list::offset(train.event, count, height);
    for (i, record) in train.events().enumerate().skip(first).take(height) {
        let row = (i - first) as u16;
        let time = duration((record.time_ms - start).max(0) as f64 / 1000.0);
        let (glyph, text, style) = words(&record.event, theme);
        let line = Line::from(vec![
            Span::styled(format!("{time:>7} "), theme.dim),
            Span::styled(format!("{glyph} "), style),
            Span::raw(text),
        ]);
        canvas.line(inner, row, line);
        if focused && i == train.event {
            canvas.row_style(inner, row, theme.selection);
        }
        let place = Rect::new(inner.x, inner.y + row, inner.width, 1);
        canvas.hits.add(place, Target::Row(number(Pane::Events), i));
    }
}

fn words(event: &Event, theme: &Theme) -> (&'static str, String, Style) {
    match event {
        Event::Started {
            segment,
            step,
            device,
            resumed_from,
            ..
        } => {
            let from = match resumed_from {
                Some(_) => format!("resumed at step {step}"),
                None => "started".into(),
            };
            (
                "▶",
                format!("{from} on {device} (segment {segment})"),
                theme.ok,
            )
        }
        Event::Step(step) => ("·", format!("step {}", step.step), theme.dim),
        Event::Eval {
            step,
            loss,
            mtp,
            seconds,
            ..
        } => {
            let mut depths = String::new();
            for (depth, step) in (1..).zip(mtp) {
                let _ = write!(depths, " mtp{depth} {:.3}", step.loss);
            }
            (
                "◆",
                format!("eval {loss:.3}{depths} at {step} ({})", duration(*seconds)),
                theme.series[1],
            )
        }
        Event::Checkpoint {
            step,
            bytes,
            seconds,
            ..
        } => (
            "✓",
            format!(
                "checkpoint {step}, {} in {}",
                Bytes(*bytes),
                duration(*seconds)
            ),
            theme.ok,
        ),
        Event::Warning { step, message, .. } => {
            ("!", format!("{message} (step {step})"), theme.warning)
        }
        Event::Sample { prompt, text, .. } => (
            "\"",
            format!("{prompt}{text}").replace('\n', " "),
            theme.dim,
        ),
        Event::LiveChange {
            step,
            key,
            from,
            to,
        } => (
            "~",
            format!("{key} {from} → {to} from step {step}"),
            theme.accent,
        ),
        Event::Mark { step, note } => ("⚑", format!("{note} (step {step})"), theme.accent),
        Event::Paused { step } => ("‖", format!("paused at {step}"), theme.warning),
        Event::Continued { step } => ("▶", format!("continued at {step}"), theme.ok),
        Event::Answer { ok, message, .. } => {
            if *ok {
                ("✓", message.clone(), theme.dim)
            } else {
                ("✗", format!("refused: {message}"), theme.error)
            }
        }
        Event::Finished {
            step,
            tokens,
            reason,
            ..
        } => (
            "■",
            format!(
                "{reason} at {step}, {} tokens",
                short(*tokens as f64, Unit::Count)
            ),
            theme.ok,
        ),
        Event::Failed { error, hint, .. } => {
            let hint = hint
                .as_ref()
                .map_or_else(String::new, |h| format!(" ({h})"));
            ("✗", format!("failed: {error}{hint}"), theme.error)
        }
        Event::Unknown(value) => {
            let kind = value["type"].as_str().unwrap_or("a record");
            ("?", format!("{kind} of a newer version"), theme.dim)
        }
    }
}
