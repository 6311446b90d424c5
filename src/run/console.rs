//! A console of any size, read where it is looked at.
//!
//! Nothing of it is kept: a page is a number of lines before or after a byte, so that the end of a log of a hundred gigabytes is there as fast as
//! that of a small one. Only lines that end in a newline count.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use memchr::{memchr, memrchr};

use super::line_text::{Filter, Line};

/// Bytes read at a time.
const CHUNK: u64 = 256 << 10;
/// Of a longer line, the beginning is shown.
const SHOWN: usize = 16 << 10;
/// Within so many bytes a line that names a step is looked for.
const NEAR: u64 = 4 << 20;

/// An open console.
#[derive(Debug)]
pub struct Console {
    file: File,
    inode: u64,
}

/// Some lines of a console and which bytes they are of, those that the filter hides among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The lines that the filter lets through, in the order of the file.
    pub lines: Vec<Line>,
    /// Where the first line begins that was looked at.
    pub begin: u64,
    /// Where the line after the last one begins that was looked at.
    pub end: u64,
}

/// How much is read, and whether it is still wanted.
#[derive(Clone, Copy)]
pub struct Want<'a> {
    /// What is let through.
    pub filter: Filter,
    /// So many lines.
    pub lines: usize,
    /// Says that nobody waits for it any more.
    pub is_void: &'a dyn Fn() -> bool,
}

