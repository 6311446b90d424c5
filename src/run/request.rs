//! Asking a trainer for something and waiting for what it says.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::directory::now_ms;
use super::error::Context;
use super::{RunDirectory, RunError, Tail, is_live};
use crate::event::{Event, Request, RequestKind, layout};

/// How often a waiting asker looks at the events.
const POLL: Duration = Duration::from_millis(25);

/// What the trainer said to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// At this step.
    pub step: u64,
    /// Whether it was done.
    pub ok: bool,
    /// What was done, or why not.
    pub message: String,
}

/// Appends a request to `control.jsonl` and returns its id.
///
/// The line goes out in one write to a file opened for appending, so lines of two askers never mix. A torn line that an earlier asker
/// left behind is closed first.
pub fn request(run: &RunDirectory, kind: RequestKind) -> Result<String, RunError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time_ms = now_ms();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{time_ms:x}-{:x}-{count}", std::process::id());
    let line = Request {
        id: id.clone(),
        time_ms,
        kind,
    }
    .to_line();
    let path = run.join(layout::CONTROL);
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(&path)
        .context("open", &path)?;
    let line = if ends_in_the_middle_of_a_line(&mut file).context("read", &path)? {
        format!("\n{line}")
    } else {
        line
    };
    file.write_all(line.as_bytes())
        .context("append to", &path)?;
    Ok(id)
}

fn ends_in_the_middle_of_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Waits until the trainer answers `request`, reading events from `tail`, which should have been opened before the request was made.
pub fn wait_for_answer(
    run: &RunDirectory,
    tail: &mut Tail,
    request: &str,
    timeout: Duration,
) -> Result<Answer, RunError> {
    let start = Instant::now();
    loop {
        // Asked before reading: what a trainer said before it ended is read below.
        let live = is_live(&run.path);
        for record in tail.poll()?.records {
            if let Event::Answer {
                request: id,
                step,
                ok,
                message,
            } = record.event
                && id == request
            {
                return Ok(Answer { step, ok, message });
            }
        }
        if !live {
            return Err(RunError::Ended {
                request: request.to_owned(),
            });
        }
        if start.elapsed() >= timeout {
            return Err(RunError::NoAnswer {
                request: request.to_owned(),
                seconds: start.elapsed().as_secs_f64(),
            });
        }
        thread::sleep(POLL);
    }
}
