//! Watches a run that another program trains.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::arguments::WatchArguments;
use super::output::Tone;
use super::{Context, Exit, Failure, Outcome, workbench};
use crate::backend::foreign::{ForeignError, Kind, Mirror, Options, cache_folder, list_among};
use crate::event::{Event, Record, StepRecord};
use crate::run::{Batch, Tail};

/// Between looks at the sources.
const POLL: Duration = Duration::from_millis(200);

pub(super) fn run(arguments: &WatchArguments, context: &Context) -> Outcome {
    let options = Options {
        seq_length: arguments.seq_length,
        utc_offset_minutes: arguments.utc_offset,
        peak_tflops: arguments.peak_tflops,
        ..Options::default()
    };
    let cache = cache_folder().ok_or_else(|| failure(ForeignError::NoCache))?;
    let mirror = Mirror::open(&arguments.path, &cache, options).map_err(failure)?;
    let prints =
        arguments.print || arguments.json || arguments.once || !std::io::stdout().is_terminal();
    if prints {
        print(mirror, arguments, context)
    } else {
        open(mirror, &cache, context)
    }
}

fn failure(error: ForeignError) -> Failure {
    match error {
        ForeignError::NothingThere { .. } => Failure::new(Exit::Data, error)
            .hint("logs end in .out, .err, .log or .txt or begin with slurm-; any file can be named itself"),
        ForeignError::NoCache => {
            Failure::new(Exit::Failure, error).hint("set HOME or XDG_CACHE_HOME")
        }
        ForeignError::Io { action: "read", .. } => Failure::new(Exit::Data, error),
        other => Failure::new(Exit::Failure, other),
    }
}

/// Opens the workbench on the run.
fn open(mut mirror: Mirror, cache: &Path, context: &Context) -> Outcome {
    let run = mirror.folder().to_owned();
    let runs = context.runs_dir();
    // Among the user's own runs where there are some, so that they can be compared.
    let listed = if runs.is_dir() {
        list_among(&run, &runs).then_some(runs)
    } else {
        None
    };
    let stop = Arc::new(AtomicBool::new(false));
    let follower = thread::Builder::new().name("watch".into()).spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                // A source that cannot be read now may be back at the next look.
                let _ = mirror.poll();
                thread::sleep(POLL);
            }
        }
    })?;
    let outcome = workbench::open(
        None,
        Some(listed.unwrap_or_else(|| cache.to_owned())),
        Some(run.clone()),
        context,
    );
    stop.store(true, Ordering::Relaxed);
    let _ = follower.join();
    outcome?;
    context.out.line(format_args!(
        "read from {}; deleting it loses nothing",
        run.display()
    ))?;
    Ok(())
}

/// Prints the run until it ends.
fn print(mut mirror: Mirror, arguments: &WatchArguments, context: &Context) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    if arguments.once {
        mirror.settle(true).map_err(failure)?;
    }
    if !arguments.json {
        let what = match mirror.sources().kind() {
            Kind::Log => "log",
            Kind::TensorBoard => "event file",
        };
        let count = mirror.sources().paths().count();
        let plural = if count == 1 { "" } else { "s" };
        let who = if mirror.is_writer() {
            ""
        } else {
            ", which another process keeps"
        };
        let text = format!(
            "{count} {what}{plural}; as a run in {}{who}",
            mirror.folder().display()
        );
        context.out.line(context.out.paint(Tone::Dim, text))?;
    }
    let mut tail = Tail::from_start(mirror.folder());
    let mut printer = Printer::default();
    let mut failed = None;
    loop {
        let Batch {
            records,
            restarted,
            more,
            ..
        } = tail.poll()?;
        if restarted {
            printer = Printer::default();
        }
        let mut text = String::new();
        for record in &records {
            failed = match &record.event {
                Event::Failed { error, .. } => Some(error.clone()),
                Event::Started { .. } | Event::Step(_) => None,
                _ => failed,
            };
            if arguments.json {
                text.push_str(&record.to_line());
            } else if let Some((tone, line)) = printer.line(record) {
                let line = match tone {
                    Some(tone) => context.out.paint(tone, line),
                    None => line,
                };
                let _ = writeln!(text, "{line}");
            }
        }
        if !text.is_empty() {
            context.out.write(text)?;
        }
        if more {
            continue;
        }
        let over = arguments.once || (mirror.is_over() && records.is_empty());
        if over || stop.load(Ordering::Relaxed) {
            break;
        }
        if mirror.poll().map_err(failure)?.records == 0 {
            thread::sleep(POLL);
        }
    }
    match failed {
        Some(error) => Err(Exit::Failure.because(error)),
        None => Ok(()),
    }
}

/// Makes lines for people.
#[derive(Debug, Default)]
struct Printer {
    total_steps: u64,
}

impl Printer {
    fn line(&mut self, record: &Record) -> Option<(Option<Tone>, String)> {
        let (tone, text) = match &record.event {
            Event::Started {
                segment,
                step,
                total_steps,
                program,
                parameters,
                resumed_from,
                ..
            } => {
                self.total_steps = *total_steps;
                let mut line = format!("segment {segment}: {program} trains");
                if *parameters > 0 {
                    let _ = write!(line, " {:.2} B parameters", *parameters as f64 / 1e9);
                }
                let _ = write!(line, " to step {total_steps}");
                if let Some(from) = resumed_from {
                    let _ = write!(line, ", from step {step} ({from})");
                }
                (Tone::Heading, line)
            }
            Event::Step(step) => return Some((None, self.step(step))),
            Event::Eval { step, loss, .. } => (
                Tone::Name,
                format!("step {step}  validation loss {loss:.4}"),
            ),
            Event::Checkpoint { step, path, .. } => {
                (Tone::Dim, format!("step {step}  saved {path}"))
            }
            Event::Warning {
                step,
                code,
                message,
            } => (
                Tone::Warning,
                format!("step {step}  warning[{code}]: {message}"),
            ),
            Event::Mark { step, note } => (Tone::Name, format!("step {step}  {note}")),
            Event::Finished { step, reason, .. } => {
                (Tone::Good, format!("ended at step {step}: {reason}"))
            }
            // The failure of the command says what went wrong.
            _ => return None,
        };
        Some((Some(tone), text))
    }

    fn step(&self, step: &StepRecord) -> String {
        let mut line = format!(
            "step {}/{}  loss {}",
            step.step,
            self.total_steps,
            number(step.loss, 4)
        );
        for (i, depth) in step.mtp.iter().enumerate() {
            let _ = write!(line, "  mtp_{} {}", i + 1, number(depth.loss, 4));
        }
        let _ = write!(line, "  grad {}", number(step.grad_norm, 3));
        if step.lr.is_finite() {
            let _ = write!(line, "  lr {:.2e}", step.lr);
        }
        let _ = write!(line, "  {} s", number(step.step_seconds, 2));
        if step.tokens_per_second.is_finite() {
            let _ = write!(line, "  {:.0} tok/s", step.tokens_per_second);
        }
        if step.mfu > 0.0 {
            let _ = write!(line, "  MFU {:.1} %", 100.0 * step.mfu);
        }
        if step.skipped {
            line.push_str("  skipped");
        }
        line
    }
}

/// A number, or a dash where there is none.
fn number(value: f64, digits: usize) -> String {
    if value.is_finite() {
        format!("{value:.digits$}")
    } else {
        "-".to_owned()
    }
}
