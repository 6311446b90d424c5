//! The bytes of one log as they come, and what their lines say.

use memchr::{memchr, memchr2, memmem};
use rayon::prelude::*;

use super::iteration::{self, Iteration};
use super::line::Line;
use super::text;

/// Of a longer line, this much is looked at at a time.
const LONGEST: usize = 64 << 10;
/// Bytes that one thread looks at at a time.
const PIECE: usize = 1 << 20;
/// Tracebacks that may be open at once; more ranks than that fail with the same words.
const TRACEBACKS: usize = 64;
/// What torch's watchdog says of a rank that waits for others in vain; no traceback comes with it.
const HUNG: &str = "Watchdog caught collective operation timeout";
/// Of an exception's text, this much is kept.
const MESSAGE: usize = 600;

/// Reads a log in pieces of any size. It holds at most one unfinished line of 64 KiB and the names of ranks whose tracebacks are open.
#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a line whose end has not come.
    torn: Vec<u8>,
    /// Ranks in whose traceback we are.
    tracebacks: Vec<Option<u32>>,
    /// Where in a timer table.
    timers: Timers,
}

/// Where in a table of timers the next line stands.
#[derive(Debug, Default)]
enum Timers {
    #[default]
    Outside,
    /// A timer a line.
    Rows,
    /// A timer, then a line for each rank; which one, and its slowest rank so far.
    Ranks(String, f64),
}

/// A line as far as it can be read without those before it.
enum Token<'a> {
    Iteration(Box<Iteration>),
    Text(&'a [u8]),
}

impl Parser {
    /// Takes the next bytes and hands what their complete lines say to `take`.
    pub fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Line)) {
        while !self.torn.is_empty() || bytes.len() <= LONGEST {
            // Complete the line that is open, or put the rest where it waits.
            let end = memchr2(b'\n', b'\r', bytes);
            let room = LONGEST - self.torn.len();
            let count = end.map_or(bytes.len(), |i| i + 1).min(room);
            let (head, tail) = bytes.split_at(count);
            self.torn.extend_from_slice(head);
            bytes = tail;
            let is_complete = end.is_some_and(|i| i < room);
            if is_complete || self.torn.len() >= LONGEST {
                let line = std::mem::take(&mut self.torn);
                self.line(line.strip_suffix(b"\n").unwrap_or(&line), take);
                self.torn = line;
                self.torn.clear();
            } else if bytes.is_empty() {
                return;
            }
            if bytes.is_empty() {
                return;
            }
        }
        let whole = memchr::memrchr(b'\n', bytes).map_or(0, |i| i + 1);
        let (lines, rest) = bytes.split_at(whole);
        let pieces = pieces(lines);
        let tokens: Vec<Vec<Token>> = if pieces.len() > 1 {
            pieces.par_iter().map(|piece| tokens(piece)).collect()
        } else {
            pieces.iter().map(|piece| tokens(piece)).collect()
        };
        for token in tokens.into_iter().flatten() {
            match token {
                Token::Iteration(iteration) => take(Line::Iteration(iteration)),
                Token::Text(line) => self.text(line, take),
            }
        }
        for part in rest.chunks(LONGEST) {
            // Shorter than what the loop above waits for, or a line that is too long.
            self.feed(part, take);
        }
    }

    /// Takes a last line that lacks its newline.
    pub fn finish(&mut self, take: &mut impl FnMut(Line)) {
        let line = std::mem::take(&mut self.torn);
        self.line(&line, take);
    }

    fn line(&mut self, line: &[u8], take: &mut impl FnMut(Line)) {
        for line in line.split(|&b| b == b'\r') {
            if let Some(found) = iterations(line) {
                for it in found {
                    take(Line::Iteration(Box::new(it)));
                }
            } else {
                self.text(line, take);
            }
        }
    }

    fn text(&mut self, line: &[u8], take: &mut impl FnMut(Line)) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let stripped;
        let line = if memchr(0x1b, line).is_some() {
            stripped = text::without_escapes(line);
            &stripped
        } else {
            line
        };
        let lossy = String::from_utf8_lossy(line);
        let (rank, payload) = text::strip_prefix(&lossy);
        if self.traceback(rank, payload, take) || self.timer(payload, take) {
            return;
        }
        if let Some(line) = text::single(payload) {
            take(line);
        } else if payload.contains(HUNG) {
            let message = payload.trim_end().chars().take(MESSAGE).collect();
            take(Line::Error { rank, message });
        }
    }

    /// Whether the line belongs to a traceback.
    fn traceback(&mut self, rank: Option<u32>, payload: &str, take: &mut impl FnMut(Line)) -> bool {
        if payload
            .trim_end()
            .ends_with("Traceback (most recent call last):")
        {
            if self.tracebacks.len() < TRACEBACKS && !self.tracebacks.contains(&rank) {
                self.tracebacks.push(rank);
            }
            return true;
        }
        let Some(at) = self.tracebacks.iter().position(|&open| open == rank) else {
            return false;
        };
        if payload.starts_with(' ') || payload.starts_with('\t') {
            return true;
        }
        let name = payload.split([':', ' ']).next().unwrap_or_default();
        let is_name = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
        let last = name.rsplit('.').next().unwrap_or_default();
        let ends_like_one = [
            "Error",
            "Exception",
            "Interrupt",
            "Exit",
            "Failure",
            "Warning",
            "Timeout",
        ]
        .iter()
        .any(|end| last.ends_with(end));
        if !(is_name && ends_like_one) {
            // Another line of the same stream: an exception with an unusual name is not told apart from it.
            return false;
        }
        self.tracebacks.swap_remove(at);
        let message: String = payload.trim_end().chars().take(MESSAGE).collect();
        take(Line::Error { rank, message });
        true
    }

    /// Whether the line belongs to a timer table.
    fn timer(&mut self, payload: &str, take: &mut impl FnMut(Line)) -> bool {
        let end = payload.trim_end();
        if end.ends_with("time across ranks (ms):") {
            self.timers = Timers::Rows;
            return true;
        }
        if end.ends_with("times across ranks (ms):") {
            self.timers = Timers::Ranks(String::new(), 0.0);
            return true;
        }
        let found = match &mut self.timers {
            Timers::Outside => return false,
            Timers::Rows => row(payload).map(|timer| vec![timer]),
            Timers::Ranks(name, slowest) => rank(payload, name, slowest),
        };
        if found.is_none() {
            self.timers = Timers::Outside;
        }
        found
            .map(|timers| timers.into_iter().for_each(take))
            .is_some()
    }
}

