//! Says how a launched run fares, and steers it.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::arguments::JobArguments;
use super::output::Tone;
use super::{Context, Exit, Outcome};
use crate::backend::record::{self, Entry};
use crate::backend::slurm::{Backoff, JobState, QueueState, Slurm};
use crate::backend::{last_checkpoint, script, torchrun};
use crate::event::layout;
use crate::run::{self, RunDirectory};

/// How long torchrun may take for a last checkpoint.
const PATIENCE: Duration = Duration::from_mins(5);

pub(super) fn run(arguments: &JobArguments, context: &Context) -> Outcome {
    let run = run::find(&context.runs_dir(), &arguments.run)?;
    let script = run.join(script::SCRIPT);
    let newest = record::newest_start(&run.path);
    if arguments.resubmit {
        return resubmit(arguments, &run, newest.as_ref(), context);
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
        steer(arguments, &run, &entry)?;
    }
    if arguments.follow {
        return follow(&run, &entry, arguments.json, context);
    }
    let state = state(&run, &entry);
    note_change(&run, &entry, &state)?;
    say(&run, &entry, &state, arguments.json, context)
}

fn steer(arguments: &JobArguments, run: &RunDirectory, entry: &Entry) -> Outcome {
    match entry {
        Entry::Submitted { job, .. } => {
            let slurm = Slurm::default();
            // A job that has not begun has nothing to save, and no shell to hear a signal.
            let waits = slurm.state(job, &run.path).state == JobState::Pending;
            if arguments.cancel || waits {
                slurm.cancel(job)?;
            } else {
                slurm.stop(job)?;
            }
        }
        Entry::Started {
            pid, started, host, ..
        } => {
            if *host != torchrun::host() {
                return Err(Exit::Failure.because(format!(
                    "{} runs on {host}; it can be stopped there",
                    run.id()
                )));
            }
            let patience = if arguments.cancel {
                Duration::ZERO
            } else {
                PATIENCE
            };
            torchrun::stop(*pid, *started, patience);
        }
        Entry::State { .. } => {}
    }
    Ok(())
}

fn resubmit(
    arguments: &JobArguments,
    run: &RunDirectory,
    newest: Option<&Entry>,
    context: &Context,
) -> Outcome {
    let script = run.join(script::SCRIPT);
    if !script.is_file() {
        return Err(Exit::Failure.because(format!("{} is missing", script.display())));
    }
    if let Some(entry) = newest {
        let state = state(run, entry);
        if !state.state.is_final() {
            return Err(Exit::Failure
                .because(format!("{} {}", run.id(), state.state.words()))
                .hint(format!("`trestle job {} --stop` ends it", run.id())));
        }
        note_change(run, entry, &state)?;
    }
    let entry = match newest {
        Some(Entry::Started { .. }) => torchrun::start(&run.path, &script)?,
        Some(Entry::Submitted { profile, .. }) => submit(run, profile)?,
        _ => submit(run, "")?,
    };
    record::note(&run.path, &entry)?;
    announce(run, &entry, arguments.json, context)?;
    if arguments.follow {
        return follow(run, &entry, arguments.json, context);
    }
    Ok(())
}

fn submit(run: &RunDirectory, profile: &str) -> Result<Entry, super::Failure> {
    Ok(Entry::Submitted {
        job: Slurm::default().submit(&run.join(script::SCRIPT))?,
        profile: profile.to_owned(),
        at_ms: record::now_ms(),
    })
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

/// How the start `entry` fares.
fn state(run: &RunDirectory, entry: &Entry) -> QueueState {
    match entry {
        Entry::Submitted { job, .. } | Entry::State { job, .. } => {
            Slurm::default().state(job, &run.path)
        }
        Entry::Started {
            pid, started, host, ..
        } => {
            if *host != torchrun::host() {
                return QueueState {
                    reason: Some(format!("it runs on {host}")),
                    ..QueueState::new(JobState::Other)
                };
            }
            let (state, exit_code) = match torchrun::state(&run.path, *pid, *started) {
                torchrun::State::Running => (JobState::Running, None),
                torchrun::State::Ended(0) => (JobState::Completed, Some(0)),
                torchrun::State::Ended(code) => (JobState::Failed, Some(code)),
                torchrun::State::Gone => (JobState::Vanished, None),
            };
            QueueState {
                exit_code,
                ..QueueState::new(state)
            }
        }
    }
}

/// Notes a state that differs from the one before; what nobody could be asked about is not noted.
fn note_change(run: &RunDirectory, entry: &Entry, state: &QueueState) -> Outcome {
    let job = match entry {
        Entry::Submitted { job, .. } | Entry::State { job, .. } => job.clone(),
        Entry::Started { pid, .. } => pid.to_string(),
    };
    if state.state != JobState::Unreachable
        && record::newest_state(&run.path, &job).as_ref() != Some(state)
    {
        let state = state.clone();
        let at_ms = record::now_ms();
        record::note(&run.path, &Entry::State { job, state, at_ms })?;
    }
    Ok(())
}

fn say(
    run: &RunDirectory,
    entry: &Entry,
    state: &QueueState,
    json: bool,
    context: &Context,
) -> Outcome {
    let step = last_checkpoint(&run.join(layout::CHECKPOINTS));
    if json {
        context.out.line(json!({
            "run": run.id(), "job": name(entry), "state": state, "is_final": state.state.is_final(), "last_checkpoint": step,
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
    let mut text = format!(
        "{} {}",
        name(entry),
        context.out.paint(tone, state.state.words())
    );
    if let Some(reason) = &state.reason {
        let _ = write!(text, " ({reason}");
        text += &state.limit().map_or(")".to_owned(), |l| format!(": {l})"));
    }
    if let Some(nodes) = &state.nodes {
        let _ = write!(text, " on {nodes}");
    }
    match (state.state, &state.start) {
        (JobState::Pending, Some(start)) => {
            let _ = write!(text, ", expected to start {start}");
        }
        (JobState::Running, Some(start)) => {
            let _ = write!(text, " since {start}");
        }
        _ => {}
    }
    if let Some(code) = state.exit_code.filter(|code| *code != 0) {
        let _ = write!(text, ", exit code {code}");
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
    loop {
        let now = state(run, entry);
        let changed = last.as_ref() != Some(&now);
        if changed {
            note_change(run, entry, &now)?;
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