impl Console {
    /// Opens the file at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    /// Its bytes now.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether `path` still names this file.
    pub fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| m.ino() == self.inode)
    }

    /// Lines from the one that begins at `from` on.
    pub fn after(&self, from: u64, want: Want) -> io::Result<Page> {
        let mut page = Page {
            begin: from,
            end: from,
            lines: vec![],
        };
        self.each(from, u64::MAX, &mut |line| {
            page.end = line.end;
            if want.filter.lets_through(&line) {
                page.lines.push(line);
            }
            page.lines.len() < want.lines && !(want.is_void)()
        })?;
        Ok(page)
    }

    /// The last lines before the one that begins at `to`.
    pub fn before(&self, to: u64, want: Want) -> io::Result<Page> {
        let mut page = Page {
            begin: to,
            end: to,
            lines: vec![],
        };
        while page.begin > 0 && page.lines.len() < want.lines && !(want.is_void)() {
            let begin = self.start_of_line(page.begin.saturating_sub(CHUNK))?;
            let mut lines = vec![];
            self.each(begin, page.begin, &mut |line| {
                if want.filter.lets_through(&line) {
                    lines.push(line);
                }
                true
            })?;
            lines.append(&mut page.lines);
            (page.lines, page.begin) = (lines, begin);
        }
        let over = page.lines.len().saturating_sub(want.lines);
        if over > 0 {
            page.lines.drain(..over);
            page.begin = page.lines[0].offset;
        }
        Ok(page)
    }

    /// The last lines of the file.
    pub fn last(&self, want: Want) -> io::Result<Page> {
        let end = self.end_of_lines()?;
        self.before(end, want)
    }

    /// Lines on both sides of the one that holds byte `at`.
    pub fn around(&self, at: u64, want: Want) -> io::Result<Page> {
        let at = self.start_of_line(at)?;
        let half = Want {
            lines: want.lines.div_ceil(2),
            ..want
        };
        let mut page = self.before(at, half)?;
        let after = self.after(at, half)?;
        page.lines.extend(after.lines);
        page.end = after.end;
        Ok(page)
    }

    /// Where the next line begins that is let through and matches, from `from` on or, backwards, before it.
    pub fn find(
        &self,
        from: u64,
        is_forward: bool,
        want: Want,
        matches: &mut dyn FnMut(&str) -> bool,
    ) -> io::Result<Option<u64>> {
        let mut found = None;
        if is_forward {
            self.each(from, u64::MAX, &mut |line| {
                if want.filter.lets_through(&line) && matches(&line.text) {
                    found = Some(line.offset);
                }
                found.is_none() && !(want.is_void)()
            })?;
            return Ok(found);
        }
        let mut to = from;
        while to > 0 && found.is_none() && !(want.is_void)() {
            let begin = self.start_of_line(to.saturating_sub(CHUNK))?;
            self.each(begin, to, &mut |line| {
                if want.filter.lets_through(&line) && matches(&line.text) {
                    found = Some(line.offset);
                }
                true
            })?;
            to = begin;
        }
        Ok(found)
    }

    /// Where the first line begins that names `step` or a later one, in a log whose steps rise: found by halves.
    pub fn line_of_step(&self, step: u64) -> io::Result<Option<u64>> {
        let first_step = |from: u64, to: u64| -> io::Result<Option<Line>> {
            let mut found = None;
            self.each(from, to, &mut |line| {
                if line.step().is_some() {
                    found = Some(line);
                }
                found.is_none()
            })?;
            Ok(found)
        };
        let (mut low, mut high) = (0, self.end_of_lines()?);
        while high - low > CHUNK {
            let middle = self.start_of_line(low + (high - low) / 2)?;
            if middle <= low {
                break;
            }
            match first_step(middle, high.min(middle + NEAR))? {
                Some(line) if line.step().is_some_and(|s| s < step) => low = line.end,
                _ => high = middle,
            }
        }
        let mut found = None;
        self.each(low, u64::MAX, &mut |line| {
            if line.step().is_some_and(|s| s >= step) {
                found = Some(line.offset);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Where the line begins that holds byte `at`.
    pub fn start_of_line(&self, mut at: u64) -> io::Result<u64> {
        let mut bytes = vec![];
        while at > 0 {
            let from = at.saturating_sub(CHUNK);
            self.read(from, (at - from) as usize, &mut bytes)?;
            if let Some(i) = memrchr(b'\n', &bytes) {
                return Ok(from + i as u64 + 1);
            }
            at = from;
        }
        Ok(0)
    }

    /// Where the last line ends that has its newline.
    fn end_of_lines(&self) -> io::Result<u64> {
        self.start_of_line(self.size()?)
    }

    /// Hands every line between two beginnings of lines to `take`, until it says that it is enough.
    fn each(&self, from: u64, to: u64, take: &mut dyn FnMut(Line) -> bool) -> io::Result<()> {
        let mut bytes = vec![];
        let mut at = from;
        // The beginning of a line whose end is in a later chunk, and where it begins.
        let (mut open, mut begin) = (Vec::new(), from);
        while at < to {
            let count = CHUNK.min(to - at) as usize;
            self.read(at, count, &mut bytes)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let mut rest = &bytes[..];
            while let Some(i) = memchr(b'\n', rest) {
                keep(&mut open, &rest[..i]);
                at += i as u64 + 1;
                rest = &rest[i + 1..];
                let line = Line::new(begin, at, &open);
                open.clear();
                begin = at;
                if !take(line) {
                    return Ok(());
                }
            }
            keep(&mut open, rest);
            at += rest.len() as u64;
        }
        Ok(())
    }

    /// Reads up to `count` bytes, fewer only at the end of the file.
    fn read(&self, from: u64, count: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(count, 0);
        let mut filled = 0;
        while filled < count {
            match self
                .file
                .read_at(&mut bytes[filled..], from + filled as u64)
            {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(())
    }
}

/// Appends what of a line is shown.
fn keep(open: &mut Vec<u8>, more: &[u8]) {
    let room = SHOWN.saturating_sub(open.len());
    open.extend_from_slice(&more[..more.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::run::Level;

    fn console(text: &[u8]) -> (tempfile::NamedTempFile, Console) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text).expect("written");
        let console = Console::open(file.path()).expect("opened");
        (file, console)
    }

    fn want(lines: usize) -> Want<'static> {
        Want {
            filter: Filter::default(),
            lines,
            is_void: &|| false,
        }
    }

    fn texts(page: &Page) -> Vec<&str> {
        page.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn pages_meet_without_a_gap_whichever_way_they_are_read() {
        let lines: Vec<String> = (0..30_000)
            .map(|n| format!("line {n} {}\n", "x".repeat(n % 60)))
            .collect();
        let text = lines.concat();
        let (_file, console) = console(text.as_bytes());
        let all = console.after(0, want(usize::MAX)).expect("read");
        assert_eq!((all.lines.len(), all.end), (30_000, text.len() as u64));
        let mut back = vec![];
        let mut to = all.end;
        while to > 0 {
            let page = console.before(to, want(777)).expect("read");
            assert_eq!(page.end, to);
            to = page.begin;
            back.splice(0..0, page.lines);
        }
        assert_eq!(back, all.lines);
        let last = console.last(want(2)).expect("read");
        assert_eq!(last.lines, all.lines[29_998..]);
        let middle = console
            .around(all.lines[500].offset + 3, want(10))
            .expect("read");
        assert_eq!(middle.lines, all.lines[495..505]);
    }

    #[test]
    fn a_torn_last_line_waits_and_a_huge_one_is_shown_in_part() {
        let mut text = b"first\n".to_vec();
        text.extend(vec![b'y'; 3 << 20]);
        text.extend(b"\nlast\ntorn");
        let (_file, console) = console(&text);
        let page = console.last(want(10)).expect("read");
        assert_eq!(page.lines.len(), 3);
        assert_eq!(
            (page.lines[0].text.as_str(), page.lines[2].text.as_str()),
            ("first", "last")
        );
        assert_eq!(page.lines[1].text.len(), SHOWN);
        assert_eq!(page.lines[1].end - page.lines[1].offset, (3 << 20) + 1);
        assert_eq!(page.end, text.len() as u64 - 4);
    }

    #[test]
    fn filters_reach_over_what_they_hide() {
        let text: String = (0..50_000)
            .map(|n| match n {
                17 => "3: error of rank three\n".to_owned(),
                40_000 => "[default7]:warning: low\n".to_owned(),
                n => format!("[rank{}]: step {n} is fine\n", n % 4),
            })
            .collect();
        let (_file, console) = console(text.as_bytes());
        let filtered = |level, rank, lines| Want {
            filter: Filter { level, rank },
            ..want(lines)
        };
        let page = console
            .last(filtered(Level::Warning, None, 5))
            .expect("read");
        assert_eq!(
            texts(&page),
            ["3: error of rank three", "[default7]:warning: low"]
        );
        assert_eq!((page.begin, page.end), (0, text.len() as u64));
        let page = console
            .last(filtered(Level::All, Some(3), 1))
            .expect("read");
        assert_eq!(texts(&page), ["[rank3]: step 49999 is fine"]);
        let page = console
            .after(0, filtered(Level::Error, Some(3), 9))
            .expect("read");
        assert_eq!(texts(&page), ["3: error of rank three"]);
        let error = page.lines[0].offset;
        let mut is_low = |text: &str| text.contains("low");
        let found = console.find(0, true, want(0), &mut is_low).expect("read");
        let low = found.expect("there is one");
        assert!(low > error);
        let mut is_error = |text: &str| text.contains("error");
        let found = console
            .find(low, false, want(0), &mut is_error)
            .expect("read");
        assert_eq!(found, Some(error));
        let line = console
            .line_of_step(31_234)
            .expect("read")
            .expect("there is one");
        let page = console.after(line, want(1)).expect("read");
        assert_eq!(texts(&page), ["[rank2]: step 31234 is fine"]);
        assert_eq!(console.line_of_step(60_000).expect("read"), None);
    }
}
