//! Lists runs.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::arguments::RunsArguments;
use super::output::Tone;
use super::{Context, Outcome};
use crate::backend::slurm::Slurm;
use crate::backend::steer;
use crate::event::{JobState, RunInfo};
use crate::run::{self, Status, Summary};

/// A run as `--json` prints it.
#[derive(Serialize)]
struct Entry<'a> {
    path: &'a std::path::Path,
    info: &'a RunInfo,
    #[serde(flatten)]
    summary: &'a Summary,
}

pub(super) fn run(arguments: &RunsArguments, context: &Context) -> Outcome {
    let runs = context.runs_dir();
    ask_queues(&runs);
    let found = run::list(&runs)?;
    if arguments.json {
        let entries: Vec<Entry> = found
            .iter()
            .map(|(run, summary)| Entry {
                path: &run.path,
                info: &run.info,
                summary,
            })
            .collect();
        context.out.json(&entries)?;
        return Ok(());
    }
    if found.is_empty() {
        context.out.line(format!("no runs in {}", runs.display()))?;
        return Ok(());
    }
    let width = found
        .iter()
        .map(|(run, _)| run.id().len())
        .max()
        .unwrap_or(0)
        .max(3);
    let heading = format!(
        "{:width$}  {:<8} {:>15} {:>9} {:>8} {:>8} {:>9} {:>4}",
        "run", "status", "step", "tokens", "loss", "eval", "tok/s", "mtp"
    );
    let mut text = format!("{}\n", context.out.paint(Tone::Heading, heading.trim_end()));
    for (run, summary) in &found {
        let tone = match summary.status {
            Status::Running | Status::Paused => Tone::Good,
            Status::Failed { .. } | Status::Killed => Tone::Error,
            Status::Stale => Tone::Warning,
            _ => Tone::Dim,
        };
        let id = context
            .out
            .paint(Tone::Name, format_args!("{:width$}", run.id()));
        let status = context
            .out
            .paint(tone, format_args!("{:<8}", summary.status.word()));
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
        let line = format!(
            "{id}  {status} {:>15} {:>9} {:>8} {:>8} {:>9} {:>4}",
            format!("{}/{}", summary.step, summary.total_steps),
            count(summary.tokens as f64),
            number(summary.loss_smoothed),
            number(summary.eval_loss),
            summary.tokens_per_second.map_or("-".to_owned(), count),
            summary.mtp_depth,
        );
        text.push_str(&line);
        text.push('\n');
    }
    context.out.write(text)?;
    Ok(())
}

/// Asks how launched runs fare whose end is not known. A Slurm that does not answer is asked once, and not for long.
fn ask_queues(runs: &Path) {
    let slurm = Slurm {
        limit: Duration::from_secs(5),
        ..Slurm::default()
    };
    for (run, summary) in run::list(runs).unwrap_or_default() {
        let is_open = summary.launched.is_some_and(|launched| !launched.is_over());
        if is_open {
            let state = steer::refresh(&run.path, &slurm);
            match state.map(|s| s.state) {
                Some(JobState::Unreachable) => return,
                // What it said last; while it runs that would be read again each time.
                Some(state) if state.is_final() => {
                    steer::read_console(&run.path, &mut None, true);
                }
                _ => {}
            }
        }
    }
}

/// A count with a decimal unit: `12.3k`.
fn count(value: f64) -> String {
    let (mut value, mut unit) = (value, 0);
    let units = ["", "k", "M", "B", "T"];
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}{}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_have_the_unit_that_fits() {
        assert_eq!(super::count(999.0), "999");
        assert_eq!(super::count(12_345.0), "12.3k");
        assert_eq!(super::count(2.2e9), "2.2B");
    }
}
