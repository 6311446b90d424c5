//! Following `events.jsonl` as it grows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::RunError;
use super::error::Context;
use crate::event::{Record, complete_lines, layout, parse_line};

/// The most bytes taken in one poll, so that a long history comes in pieces.
const PIECE: u64 = 16 << 20;

/// A reader of `events.jsonl` that remembers where it was.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    offset: u64,
}

/// What came since the last poll.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// New records, oldest first.
    pub records: Vec<Record>,
    /// The file was cut or replaced: `records` start at its beginning and everything read before is void.
    pub restarted: bool,
    /// Complete lines that were no records; a line torn by a killed trainer is one.
    pub bad_lines: usize,
    /// More lies ready than one poll takes.
    pub more: bool,
}

impl Tail {
    /// A reader of the events of the run at `run` from the beginning; the file may appear later.
    pub fn from_start(run: &Path) -> Self {
        Self {
            path: run.join(layout::EVENTS),
            file: None,
            inode: 0,
            offset: 0,
        }
    }

    /// A reader of what is said from now on.
    pub fn from_end(run: &Path) -> Result<Self, RunError> {
        let mut tail = Self::from_start(run);
        tail.skip_to(u64::MAX)?;
        Ok(tail)
    }

    /// A reader that starts at the line that begins at byte `offset`, or at the file's end if that is nearer.
    pub fn from_offset(run: &Path, offset: u64) -> Result<Self, RunError> {
        let mut tail = Self::from_start(run);
        tail.skip_to(offset)?;
        Ok(tail)
    }

    /// Where the next line begins, in bytes from the file's start.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), RunError> {
        if self.reopen()? {
            let file = self
                .file
                .as_mut()
                .expect("reopen says that there is a file");
            let length = file.metadata().context("read", &self.path)?.len();
            self.offset = offset.min(length);
            // The end may lie in a torn line, which is then read from its start.
            if self.offset > 0 {
                let from = self.offset.saturating_sub(1 << 20);
                let mut before = vec![0; (self.offset - from) as usize];
                file.seek(SeekFrom::Start(from))
                    .context("read", &self.path)?;
                file.read_exact(&mut before).context("read", &self.path)?;
                let torn = before.iter().rev().take_while(|&&b| b != b'\n').count();
                self.offset -= torn as u64;
            }
        }
        Ok(())
    }

    /// Opens the file if it is new or another one; says whether there is a file.
    fn reopen(&mut self) -> Result<bool, RunError> {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(self.file.is_some());
            }
            Err(error) => return Err(error).context("read", &self.path),
        };
        if self.file.is_none() || metadata.ino() != self.inode {
            let file = File::open(&self.path).context("open", &self.path)?;
            self.inode = file.metadata().context("read", &self.path)?.ino();
            self.file = Some(file);
            self.offset = 0;
        }
        Ok(true)
    }

    /// Reads the complete lines that came since the last poll.
    pub fn poll(&mut self) -> Result<Batch, RunError> {
        let before = self.offset;
        if !self.reopen()? {
            return Ok(Batch::default());
        }
        let file = self
            .file
            .as_mut()
            .expect("reopen says that there is a file");
        let length = file.metadata().context("read", &self.path)?.len();
        if length < self.offset {
            self.offset = 0;
        }
        let mut batch = Batch {
            restarted: self.offset < before,
            ..Batch::default()
        };
        let take = (length - self.offset).min(PIECE);
        if take == 0 {
            return Ok(batch);
        }
        let mut bytes = Vec::with_capacity(take as usize);
        file.seek(SeekFrom::Start(self.offset))
            .context("read", &self.path)?;
        file.take(take)
            .read_to_end(&mut bytes)
            .context("read", &self.path)?;
        let (lines, mut used) = complete_lines(&bytes);
        for line in lines {
            match line.map(parse_line) {
                Some(Ok(record)) => batch.records.push(record),
                _ => batch.bad_lines += 1,
            }
        }
        if used == 0 && bytes.len() as u64 == PIECE {
            // A line longer than a piece is none of ours.
            used = bytes.len();
            batch.bad_lines += 1;
        }
        self.offset += used as u64;
        batch.more = used > 0 && self.offset < length && take == PIECE;
        Ok(batch)
    }
}
