//! A long piece of work on bytes as one line that is rewritten on a terminal, and is silent elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::progress::duration;
use crate::base::Bytes;
use crate::checkpoint::convert::Progress;

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(100);

/// The line.
#[derive(Debug)]
pub(super) struct ByteProgress {
    what: &'static str,
    is_shown: bool,
    last: Mutex<Option<Instant>>,
}

impl ByteProgress {
    /// A line that begins with `what`; none if standard error is no terminal.
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            is_shown: io::stderr().is_terminal(),
            last: Mutex::new(None),
        }
    }

    /// Shows how far the work is, now and then.
    pub(super) fn show(&self, progress: Progress) {
        if !self.is_shown {
            return;
        }
        let Ok(mut last) = self.last.try_lock() else {
            return;
        };
        let is_due = last.is_none_or(|at| at.elapsed() >= EVERY);
        if is_due || progress.done == progress.total {
            *last = Some(Instant::now());
            let text = format!("\r\x1b[2K{}", line(self.what, progress));
            // Nobody is left to tell if standard error is closed.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }

    /// Takes the line away.
    pub(super) fn close(&self) {
        if self.is_shown {
            let _ = io::stderr().write_all(b"\r\x1b[2K");
        }
    }
}

/// `import  31 %  3.1 GiB of 8.0 GiB  812.0 MiB/s  6 s left`.
fn line(what: &str, progress: Progress) -> String {
    let Progress {
        done,
        total,
        resumed,
        seconds,
    } = progress;
    let percent = 100 * done / total.max(1);
    let rate = done.saturating_sub(resumed) as f64 / seconds.max(1e-3);
    let left = total.saturating_sub(done) as f64 / rate.max(1.0);
    let mut text = format!(
        "{what}  {percent} %  {} of {}  {}/s",
        Bytes(done),
        Bytes(total),
        Bytes(rate as u64)
    );
    if done < total && rate >= 1.0 {
        let _ = write!(text, "  {} left", duration(left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_already_is_no_speed() {
        let progress = Progress {
            done: 6 << 20,
            total: 8 << 20,
            resumed: 4 << 20,
            seconds: 2.0,
        };
        let expected = "import  75 %  6.0 MiB of 8.0 MiB  1.0 MiB/s  2 s left";
        assert_eq!(line("import", progress), expected);
    }
}
