//! Follows a run on standard output: a progress line for people, JSON lines for programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::output::Tone;
use super::progress::Progress;
use super::{Context, Exit, Outcome};
use crate::event::{Event, Record, RequestKind, StopKind, layout};
use crate::run::{RunDirectory, Tail, is_live, request};

/// How often new events are looked for.
const POLL: Duration = Duration::from_millis(50);
/// How long a trainer may take until it holds the run.
const START: Duration = Duration::from_secs(20);

/// How a trainer that was followed ended.
enum End {
    Finished,
    Failed { error: String, hint: Option<String> },
}

/// Follows `run` from where `tail` stands until its trainer ends.
///
/// `Ctrl-C` asks the trainer to save and stop; a second one leaves it running and returns.
pub(super) fn follow(
    run: &RunDirectory,
    mut tail: Tail,
    trainer: u32,
    json: bool,
    context: &Context,
) -> Outcome {
    let interrupts = count_interrupts()?;
    let mut asked = 0;
    let mut progress = Progress::new(context.out.color, context.out.is_terminal);
    let begin = Instant::now();
    let mut was_live = false;
    loop {
        // Asked before reading: what a trainer said before it ended is read below.
        let alive = is_live(&run.path);
        was_live |= alive;
        let batch = tail.poll()?;
        let idle = batch.records.is_empty();
        for record in &batch.records {
            if json {
                context.out.write(record.to_line())?;
            } else {
                let text = progress.show(record);
                if !text.is_empty() {
                    context.out.write(text)?;
                }
            }
            match end(record) {
                None => {}
                Some(End::Finished) => return Ok(()),
                Some(End::Failed { error, hint }) => {
                    let failure = Exit::Failure.because(error);
                    return Err(match hint {
                        Some(hint) => failure.hint(hint),
                        None => failure,
                    });
                }
            }
        }
        if idle {
            let gone = !alive && (was_live || !process_exists(trainer) || begin.elapsed() > START);
            if gone {
                return Err(ended_without_a_word(run));
            }
            let count = interrupts.load(Relaxed);
            if count > asked {
                asked = count;
                if asked > 1 {
                    return leave(run, json, context);
                }
                request(
                    run,
                    RequestKind::Stop {
                        how: StopKind::Save,
                    },
                )?;
                say(
                    json,
                    context,
                    "saves after this step and stops; Ctrl-C again leaves the trainer running",
                )?;
            }
            thread::sleep(POLL);
        }
    }
}

/// How to come back to a run that goes on without this terminal.
pub(super) fn how_to_come_back(run: &RunDirectory) -> String {
    let id = run.id();
    format!("watch it with `trestle`, end it with `trestle stop {id}`")
}

fn leave(run: &RunDirectory, json: bool, context: &Context) -> Outcome {
    say(
        json,
        context,
        &format!("{} trains on; {}", run.id(), how_to_come_back(run)),
    )
}

/// Says something that is no event: on standard output for people, nowhere for programs, which get events only.
fn say(json: bool, context: &Context, text: &str) -> Outcome {
    if !json {
        let start = if context.out.is_terminal {
            "\r\x1b[2K"
        } else {
            ""
        };
        let text = context.out.paint(Tone::Dim, text);
        context.out.line(format_args!("{start}{text}"))?;
    }
    Ok(())
}

fn end(record: &Record) -> Option<End> {
    match &record.event {
        Event::Finished { .. } => Some(End::Finished),
        Event::Failed { error, hint, .. } => Some(End::Failed {
            error: error.clone(),
            hint: hint.clone(),
        }),
        _ => None,
    }
}

fn count_interrupts() -> std::io::Result<Arc<AtomicUsize>> {
    let count = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let count = Arc::clone(&count);
        #[expect(unsafe_code, reason = "`flag` has no counter that adds up")]
        // SAFETY: an atomic addition is safe in a signal handler.
        unsafe {
            signal_hook::low_level::register(signal, move || {
                count.fetch_add(1, Relaxed);
            })
        }?;
    }
    Ok(count)
}

fn process_exists(pid: u32) -> bool {
    rustix::process::Pid::from_raw(pid as i32)
        .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// The failure of a trainer that ended without an event, with the last lines of its console.
fn ended_without_a_word(run: &RunDirectory) -> super::Failure {
    let path = run.join(layout::CONSOLE);
    let console = std::fs::read(&path).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let lines: Vec<&str> = console.lines().collect();
    let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
    let failure = Exit::Failure.because(if last.is_empty() {
        format!("the trainer of {} is gone", run.id())
    } else {
        format!(
            "the trainer of {} is gone; its last words:\n  {last}",
            run.id()
        )
    });
    failure.hint(format!(
        "`trestle resume {}` goes on from its last checkpoint",
        run.id()
    ))
}
