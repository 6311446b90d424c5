//! Events as text for people: one line that is rewritten on a terminal, a line an event elsewhere.

use std::time::Duration;

use super::output::{Tone, paint};
use crate::event::{DepthStep, Event, Record, StepRecord};

/// Share of a new value in a smoothed one.
const WEIGHT: f64 = 0.1;

/// What the progress line is made from.
#[derive(Debug)]
pub(super) struct Progress {
    color: bool,
    rewrites: bool,
    total_steps: u64,
    tokens_per_second: f64,
    /// Whether the last line on the terminal will be rewritten.
    open_line: bool,
}

impl Progress {
    /// `rewrites` says that standard output is a terminal.
    pub(super) fn new(color: bool, rewrites: bool) -> Self {
        Self {
            color,
            rewrites,
            total_steps: 0,
            tokens_per_second: 0.0,
            open_line: false,
        }
    }

    /// What to write for `record`; empty if it is nothing for people.
    pub(super) fn show(&mut self, record: &Record) -> String {
        if let Event::Step(step) = &record.event {
            let line = self.step(step);
            if !self.rewrites {
                return line + "\n";
            }
            self.open_line = true;
            return format!("\r\x1b[2K{}", cut(&line, columns()));
        }
        let Some((tone, line)) = self.event(&record.event) else {
            return String::new();
        };
        let start = if std::mem::take(&mut self.open_line) {
            "\r\x1b[2K"
        } else {
            ""
        };
        format!("{start}{}\n", paint(self.color, tone, line))
    }

    fn step(&mut self, step: &StepRecord) -> String {
        if self.tokens_per_second == 0.0 {
            self.tokens_per_second = step.tokens_per_second;
        } else {
            self.tokens_per_second += WEIGHT * (step.tokens_per_second - self.tokens_per_second);
        }
        let left = self.total_steps.saturating_sub(step.step);
        let step_tokens = step.tokens_per_second * step.step_seconds;
        let seconds = left as f64 * step_tokens / self.tokens_per_second.max(1e-9);
        let mut parts = vec![
            format!("step {}/{}", step.step, self.total_steps),
            format!("loss {}{}", loss(step.loss), mtp(&step.mtp)),
            format!("grad {:.3}", step.grad_norm),
            format!("lr {:.2e}", step.lr),
            format!("{} tok/s", short(self.tokens_per_second)),
        ];
        if step.skipped {
            parts.push("skipped".to_owned());
        }
        if left > 0 {
            parts.push(format!("{} left", duration(seconds)));
        }
        parts.join("  ")
    }

    fn event(&mut self, event: &Event) -> Option<(Tone, String)> {
        Some(match event {
            Event::Started {
                segment,
                step,
                total_steps,
                device,
                parameters,
                mtp_parameters,
                mtp_depth,
                resumed_from,
                ..
            } => {
                self.total_steps = *total_steps;
                let parameters = short(*parameters as f64);
                let mtp = match mtp_depth {
                    0 => String::new(),
                    depth => format!(" ({} in {depth} MTP)", short(*mtp_parameters as f64)),
                };
                let from = match resumed_from {
                    Some(from) => format!(", from step {step} ({from})"),
                    None if *segment > 0 => ", from the start again".to_owned(),
                    None => String::new(),
                };
                let line = format!(
                    "trains {parameters} parameters{mtp} on {device}, {total_steps} steps{from}"
                );
                (Tone::Heading, line)
            }
            Event::Eval {
                step,
                loss: value,
                mtp: depths,
                seconds,
                ..
            } => (
                Tone::Name,
                format!(
                    "step {step}  validation loss {}{}  ({seconds:.1} s)",
                    loss(*value),
                    mtp(depths)
                ),
            ),
            Event::Checkpoint {
                step,
                path,
                bytes,
                seconds,
                ..
            } => (
                Tone::Dim,
                format!(
                    "step {step}  saved {path} ({}, {seconds:.1} s)",
                    crate::base::Bytes(*bytes)
                ),
            ),
            Event::Warning {
                step,
                code,
                message,
            } => (
                Tone::Warning,
                format!("step {step}  warning[{code}]: {message}"),
            ),
            Event::Sample { step, prompt, text } => {
                (Tone::Dim, format!("step {step}  {prompt:?} -> {text:?}"))
            }
            Event::LiveChange {
                step,
                key,
                from,
                to,
            } => {
                if key == "train.steps"
                    && let Ok(steps) = to.parse()
                {
                    self.total_steps = steps;
                }
                (Tone::Name, format!("step {step}  {key}: {from} -> {to}"))
            }
            Event::Mark { step, note } => (Tone::Name, format!("step {step}  mark: {note}")),
            Event::Paused { step } => (Tone::Warning, format!("step {step}  paused")),
            Event::Continued { step } => (Tone::Good, format!("step {step}  continued")),
            Event::Answer {
                step,
                ok: false,
                message,
                ..
            } => (Tone::Warning, format!("step {step}  refused: {message}")),
            Event::Finished {
                step,
                tokens,
                reason,
                weights_hash,
            } => (
                Tone::Good,
                format!(
                    "{reason} after {step} steps, {} tokens; weights {}",
                    short(*tokens as f64),
                    weights_hash.chars().take(12).collect::<String>()
                ),
            ),
            // Answers that say yes repeat their event; a failure becomes the error of the command.
            Event::Answer { .. } | Event::Failed { .. } | Event::Step(_) | Event::Unknown(_) => {
                return None;
            }
        })
    }
}

fn loss(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.4}")
    } else {
        "not finite".to_owned()
    }
}

fn mtp(depths: &[DepthStep]) -> String {
    let each = depths.iter().enumerate().map(|(k, depth)| {
        format!(
            "  mtp_{} {} ({:.0} %)",
            k + 1,
            loss(depth.loss),
            depth.acceptance_percent()
        )
    });
    each.collect()
}

/// A number with three digits or so: `12.3k`.
fn short(value: f64) -> String {
    for (unit, size) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        if value >= size {
            return format!("{:.1}{unit}", value / size);
        }
    }
    format!("{value:.0}")
}

/// A time with two units: `2 m 05 s`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    let seconds = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} m {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} m"),
    }
}

/// Columns of the terminal; 80 if it does not say.
pub(super) fn columns() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col as usize,
        _ => 80,
    }
}

/// The line's start, so that it never wraps and can be rewritten.
pub(super) fn cut(line: &str, columns: usize) -> &str {
    let end = line
        .char_indices()
        .nth(columns.saturating_sub(1))
        .map_or(line.len(), |(i, _)| i);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(7.9), "7 s");
        assert_eq!(duration(125.0), "2 m 05 s");
        assert_eq!(duration(7325.0), "2 h 02 m");
        assert_eq!(duration(f64::INFINITY), "?");
    }

    #[test]
    fn a_terminal_line_is_rewritten_and_cut() {
        let record = Record {
            v: 1,
            seq: 0,
            time_ms: 0,
            event: Event::Step(Box::new(StepRecord {
                step: 3,
                loss: 2.0,
                ..StepRecord::default()
            })),
        };
        let mut terminal = Progress::new(false, true);
        assert!(
            terminal
                .show(&record)
                .starts_with("\r\x1b[2Kstep 3/0  loss 2.0000")
        );
        let mut pipe = Progress::new(false, false);
        let line = pipe.show(&record);
        assert!(
            line.starts_with("step 3/0") && line.ends_with('\n'),
            "{line:?}"
        );
        assert_eq!(cut("abcdef", 4), "abc");
    }
}
