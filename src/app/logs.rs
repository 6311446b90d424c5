//! The Logs screen: the watched run's console, of which a window of lines is held.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::search::Query;
pub use crate::run::{Filter, Level, Line, Page, step_in};

/// Lines read at a time.
pub const PAGE: usize = 1500;
/// Lines held; those far from the cursor are read again when it comes near.
const HELD: usize = 20_000;
/// Bytes of text held.
const HELD_BYTES: usize = 32 << 20;
/// Lines between the cursor and the edge of what is held from which more is read.
const EDGE: usize = 400;

/// Where to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The last lines.
    End,
    /// The first lines.
    Start,
    /// Lines before the one that begins at this byte.
    Before(u64),
    /// Lines from the one that begins at this byte on.
    After(u64),
    /// Lines around this byte.
    Around(u64),
    /// Lines around the next one that matches, from a byte on or before it; around the end of the file if there is none.
    Match {
        /// The byte.
        from: u64,
        /// Whether later lines are looked at.
        is_forward: bool,
        /// What is looked for.
        query: Query,
    },
    /// Lines around the first one that names this step or a later one.
    Step(u64),
}

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// What was asked for: the number of the question, where it was, the lines, and the byte that the cursor goes to.
    Read {
        /// The run.
        run: PathBuf,
        /// Number of the question; an older one than the last is out of date.
        question: u64,
        /// What was asked.
        place: Place,
        /// The lines; `None` where nothing was found.
        page: Option<Page>,
        /// Where the line begins that was found.
        found: Option<u64>,
        /// Bytes of the console.
        size: u64,
    },
    /// Lines that the console gained after the last one that was read.
    Lines(PathBuf, Page),
    /// The console was cut or replaced.
    Restarted(PathBuf),
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Follow this run's console instead of the one followed before, from its end.
    Follow(PathBuf),
    /// Read lines of the followed console.
    Read {
        /// Number of the question.
        question: u64,
        /// Where.
        place: Place,
        /// What is let through.
        filter: Filter,
    },
    /// Write the lines that are let through and match to a file.
    Save {
        /// The run.
        run: PathBuf,
        /// The file.
        path: PathBuf,
        /// What is let through.
        filter: Filter,
        /// What they match.
        query: Query,
    },
}

/// A line, and how many after it say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The first of them.
    pub line: Line,
    /// How many there are, this one included.
    pub count: usize,
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The lines held, in the order of the file.
    pub entries: Vec<Entry>,
    /// The first byte that they are of.
    pub begin: u64,
    /// The byte after the last one that they are of.
    pub end: u64,
    /// Bytes of the console.
    pub size: u64,
    /// The row under the cursor.
    pub cursor: usize,
    /// Whether the cursor follows the end.
    pub follow: bool,
    /// What is let through.
    pub filter: Filter,
    /// Whether lines that say the same are shown once.
    pub collapse: bool,
    /// Ranks that were seen before a line.
    pub ranks: BTreeSet<u32>,
    /// What is looked for.
    pub query: Query,
    /// Number of the last question.
    pub question: u64,
    /// Its answer has not come.
    pub is_waiting: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            entries: vec![],
            begin: 0,
            end: 0,
            size: 0,
            cursor: 0,
            follow: true,
            filter: Filter::default(),
            collapse: true,
            ranks: BTreeSet::new(),
            query: Query::default(),
            question: 0,
            is_waiting: false,
        }
    }
}

impl State {
    /// An empty window with the same way of looking.
    pub fn anew(&self) -> Self {
        Self {
            filter: self.filter,
            collapse: self.collapse,
            query: self.query.clone(),
            question: self.question,
            ..Self::default()
        }
    }

    /// Asks for lines; what was asked before is no longer wanted.
    pub fn ask(&mut self, place: Place) -> Effect {
        self.question += 1;
        self.is_waiting = true;
        Effect::Read {
            question: self.question,
            place,
            filter: self.filter,
        }
    }

    /// Asks for what lies beyond the edge that the cursor is near, if there is more.
    pub fn ask_near(&mut self) -> Option<Effect> {
        if self.is_waiting || self.follow {
            return None;
        }
        if self.cursor < EDGE && self.begin > 0 {
            return Some(self.ask(Place::Before(self.begin)));
        }
        let is_late = self.cursor + EDGE >= self.entries.len();
        (is_late && self.end < self.size).then(|| self.ask(Place::After(self.end)))
    }

