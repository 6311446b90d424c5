//! A download as text for people: on a terminal a line a file under way and one for all, rewritten; elsewhere a line a file.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::progress::{cut, duration};
use crate::base::Bytes;
use crate::hub::{FileProgress, Progress, Stage};

/// How often the sum is said where lines cannot be rewritten.
const SAY: Duration = Duration::from_secs(10);

/// What the lines are made from.
#[derive(Debug)]
pub(super) struct Display {
    rewrites: bool,
    silent: bool,
    /// Lines on the terminal that will be rewritten.
    open_lines: usize,
    /// Which files were said to be done.
    said: Vec<bool>,
    /// When the sum was said.
    said_at: Instant,
}

impl Display {
    /// `rewrites` says that standard error is a terminal; elsewhere `quiet` says nothing at all.
    pub(super) fn new(rewrites: bool, quiet: bool) -> Self {
        Self {
            rewrites,
            silent: quiet && !rewrites,
            open_lines: 0,
            said: Vec::new(),
            said_at: Instant::now(),
        }
    }

    /// What to write for `progress`.
    pub(super) fn show(&mut self, progress: &Progress) -> String {
        if self.silent {
            return String::new();
        }
        let is_first = self.said.is_empty();
        self.said.resize(progress.files.len(), false);
        let mut finished = String::new();
        for (file, said) in progress.files.iter().zip(&mut self.said) {
            let is_done = file.stage == Stage::Done;
            if is_done && !*said && file.received.0 > 0 {
                let _ = writeln!(finished, "{}  {}", file.name, file.size);
            }
            *said = is_done;
        }
        if self.rewrites {
            return self.rewrite(progress, &finished);
        }
        if !is_first && self.said_at.elapsed() >= SAY {
            self.said_at = Instant::now();
            finished += &sum(progress);
            finished.push('\n');
        }
        finished
    }

    fn rewrite(&mut self, progress: &Progress, finished: &str) -> String {
        let columns = columns();
        let mut text = self.close();
        text += finished;
        let under_way = |file: &&FileProgress| !matches!(file.stage, Stage::Waiting | Stage::Done);
        let lines: Vec<String> = progress.files.iter().filter(under_way).map(line).collect();
        for line in lines.iter().chain([&sum(progress)]) {
            text += cut(line, columns);
            text.push('\n');
        }
        self.open_lines = lines.len() + 1;
        text
    }

    /// What takes the open lines away.
    pub(super) fn close(&mut self) -> String {
        match std::mem::take(&mut self.open_lines) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }
}

/// A file under way.
fn line(file: &FileProgress) -> String {
    let percent = 100.0 * file.done.0 as f64 / file.size.0.max(1) as f64;
    let state = match &file.stage {
        Stage::Locked => "another process downloads it".to_owned(),
        Stage::Checking => "checks what is there".to_owned(),
        Stage::Pausing(why) => format!("tries again: {why}"),
        _ => speed(file.bytes_per_second, file.left()),
    };
    format!("  {}  {percent:.0} % of {}  {state}", file.name, file.size)
}

/// All files.
fn sum(progress: &Progress) -> String {
    let done = progress.files.iter().filter(|f| f.stage == Stage::Done);
    format!(
        "{}/{} files  {} of {}  {}",
        done.count(),
        progress.files.len(),
        progress.done,
        progress.total,
        speed(progress.bytes_per_second, progress.left())
    )
}

fn speed(bytes_per_second: f64, left: Option<Duration>) -> String {
    let speed = format!("{}/s", Bytes(bytes_per_second as u64));
    match left {
        Some(left) => format!("{speed}  {} left", duration(left.as_secs_f64())),
        None => speed,
    }
}

/// Columns of the terminal; 80 if it does not say.
fn columns() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col as usize,
        _ => 80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, done: u64, stage: Stage) -> FileProgress {
        FileProgress {
            name: name.to_owned(),
            size: Bytes(2048),
            done: Bytes(done),
            received: Bytes(done),
            stage,
            bytes_per_second: 512.0,
        }
    }

    fn progress(files: Vec<FileProgress>) -> Progress {
        Progress {
            total: files.iter().map(|file| file.size).sum(),
            done: files.iter().map(|file| file.done).sum(),
            received: Bytes(0),
            bytes_per_second: 1024.0,
            files,
        }
    }

    #[test]
    fn a_terminal_has_a_line_a_file_under_way_and_one_for_all() {
        let mut display = Display::new(true, false);
        let first = display.show(&progress(vec![
            file("a", 1024, Stage::Downloading),
            file("b", 0, Stage::Pausing("reset".into())),
            file("c", 0, Stage::Waiting),
        ]));
        assert_eq!(
            first,
            "  a  50 % of 2.0 KiB  512 B/s  2 s left\n  b  0 % of 2.0 KiB  tries again: reset\n\
             0/3 files  1.0 KiB of 6.0 KiB  1.0 KiB/s  5 s left\n"
        );
        let second = display.show(&progress(vec![file("a", 2048, Stage::Done)]));
        assert_eq!(
            second,
            "\x1b[3A\r\x1b[Ja  2.0 KiB\n1/1 files  2.0 KiB of 2.0 KiB  1.0 KiB/s  0 s left\n"
        );
        assert_eq!(display.close(), "\x1b[1A\r\x1b[J");
    }

    #[test]
    fn a_pipe_has_a_line_a_file() {
        let mut display = Display::new(false, false);
        let half = progress(vec![file("a", 1024, Stage::Downloading)]);
        let whole = progress(vec![file("a", 2048, Stage::Done)]);
        assert_eq!(display.show(&half), "");
        assert_eq!(display.show(&whole), "a  2.0 KiB\n");
        assert_eq!(display.show(&whole), "");
        assert_eq!(Display::new(false, true).show(&whole), "");
    }
}
