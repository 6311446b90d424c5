//! Everything a run said, ready to draw: its steps and evaluations as tables, all other events as they came.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::RunError;
use super::cache;
use super::error::Context;
use super::scan::{self, Piece};
use super::series::{Row, Table};
use crate::event::{Event, Record, layout};

/// Steps that a later trainer did again from an earlier checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Abandoned {
    /// The segment that left them behind.
    pub segment: u32,
    /// Its steps after the point where the next segment took up.
    pub steps: Table,
}

/// Everything a run said.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Steps that count: each once, abandoned ones left out.
    pub train: Table,
    /// Evaluations that count.
    pub eval: Table,
    /// What rewinds left behind, oldest first.
    pub abandoned: Vec<Abandoned>,
    /// All events but steps, in the order they were said.
    pub events: Vec<Record>,
    /// Lines that were no records.
    pub bad_lines: usize,
    /// Segment of the last `started`.
    pub(super) segment: u32,
    /// Bytes of the file taken up.
    pub(super) offset: u64,
    /// Inode of the file.
    pub(super) inode: u64,
}

impl History {
    /// Reads a run from its cache and its events, and renews the cache when that pays. A run without events has an empty history.
    pub fn open(run: &Path) -> Result<Self, RunError> {
        let path = run.join(layout::EVENTS);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error).context("open", &path),
        };
        let mut history = cache::load(run, &file).unwrap_or_default();
        history.inode = file.metadata().context("read", &path)?.ino();
        let from = history.offset;
        history.offset = scan::scan(&path, &file, from, |piece| history.take(piece))?;
        history.train.refresh();
        history.eval.refresh();
        if cache::pays(&history)
            && cache::store(run, &file, &history)
            && let Some(mapped) = cache::load(run, &file)
        {
            // The same values, now in the file instead of in memory.
            return Ok(mapped);
        }
        Ok(history)
    }

    /// Where the next line of the events file begins, for a [`Tail`](super::Tail) that goes on from here.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes up what some lines say.
    fn take(&mut self, piece: Piece) {
        self.bad_lines += piece.bad_lines;
        let mut from = 0;
        for (row, record) in piece.others {
            self.append(&piece.steps, from, row);
            from = row;
            self.other(record);
        }
        self.append(&piece.steps, from, piece.steps.rows());
    }

    /// Appends rows of `steps`, each rising stretch at once.
    fn append(&mut self, steps: &Table, mut from: usize, to: usize) {
        while from < to {
            self.rewind_before(steps.step(from));
            let mut end = from + 1;
            while end < to && steps.step(end) > steps.step(end - 1) {
                end += 1;
            }
            self.train.append(steps, from..end);
            from = end;
        }
    }

    /// Takes up records that a [`Tail`](super::Tail) read.
    pub fn extend(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            if let Event::Step(step) = &record.event {
                self.rewind_before(step.step);
                self.train.push(&Row::of_step(record.time_ms, step));
            } else {
                self.other(record);
            }
        }
        self.train.refresh();
        self.eval.refresh();
    }

    /// A step that is not above the last one does it again.
    fn rewind_before(&mut self, step: u64) {
        if self.train.step.last().is_some_and(|last| last >= step) {
            self.rewind(step.saturating_sub(1));
        }
    }

    fn rewind(&mut self, step: u64) {
        self.train.refresh();
        self.eval.refresh();
        let steps = self.train.rewind(step);
        self.eval.rewind(step);
        if steps.rows() > 0 {
            self.abandoned.push(Abandoned {
                segment: self.segment,
                steps,
            });
        }
    }

    fn other(&mut self, record: Record) {
        match &record.event {
            Event::Started { segment, step, .. } => {
                if self.train.step.last().is_some_and(|last| last > *step) {
                    self.rewind(*step);
                }
                self.segment = *segment;
            }
            Event::Eval {
                step,
                tokens,
                loss,
                mtp,
                ..
            } => {
                if self.eval.step.last().is_some_and(|last| last >= *step) {
                    self.eval.refresh();
                    self.eval.rewind(step.saturating_sub(1));
                }
                let row = Row::of_eval(record.time_ms, *step, *tokens, *loss, mtp);
                self.eval.push(&row);
            }
            _ => {}
        }
        self.events.push(record);
    }
}
