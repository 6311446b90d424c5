//! The Logs screen: the watched run's console.

use std::path::PathBuf;

use super::search::Query;

/// Lines kept; older ones are in the file.
const KEPT: usize = 400_000;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Everything.
    #[default]
    All,
    /// Warnings and errors.
    Warning,
    /// Errors.
    Error,
}

impl Level {
    /// The level that a line speaks of.
    pub fn of(line: &str) -> Self {
        let has = |words: &[&str]| {
            let mut parts = line.split(|c: char| !c.is_alphanumeric());
            parts.any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
        };
        if has(&["error", "panicked", "fatal", "failed"]) {
            Self::Error
        } else if has(&["warn", "warning", "nan", "skipped"]) {
            Self::Warning
        } else {
            Self::All
        }
    }

    /// The next level of the cycle.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::All => Self::Warning,
            Self::Warning => Self::Error,
            Self::Error => Self::All,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Warning => "warnings",
            Self::Error => "errors",
        }
    }
}

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// Lines that the run's console gained.
    Lines(PathBuf, Vec<String>),
    /// The console was cut or replaced.
    Restarted(PathBuf),
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Follow this run's console instead of the one followed before.
    Follow(PathBuf),
    /// Write lines to a file beside the console.
    Save {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
}

/// A line with what was found out about it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its text without control sequences.
    pub text: String,
    /// How much it matters.
    pub level: Level,
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// Lines read so far.
    pub lines: Vec<Entry>,
    /// Older lines that are no longer kept.
    pub dropped: usize,
    /// Numbers of the lines that the level lets through.
    pub shown: Vec<usize>,
    /// The row under the cursor, of those shown.
    pub cursor: usize,
    /// Whether the cursor follows the end.
    pub follow: bool,
    /// The lowest level shown.
    pub level: Level,
    /// What is looked for.
    pub query: Query,
}

impl Default for State {
    fn default() -> Self {
        Self {
            lines: vec![],
            dropped: 0,
            shown: vec![],
            cursor: 0,
            follow: true,
            level: Level::All,
            query: Query::default(),
        }
    }
}

impl State {
    /// Takes up new lines.
    pub fn extend(&mut self, lines: Vec<String>) {
        for line in lines {
            let text = plain(&line);
            let level = Level::of(&text);
            if level >= self.level {
                self.shown.push(self.lines.len());
            }
            self.lines.push(Entry { text, level });
        }
        if self.lines.len() > KEPT + KEPT / 4 {
            let over = self.lines.len() - KEPT;
            self.lines.drain(..over);
            self.dropped += over;
            self.filter();
        }
        if self.follow {
            self.cursor = self.shown.len().saturating_sub(1);
        }
    }

    /// Shows the lines of the present level; the cursor stays at its line where it can.
    pub fn filter(&mut self) {
        let at = self.shown.get(self.cursor).copied().unwrap_or(0);
        let level = self.level;
        self.shown = (0..self.lines.len())
            .filter(|&i| self.lines[i].level >= level)
            .collect();
        self.cursor = self
            .shown
            .partition_point(|&i| i < at)
            .min(self.shown.len().saturating_sub(1));
    }

    /// The line of a row.
    pub fn line(&self, row: usize) -> Option<&Entry> {
        self.lines.get(*self.shown.get(row)?)
    }

    /// The next row that matches the query, from the cursor on or back, around the end.
    pub fn match_from(&self, forward: bool) -> Option<usize> {
        let len = self.shown.len();
        let rows = (1..=len).map(|i| {
            if forward {
                (self.cursor + i) % len
            } else {
                (self.cursor + len - i) % len
            }
        });
        let mut rows = rows;
        rows.find(|&row| {
            self.line(row)
                .is_some_and(|line| self.query.is_match(&line.text))
        })
    }
}

/// The step that a line speaks of: the number after the word `step`.
pub fn step_in(line: &str) -> Option<u64> {
    let mut words = line
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty());
    words.find(|word| word.eq_ignore_ascii_case("step"))?;
    words.next()?.parse().ok()
}

/// A line without control characters and terminal sequences; a carriage return starts it over, as a progress bar does.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                // A sequence ends with its first letter.
                let _ = chars.by_ref().find(char::is_ascii_alphabetic);
            }
            '\t' => text.push_str("    "),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_what_a_terminal_would_obey() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\ttext\u{7}"), "red    text");
        assert_eq!(plain("10 %\r20 %\r\n".trim_end_matches('\n')), "20 %");
    }

    #[test]
    fn levels_and_steps_are_read_from_words() {
        assert_eq!(Level::of("warn rank0 grad norm inf"), Level::Warning);
        assert_eq!(Level::of("thread 'main' panicked at src"), Level::Error);
        assert_eq!(Level::of("terror of a banner"), Level::All);
        assert_eq!(step_in("12:00 info step  5001 loss 2.3"), Some(5001));
        assert_eq!(step_in("steps 10"), None);
    }

    #[test]
    fn the_filter_keeps_the_cursor_near_its_line() {
        let mut state = State {
            follow: false,
            ..State::default()
        };
        state.extend(
            (0..100)
                .map(|i| {
                    if i % 10 == 0 {
                        format!("warn {i}")
                    } else {
                        format!("{i}")
                    }
                })
                .collect(),
        );
        state.cursor = 42;
        state.level = Level::Warning;
        state.filter();
        assert_eq!(
            state.line(state.cursor).map(|l| l.text.as_str()),
            Some("warn 50")
        );
    }
}