    /// Takes up the answer to the last question.
    pub fn read(&mut self, place: Place, page: Page, found: Option<u64>, size: u64) {
        self.is_waiting = false;
        self.size = size;
        for line in &page.lines {
            self.ranks.extend(line.rank);
        }
        match place {
            Place::Before(at) if at == self.begin => {
                let here = self.entry(self.cursor).map(|e| e.line.offset);
                let mut lines: Vec<Line> = page.lines;
                let later = std::mem::take(&mut self.entries);
                self.add(std::mem::take(&mut lines));
                for entry in later {
                    self.put(entry);
                }
                self.begin = page.begin;
                self.cursor = here.map_or(0, |offset| self.row_of(offset));
                self.forget(false);
            }
            Place::After(at) if at == self.end => {
                self.end = page.end;
                self.add(page.lines);
                self.forget(true);
            }
            Place::Before(_) | Place::After(_) => {}
            place => {
                self.entries.clear();
                (self.begin, self.end) = (page.begin, page.end);
                self.add(page.lines);
                let last = self.entries.len().saturating_sub(1);
                self.cursor = match (place, found) {
                    (Place::Start, _) => 0,
                    (_, Some(offset)) => self.row_of(offset),
                    (Place::Around(offset), None) => self.row_of(offset),
                    _ => last,
                };
            }
        }
    }

    /// Takes up lines that the console gained; those that do not go on where the window ends are read when they are asked for.
    pub fn extend(&mut self, page: Page) -> Option<Effect> {
        self.size = self.size.max(page.end);
        for line in &page.lines {
            self.ranks.extend(line.rank);
        }
        if self.is_waiting || (!self.follow && self.is_full()) {
            return None;
        }
        if page.begin != self.end {
            return self.follow.then(|| self.ask(Place::End));
        }
        self.end = page.end;
        self.add(page.lines);
        if self.follow {
            self.cursor = self.entries.len().saturating_sub(1);
            self.forget(true);
        }
        None
    }

    fn add(&mut self, lines: Vec<Line>) {
        for line in lines {
            self.put(Entry { line, count: 1 });
        }
    }