/// `    name ....: (min, max)`, or the maximum alone.
fn row(payload: &str) -> Option<Line> {
    let (name, value) = payload.strip_prefix("    ")?.split_once(": ")?;
    let name = name.trim_end_matches('.').trim_end();
    let value = value.trim();
    let value = value
        .strip_prefix('(')
        .map_or(Some(value), |v| v.strip_suffix(')')?.split(", ").nth(1))?;
    let ms: f64 = value.parse().ok()?;
    (!name.is_empty() && ms.is_finite()).then(|| Line::Timer {
        name: name.to_owned(),
        seconds: ms / 1000.0,
    })
}

/// `  name:` or under it `     rank  3: 61.02`, which is told where it is the slowest so far. Outside is a line that is neither.
fn rank(payload: &str, name: &mut String, slowest: &mut f64) -> Option<Vec<Line>> {
    let text = payload.strip_prefix("  ")?.trim_end();
    if let Some(of_rank) = text.trim_start().strip_prefix("rank ") {
        let (_, ms) = of_rank.split_once(": ")?;
        let ms: f64 = ms.trim().parse().ok()?;
        if name.is_empty() || !ms.is_finite() {
            return None;
        }
        if ms < *slowest {
            return Some(vec![]);
        }
        *slowest = ms;
        return Some(vec![Line::Timer {
            name: name.clone(),
            seconds: ms / 1000.0,
        }]);
    }
    text.strip_suffix(':')?.trim().clone_into(name);
    *slowest = 0.0;
    Some(vec![])
}

/// Whole lines cut into pieces of about [`PIECE`] bytes at the ends of lines.
fn pieces(mut lines: &[u8]) -> Vec<&[u8]> {
    let mut pieces = vec![];
    while !lines.is_empty() {
        let end = match lines.get(PIECE..) {
            Some(after) => memchr(b'\n', after).map_or(lines.len(), |i| PIECE + i + 1),
            None => lines.len(),
        };
        let (piece, rest) = lines.split_at(end);
        pieces.push(piece);
        lines = rest;
    }
    pieces
}

/// The lines of some whole lines.
fn tokens(lines: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::with_capacity(lines.len() / 300);
    let mut rest = lines;
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        for line in rest[..end].chunks(LONGEST) {
            match iterations(line) {
                Some(found) => {
                    tokens.extend(found.into_iter().map(|it| Token::Iteration(Box::new(it))));
                }
                None if line.is_empty() => {}
                None => tokens.push(Token::Text(line)),
            }
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    tokens
}

/// The iterations of a line, or `None` where it is a line of another kind.
fn iterations(line: &[u8]) -> Option<Vec<Iteration>> {
    let mut found = vec![];
    let mut add = |it| found.push(it);
    let is_one = if memchr(0x1b, line).is_some() && memmem::find(line, b"iteration").is_some() {
        iteration::find(&text::without_escapes(line), &mut add)
    } else {
        iteration::find(line, &mut add)
    };
    is_one.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_takes_no_more_than_one_piece() {
        let mut parser = Parser::default();
        let junk = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            parser.feed(&junk, &mut |line| panic!("{line:?}"));
            assert!(
                parser.torn.capacity() <= 2 * LONGEST,
                "{}",
                parser.torn.capacity()
            );
        }
    }

    #[test]
    fn tracebacks_that_never_end_are_not_all_kept() {
        let mut parser = Parser::default();
        for rank in 0..1000 {
            let line = format!("[rank{rank}]: Traceback (most recent call last):\n");
            parser.feed(line.as_bytes(), &mut |line| panic!("{line:?}"));
        }
        assert_eq!(parser.tracebacks.len(), TRACEBACKS);
    }
}
