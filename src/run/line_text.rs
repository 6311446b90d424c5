//! A line of a console: its text, how much it matters, which rank wrote it, and the step that it names.

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
        let mut level = Self::All;
        for part in line.split(|c: char| !c.is_alphanumeric()) {
            let is = |words: &[&str]| words.iter().any(|word| part.eq_ignore_ascii_case(word));
            if is(&["error", "panicked", "fatal", "failed"]) {
                return Self::Error;
            }
            if is(&["warn", "warning", "nan", "skipped"]) {
                level = Self::Warning;
            }
        }
        level
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

/// Which lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Lines that matter as much or more.
    pub level: Level,
    /// Lines of this rank; of all where there is none.
    pub rank: Option<u32>,
}

impl Filter {
    /// Whether a line is shown.
    pub fn lets_through(&self, line: &Line) -> bool {
        line.level >= self.level && self.rank.is_none_or(|rank| line.rank == Some(rank))
    }
}

/// A line and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it begins.
    pub offset: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Its text without control sequences; the beginning of one that is very long.
    pub text: String,
    /// How much it matters.
    pub level: Level,
    /// The rank that the launcher put before it.
    pub rank: Option<u32>,
}

impl Line {
    /// The line of some bytes without their newline.
    pub fn new(offset: u64, end: u64, bytes: &[u8]) -> Self {
        let text = plain(&String::from_utf8_lossy(bytes));
        Self {
            offset,
            end,
            level: Level::of(&text),
            rank: rank(&text),
            text,
        }
    }

    /// The step that it names.
    pub fn step(&self) -> Option<u64> {
        step_in(&self.text)
    }
}

/// The rank before a line: `3: `, `[default3]:`, `[rank3]: `.
fn rank(text: &str) -> Option<u32> {
    let inside = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, _) = rest.split_once("]:")?;
            inside
                .strip_prefix("default")
                .or_else(|| inside.strip_prefix("rank"))
                .unwrap_or(inside)
        }
        None => text.split_once(": ")?.0,
    };
    let is_number = !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| inside.parse().ok())?
}

/// The step that a line speaks of: the number after the word `step` or, as Megatron calls it, `iteration`.
pub fn step_in(line: &str) -> Option<u64> {
    let mut words = line
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty());
    words
        .find(|word| word.eq_ignore_ascii_case("step") || word.eq_ignore_ascii_case("iteration"))?;
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
    fn levels_steps_and_ranks_are_read_from_words() {
        assert_eq!(Level::of("warn rank0 grad norm inf"), Level::Warning);
        assert_eq!(Level::of("a warning, then an error"), Level::Error);
        assert_eq!(Level::of("thread 'main' panicked at src"), Level::Error);
        assert_eq!(Level::of("terror of a banner"), Level::All);
        assert_eq!(step_in("12:00 info step  5001 loss 2.3"), Some(5001));
        assert_eq!(
            step_in(" [2026-01-15 10:22:31] iteration       10/    2000 |"),
            Some(10)
        );
        assert_eq!(step_in("steps 10"), None);
        for (line, rank_of) in [
            ("3: [default1]:text", Some(3)),
            ("[default5]:text", Some(5)),
            ("[rank12]: text", Some(12)),
            ("[2026-01-15 10:22:31] text", None),
            ("10:22:31 text", None),
            ("text", None),
        ] {
            assert_eq!(rank(line), rank_of, "{line}");
        }
    }
}
