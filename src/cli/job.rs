//! Says how a launched run fares, and steers it.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::arguments::JobArguments;
use super::output::Tone;
use super::{Context, Exit, Failure, Outcome};
use crate::backend::record::{self, Entry};
use crate::backend::slurm::{Backoff, JobState, QueueState, Slurm};
use crate::backend::steer::{self, Ending, SteerError};
use crate::backend::{last_checkpoint, script};
use crate::event::layout;
use crate::run::{self, RunDirectory};

pub(super) fn run(arguments: &JobArguments, context: &Context) -> Outcome {
    let run = run::find(&context.runs_dir(), &arguments.run)?;
    let script = run.join(script::SCRIPT);
    let newest = record::newest_start(&run.path);
    if arguments.resubmit {
        return resubmit(arguments, &run, context);
    }
    let Some(entry) = newest else {
        return Err(Exit::Failure
            .because(format!("{} was not launched beyond this machine", run.id()))
            .hint(if script.is_file() {
                format!("`trestle job {} --resubmit` submits its script", run.id())
            } else {
                format!(
                    "`trestle stop {}` and `trestle resume` steer our own trainer",
                    run.id()
                )
            }));
    };
    if arguments.stop || arguments.cancel {
        let how = if arguments.cancel {
            Ending::AtOnce
        } else {
            Ending::Saved
        };
        steer::end(&run, &entry, how, &Slurm::default())?;
    }
    if arguments.follow {
        return follow(&run, &entry, arguments.json, context);
    }
    let state = steer::state(&run.path, &entry, &Slurm::default());
    steer::note_change(&run.path, &entry, &state)?;
    let mut mirror = None;
    steer::read_console(&run.path, &mut mirror, state.state.is_final());
    say(&run, &entry, &state, arguments.json, context)
}

fn resubmit(arguments: &JobArguments, run: &RunDirectory, context: &Context) -> Outcome {
    let entry = steer::resubmit(run, &Slurm::default()).map_err(|error| {
        let hint = match &error {
            SteerError::NotOver { .. } => {
                Some(format!("`trestle job {} --stop` ends it", run.id()))
            }
            _ => None,
        };
        let failure = Failure::new(Exit::Failure, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    announce(run, &entry, arguments.json, context)?;
    if arguments.follow {
        return follow(run, &entry, arguments.json, context);
    }
    Ok(())
}

/// Says what was started.
pub(super) fn announce(
    run: &RunDirectory,
    entry: &Entry,
    json: bool,
    context: &Context,
) -> Outcome {
    if json {
        context
            .out
            .line(json!({ "run": run.id(), "path": run.path, "started": entry }))?;
        return Ok(());
    }
    let what = name(entry);
    let from = last_checkpoint(&run.join(layout::CHECKPOINTS))
        .map_or(String::new(), |step| format!(", from step {step}"));
    context.out.line(format_args!(
        "{} is {what}{from}; `trestle job {}` says how it fares",
        run.id(),
        run.id()
    ))?;
    Ok(())
}

fn name(entry: &Entry) -> String {
    match entry {
        Entry::Submitted { job, .. } | Entry::State { job, .. } => format!("job {job}"),
        Entry::Started { pid, host, .. } => format!("process {pid} on {host}"),
    }
}

fn say(
    run: &RunDirectory,
    entry: &Entry,
    state: &QueueState,
    json: bool,
    context: &Context,
) -> Outcome {
    let step = last_checkpoint(&run.join(layout::CHECKPOINTS));
    let summary = run::summary(&run.path).unwrap_or_default();
    if json {
        context.out.line(json!({
            "run": run.id(), "job": name(entry), "state": state, "is_final": state.state.is_final(), "last_checkpoint": step,
            "step": summary.step, "total_steps": summary.total_steps, "loss": summary.loss,
        }))?;
        return Ok(());
    }
    let tone = match state.state {
        JobState::Running | JobState::Completed => Tone::Good,
        JobState::Failed
        | JobState::TimedOut
        | JobState::NodeFailed
        | JobState::OutOfMemory
        | JobState::Vanished => Tone::Error,
        JobState::Unreachable => Tone::Warning,
        _ => Tone::Dim,
    };
    let words = state.words();
    let how = state.state.words();
    let rest = words.strip_prefix(how).unwrap_or_default();
    let mut text = format!("{} {}{rest}", name(entry), context.out.paint(tone, how));
    if summary.step > 0 {
        let _ = write!(text, ", step {}/{}", summary.step, summary.total_steps);
    }
    if let Some(loss) = summary.loss {
        let _ = write!(text, ", loss {loss:.3}");
    }
    if let Some(step) = step {
        let _ = write!(text, ", last checkpoint at step {step}");
    }
    context.out.line(text)?;
    Ok(())
}

/// Says every change until nothing more can follow. Ends with a failure unless the job is done.
pub(super) fn follow(run: &RunDirectory, entry: &Entry, json: bool, context: &Context) -> Outcome {
    let first = match entry {
        Entry::Started { .. } => Duration::from_millis(200),
        _ => Duration::from_secs(1),
    };
    let mut backoff = Backoff::new(first);
    let mut last = None;
    let mut mirror = None;
    loop {
        let now = steer::state(&run.path, entry, &Slurm::default());
        let changed = last.as_ref() != Some(&now);
        steer::read_console(&run.path, &mut mirror, now.state.is_final());
        if changed {
            steer::note_change(&run.path, entry, &now)?;
            say(run, entry, &now, json, context)?;
        }
        if now.state == JobState::Completed {
            return Ok(());
        }
        if now.state.is_final() {
            let failure = Exit::Failure.because(format!("{} {}", run.id(), now.state.words()));
            return Err(failure.hint(format!(
                "`trestle job {} --resubmit` goes on from its last checkpoint",
                run.id()
            )));
        }
        thread::sleep(backoff.after(now.state, changed));
        last = Some(now);
    }
}
