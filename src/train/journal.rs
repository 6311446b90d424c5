//! Appends records to `events.jsonl` so that a reader never sees a wrong one.
//!
//! A record is one line in one write. A torn last line that a killed trainer left is cut off before the first append. When the disk is full,
//! what was written of a line is cut off again and the lines wait in memory until there is space: bytes at an offset never change once
//! their line is complete.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::{Event, Record, VERSION, layout};

use super::TrainError;
use super::error::is_full;
use super::history::History;

/// Bytes that may wait for disk space before training waits too.
const PENDING_LIMIT: usize = 4 << 20;

/// The open `events.jsonl`.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes of complete lines in the file.
    length: u64,
    next_seq: u64,
    /// Complete lines that wait for disk space.
    pending: Vec<u8>,
    /// Whether a torn line was cut off at the start.
    repaired: bool,
    /// Whether the disk was full when it was last written to.
    full: bool,
}

/// How an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Append {
    /// Everything is in the file.
    Written,
    /// Everything is in the file, after some had waited for space.
    Recovered,
    /// The disk is full; records wait in memory.
    Waiting,
    /// The disk is full and so many records wait that training should wait too.
    Overflowing,
}

impl Journal {
    /// Opens the journal of `run`, cuts off a torn last line and reads what earlier trainers said.
    pub(super) fn open(run: &Path) -> Result<(Self, History), TrainError> {
        let path = run.join(layout::EVENTS);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| TrainError::write(&path, e))?;
        let read = |e| TrainError::read(&path, e);
        let size = file.metadata().map_err(read)?.len();
        let length = end_of_last_line(&mut file, size).map_err(read)?;
        let repaired = length < size;
        if repaired {
            file.set_len(length)
                .map_err(|e| TrainError::write(&path, e))?;
        }
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        let mut history = History::default();
        let mut reader = BufReader::with_capacity(1 << 20, (&mut file).take(length));
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(read)? == 0 {
                break;
            }
            history.observe(&line);
        }
        file.seek(SeekFrom::Start(length)).map_err(read)?;
        let journal = Self {
            file,
            length,
            next_seq: history.next_seq,
            pending: Vec::new(),
            repaired,
            full: false,
            path,
        };
        Ok((journal, history))
    }

    /// Whether a torn last line was cut off.
    pub(super) fn was_repaired(&self) -> bool {
        self.repaired
    }

    /// Appends `events` in one write, so that a kill leaves all of them or, hardly ever, some.
    ///
    /// # Errors
    /// Only when the file cannot be written for another reason than space.
    pub(super) fn append(&mut self, events: Vec<Event>) -> Result<Append, TrainError> {
        for event in events {
            let record = Record {
                v: VERSION,
                seq: self.next_seq,
                time_ms: now_ms(),
                event,
            };
            self.next_seq += 1;
            self.pending.extend(record.to_line().into_bytes());
        }
        self.flush()
    }

    /// Tries again to write what waits.
    pub(super) fn retry(&mut self) -> Result<Append, TrainError> {
        self.flush()
    }

    /// Whether records wait for disk space.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The error of a journal that waited for space in vain.
    pub(super) fn no_space(&self) -> TrainError {
        TrainError::write(&self.path, rustix::io::Errno::NOSPC.into())
    }

    fn flush(&mut self) -> Result<Append, TrainError> {
        if self.pending.is_empty() {
            return Ok(Append::Written);
        }
        match self.file.write_all(&self.pending) {
            Ok(()) => {
                self.length += self.pending.len() as u64;
                self.pending.clear();
                Ok(if std::mem::take(&mut self.full) {
                    Append::Recovered
                } else {
                    Append::Written
                })
            }
            Err(error) if is_full(&error) => {
                self.cut()?;
                self.full = true;
                Ok(if self.pending.len() > PENDING_LIMIT {
                    Append::Overflowing
                } else {
                    Append::Waiting
                })
            }
            Err(error) => {
                // Leave the file as readers know it; the first error is the one to tell.
                let _ = self.cut();
                Err(TrainError::write(&self.path, error))
            }
        }
    }

    /// Cuts off what was written of incomplete lines.
    fn cut(&mut self) -> Result<(), TrainError> {
        self.file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
            .map(|_| ())
            .map_err(|e| TrainError::write(&self.path, e))
    }
}

/// The offset after the last newline of a file of `size` bytes.
fn end_of_last_line(file: &mut File, size: u64) -> std::io::Result<u64> {
    let mut block = vec![0; 1 << 16];
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(index) = part.iter().rposition(|&b| b == b'\n') {
            return Ok(start + index as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Milliseconds since the Unix epoch; negative before it.
pub(super) fn now_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}