    /// Appends an entry, to the last one where that says the same.
    fn put(&mut self, entry: Entry) {
        if self.collapse
            && let Some(last) = self.entries.last_mut()
            && says_the_same(&last.line, &entry.line)
        {
            last.count += entry.count;
            last.line.end = entry.line.end;
        } else {
            self.entries.push(entry);
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= HELD
            || self
                .entries
                .iter()
                .map(|e| e.line.text.len())
                .sum::<usize>()
                >= HELD_BYTES
    }

    /// Lets go of lines at the beginning, or else at the end, while there are too many.
    fn forget(&mut self, at_beginning: bool) {
        let mut bytes: usize = self.entries.iter().map(|e| e.line.text.len()).sum();
        let mut over = 0;
        let count = self.entries.len();
        while count - over > HELD || (bytes > HELD_BYTES && count - over > 1) {
            let at = if at_beginning { over } else { count - 1 - over };
            bytes -= self.entries[at].line.text.len();
            over += 1;
        }
        if over == 0 {
            return;
        }
        if at_beginning {
            self.entries.drain(..over);
            self.cursor = self.cursor.saturating_sub(over);
            self.begin = self.entries.first().map_or(self.end, |e| e.line.offset);
        } else {
            self.entries.truncate(count - over);
            self.cursor = self.cursor.min(self.entries.len().saturating_sub(1));
            self.end = self.entries.last().map_or(self.begin, |e| e.line.end);
        }
    }

    /// The row of the line that holds a byte, or of the next one that is shown.
    fn row_of(&self, offset: u64) -> usize {
        let row = self.entries.partition_point(|e| e.line.end <= offset);
        row.min(self.entries.len().saturating_sub(1))
    }

    /// The entry of a row.
    pub fn entry(&self, row: usize) -> Option<&Entry> {
        self.entries.get(row)
    }

    /// The line of a row.
    pub fn line(&self, row: usize) -> Option<&Line> {
        self.entries.get(row).map(|e| &e.line)
    }

    /// Shows equal lines once, or each.
    pub fn set_collapse(&mut self, collapse: bool) -> Effect {
        self.collapse = collapse;
        self.ask_here()
    }

    /// Reads again what is around the cursor, or the end where that is followed.
    pub fn ask_here(&mut self) -> Effect {
        let here = self.line(self.cursor).map(|line| line.offset);
        match here.filter(|_| !self.follow) {
            Some(offset) => self.ask(Place::Around(offset)),
            None => self.ask(Place::End),
        }
    }

    /// The next row that matches the query, after the cursor or before it, of those held.
    pub fn match_from(&self, forward: bool) -> Option<usize> {
        let is_match = |row: &usize| {
            self.line(*row)
                .is_some_and(|line| self.query.is_match(&line.text))
        };
        if forward {
            (self.cursor + 1..self.entries.len()).find(is_match)
        } else {
            (0..self.cursor.min(self.entries.len()))
                .rev()
                .find(is_match)
        }
    }

    /// The rank after the one shown, of those that were seen; all after the last.
    pub fn next_rank(&self) -> Option<u32> {
        match self.filter.rank {
            None => self.ranks.first().copied(),
            Some(rank) => self.ranks.range(rank + 1..).next().copied(),
        }
    }
}

/// Whether two lines differ in nothing but who says it: the text behind the launcher's rank is the same.
fn says_the_same(a: &Line, b: &Line) -> bool {
    let text = |line: &Line| -> usize {
        match line.rank {
            Some(_) => line.text.find([':']).map_or(0, |i| i + 1),
            None => 0,
        }
    };
    let (a_text, b_text) = (&a.text[text(a)..], &b.text[text(b)..]);
    a.level == b.level && !a_text.trim().is_empty() && a_text.trim() == b_text.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of ten bytes each, from the `from`th on.
    fn page(from: u64, count: u64) -> Page {
        let lines = (from..from + count)
            .map(|n| Line::new(n * 10, n * 10 + 10, format!("line {n:04}").as_bytes()));
        Page {
            lines: lines.collect(),
            begin: from * 10,
            end: (from + count) * 10,
        }
    }

    fn read(state: &mut State, place: Place, page: Page) {
        let Effect::Read { .. } = state.ask(place.clone()) else {
            panic!("not a question")
        };
        state.read(place, page, None, 1_000_000);
    }

    #[test]
    fn the_window_grows_at_both_edges_and_keeps_the_cursors_line() {
        let mut state = State::default();
        read(&mut state, Place::End, page(98_500, 1500));
        assert_eq!(state.cursor, 1499);
        state.follow = false;
        state.cursor = 100;
        let here = state.line(100).map(|l| l.offset);
        let Some(Effect::Read { place, .. }) = state.ask_near() else {
            panic!("nothing asked")
        };
        assert_eq!(place, Place::Before(985_000));
        assert_eq!(state.ask_near(), None, "one question at a time");
        state.read(place, page(97_000, 1500), None, 1_000_000);
        assert_eq!(
            (state.entries.len(), state.begin, state.end),
            (3000, 970_000, 1_000_000)
        );
        assert_eq!(state.line(state.cursor).map(|l| l.offset), here);
    }

    #[test]
    fn memory_is_bounded_wherever_one_goes() {
        let mut state = State::default();
        read(&mut state, Place::Start, page(0, 1500));
        state.follow = false;
        for n in 1..40 {
            state.cursor = state.entries.len() - 1;
            let Some(Effect::Read { place, .. }) = state.ask_near() else {
                panic!("nothing asked")
            };
            assert_eq!(place, Place::After(n * 15_000));
            state.read(place, page(n * 1500, 1500), None, 1_000_000);
            assert!(state.entries.len() <= HELD);
            assert_eq!(state.begin, state.entries[0].line.offset);
        }
        assert!(state.begin > 0);
        // Lines that come while someone looks elsewhere are not taken up.
        let end = state.end;
        assert_eq!(state.extend(page(90_000, 10)), None);
        assert_eq!((state.end, state.size), (end, 1_000_000));
    }

    #[test]
    fn equal_lines_are_one_and_their_count() {
        let mut state = State::default();
        let texts = [
            "[rank0]: slow",
            "[rank1]: slow",
            "[rank2]:  slow",
            "fast",
            "fast",
            "",
            "",
        ];
        let lines = (0u64..)
            .zip(texts)
            .map(|(n, text)| Line::new(n, n + 1, text.as_bytes()));
        let all = Page {
            lines: lines.collect(),
            begin: 0,
            end: 7,
        };
        read(&mut state, Place::End, all.clone());
        let counts: Vec<usize> = state.entries.iter().map(|e| e.count).collect();
        assert_eq!(counts, [3, 2, 1, 1]);
        assert_eq!(state.ranks, [0, 1, 2].into());
        state.filter.rank = state.next_rank();
        assert_eq!(state.filter.rank, Some(0));
        state.filter.rank = Some(2);
        assert_eq!(state.next_rank(), None);
        let _ = state.set_collapse(false);
        read(&mut state, Place::End, all);
        assert_eq!(state.entries.len(), 7);
    }
}
