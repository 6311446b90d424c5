//! Rows of `seq_length` tokens from documents, as a function of seed and position.
//!
//! `packed` takes the epoch's documents in windows of [`WINDOW`]. Documents longer than a row are cut into full rows and a rest;
//! then each document or rest goes to the open row that it fills best, or opens one. So little is padding, documents keep their
//! order roughly, and to go to a position means to plan one window again.
//!
//! `concat` takes the epoch's documents as one stream that never ends: the next epoch follows in the same row.

use std::collections::BTreeSet;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::recipe::Packing;

use super::corpus::Corpus;
use super::{Batch, DataError, Position};

/// Documents that are packed together.
const WINDOW: usize = 1024;

/// How rows are made.
#[derive(Debug, Clone)]
pub(super) struct RowPlan {
    pub(super) corpus: Corpus,
    pub(super) packing: Packing,
    pub(super) seq_length: usize,
    /// Rows of a batch.
    pub(super) rows: usize,
    /// Of the order of documents; none keeps the order of the sources.
    pub(super) shuffle: Option<u64>,
    /// Fills padding.
    pub(super) padding: u32,
    /// Ids that the model knows.
    pub(super) vocab_size: usize,
}

/// A part of a document in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    document: u32,
    start: usize,
    len: usize,
}

/// Reads batches one after the other.
#[derive(Debug)]
pub(super) struct Rows {
    plan: RowPlan,
    position: Position,
    /// The order of this epoch.
    order: (u64, Vec<u32>),
    /// What was packed last.
    window: Option<Window>,
}

/// A window's rows.
#[derive(Debug)]
struct Window {
    epoch: u64,
    /// Its first document.
    document: u64,
    rows: Vec<Vec<Piece>>,
}

impl Rows {
    pub(super) fn new(plan: RowPlan, position: Position) -> Result<Self, DataError> {
        let outside = DataError::Position {
            epoch: position.epoch,
            document: position.document,
            offset: position.offset,
            documents: plan.corpus.len() as u64,
        };
        let mut rows = Self {
            order: (position.epoch, order(&plan, position.epoch)),
            plan,
            position,
            window: None,
        };
        if rows.position.document >= rows.plan.corpus.len() as u64 {
            return Err(outside);
        }
        let bound = match rows.plan.packing {
            Packing::Packed => {
                if !(rows.position.document as usize).is_multiple_of(WINDOW) {
                    return Err(outside);
                }
                rows.window().len()
            }
            Packing::Concat => rows
                .plan
                .corpus
                .document(rows.order.1[rows.position.document as usize])
                .len(),
        };
        if rows.position.offset >= bound as u64 {
            return Err(outside);
        }
        Ok(rows)
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// The next batch.
    pub(super) fn next_batch(&mut self) -> Result<Batch, DataError> {
        let tokens = self.plan.rows * self.plan.seq_length;
        let mut batch = Batch {
            input_ids: Vec::with_capacity(tokens),
            labels: Vec::with_capacity(tokens),
            loss_mask: Vec::with_capacity(tokens),
            position_ids: std::array::from_fn(|_| Vec::with_capacity(tokens)),
            cu_seqlens: vec![0],
        };
        for _ in 0..self.plan.rows {
            match self.plan.packing {
                Packing::Packed => self.packed_row(&mut batch),
                Packing::Concat => self.concat_row(&mut batch),
            }
        }
        if let Some(id) = batch
            .input_ids
            .iter()
            .chain(&batch.labels)
            .find(|&&id| id as usize >= self.plan.vocab_size)
        {
            return Err(DataError::Cache {
                path: self.plan.corpus.path().to_owned(),
                reason: format!("id {id} where the largest is {}", self.plan.vocab_size - 1),
            });
        }
        Ok(batch)
    }

    /// Batches until every document was delivered once, the last one partly from the next epoch.
    pub(super) fn batches_in_epoch(plan: &RowPlan) -> u64 {
        let rows = match plan.packing {
            Packing::Packed => order(plan, 0)
                .chunks(WINDOW)
                .map(|documents| pack(plan, documents).len())
                .sum(),
            Packing::Concat => (0..plan.corpus.len() as u32)
                .map(|index| plan.corpus.document(index).len())
                .sum::<usize>()
                .div_ceil(plan.seq_length),
        };
        rows.div_ceil(plan.rows) as u64
    }

    fn packed_row(&mut self, batch: &mut Batch) {
        let row = self.position.offset as usize;
        let pieces = self.window()[row].clone();
        let mut room = self.plan.seq_length;
        for piece in pieces {
            room -= piece.len;
            let document = self.plan.corpus.document(piece.document);
            let end = piece.start + piece.len;
            batch.input_ids.extend(document.ids(piece.start, piece.len));
            batch
                .labels
                .extend(document.ids(piece.start + 1, piece.len));
            batch.loss_mask.resize(batch.labels.len(), 1.0);
            if end == document.len() {
                batch.labels.push(0);
                batch.loss_mask.push(0.0);
            }
            end_segment(batch, piece.len);
        }
        if room > 0 {
            let tokens = batch.input_ids.len() + room;
            batch.input_ids.resize(tokens, self.plan.padding);
            batch.labels.resize(tokens, 0);
            batch.loss_mask.resize(tokens, 0.0);
            end_segment(batch, room);
        }
        self.position.offset += 1;
        while self.position.offset as usize >= self.window().len() {
            self.position.offset = 0;
            self.position.document += WINDOW as u64;
            if self.position.document as usize >= self.plan.corpus.len() {
                self.next_epoch();
            }
        }
    }

    fn concat_row(&mut self, batch: &mut Batch) {
        let mut room = self.plan.seq_length;
        let start = batch.input_ids.len();
        while room > 0 {
            let document = self.concat_document();
            let from = self.position.offset as usize;
            let take = room.min(document.len() - from);
            batch.input_ids.extend(document.ids(from, take));
            let ended = from + take == document.len();
            room -= take;
            self.position.offset += take as u64;
            if ended {
                self.position.offset = 0;
                self.position.document += 1;
                if self.position.document as usize >= self.plan.corpus.len() {
                    self.next_epoch();
                }
            }
        }
        batch
            .labels
            .extend_from_slice(&batch.input_ids[start + 1..]);
        let following = self.concat_document().id(self.position.offset as usize);
        batch.labels.push(following);
        batch.loss_mask.resize(batch.labels.len(), 1.0);
        end_segment(batch, self.plan.seq_length);
    }

    fn concat_document(&self) -> super::cache::Document<'_> {
        let index = self.order.1[self.position.document as usize];
        self.plan.corpus.document(index)
    }

    fn next_epoch(&mut self) {
        self.position = Position {
            epoch: self.position.epoch + 1,
            document: 0,
            offset: 0,
        };
        self.order = (self.position.epoch, order(&self.plan, self.position.epoch));
    }

    /// The rows of the present window.
    fn window(&mut self) -> &[Vec<Piece>] {
        let Position {
            epoch, document, ..
        } = self.position;
        let window = match self.window.take() {
            Some(window) if window.epoch == epoch && window.document == document => window,
            _ => {
                let start = document as usize;
                let end = (start + WINDOW).min(self.order.1.len());
                Window {
                    epoch,
                    document,
                    rows: pack(&self.plan, &self.order.1[start..end]),
                }
            }
        };
        &self.window.insert(window).rows
    }
}

/// Positions of a segment that was just added, and its border.
fn end_segment(batch: &mut Batch, len: usize) {
    for axis in &mut batch.position_ids {
        axis.extend(0..len as i64);
    }
    batch.cu_seqlens.push(batch.input_ids.len());
}

/// The order of documents in an epoch: Fisher and Yates with a stream of its own, so that it does not depend on what else is random.
fn order(plan: &RowPlan, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..plan.corpus.len() as u32).collect();
    if let Some(seed) = plan.shuffle {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"documents");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&epoch.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        for last in (1..order.len()).rev() {
            // The high half of a 128-bit product maps 64 random bits to 0..=last without a division.
            let pick = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
            order.swap(last, pick as usize);
        }
    }
    order
}

/// Rows of a window of documents.
fn pack(plan: &RowPlan, documents: &[u32]) -> Vec<Vec<Piece>> {
    let mut rows: Vec<Vec<Piece>> = Vec::new();
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new(); // (room, row)
    for &document in documents {
        let len = plan.corpus.document(document).len();
        let mut start = 0;
        while len - start > plan.seq_length {
            rows.push(vec![Piece {
                document,
                start,
                len: plan.seq_length,
            }]);
            start += plan.seq_length;
        }
        let rest = len - start;
        if rest == 1 {
            // The last token predicts nothing: it needs no row of its own.
            continue;
        }
        let piece = Piece {
            document,
            start,
            len: rest,
        };
        let best = open.range((rest, 0)..).next().copied();
        let (room, row) = best.unwrap_or((plan.seq_length, rows.len()));
        if best.is_some() {
            open.remove(&(room, row));
            rows[row].push(piece);
        } else {
            rows.push(vec![piece]);
        }
        // A document needs two tokens to teach anything.
        if room - rest >= 2 {
            open.insert((room - rest, row));
        }
    }
    rows
}
