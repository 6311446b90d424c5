//! Micro-batches, made ahead by a thread.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvError, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::recipe::Recipe;

use super::corpus::{self, Corpus};
use super::rows::{RowPlan, Rows};
use super::{Batch, DataError, Position, Split};

/// Delivers the micro-batches of one split, without end, always the same ones for the same recipe and documents.
#[derive(Debug)]
pub struct Loader {
    plan: RowPlan,
    prefetch: usize,
    position: Position,
    maker: Maker,
    stall: f64,
}

/// Who makes batches.
#[derive(Debug)]
enum Maker {
    /// Nobody yet: a loader that is put to a position at once starts no thread in vain.
    Idle,
    /// The caller, `data.prefetch = 0`.
    Inline(Box<Rows>),
    /// A thread.
    Thread(Prefetcher),
}

#[derive(Debug)]
struct Prefetcher {
    /// A batch and the position after it. `None` only while dropped.
    batches: Option<Receiver<Result<(Batch, Position), DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        // A thread that waits to send sees that nobody receives, and ends.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, the panic hook has spoken and the loader has said `PrefetchEnded`.
            let _ = thread.join();
        }
    }
}

impl Loader {
    /// Opens one split of a recipe's text, paths relative to `recipe_dir`. Text that was not tokenised before is tokenised now.
    ///
    /// Validation keeps the order of the sources, training is shuffled if the recipe says so.
    ///
    /// # Errors
    /// When a source or the tokenizer is missing or wrong, when there is no document for the split, and when the model has fewer
    /// embedding rows than the tokenizer ids.
    pub fn open(recipe: &Recipe, split: Split, recipe_dir: &Path) -> Result<Self, DataError> {
        let tokenizer = corpus::tokenizer(recipe, recipe_dir)?;
        let vocab_size = recipe.model.config.vocab_size;
        if vocab_size < tokenizer.vocab_size() {
            return Err(DataError::VocabularyTooSmall {
                model: vocab_size,
                tokenizer: tokenizer.vocab_size(),
            });
        }
        let (cache, _) = corpus::tokens(recipe, &tokenizer, recipe_dir)?;
        let plan = RowPlan {
            corpus: Corpus::new(cache, split, recipe.data.validation_fraction)?,
            packing: recipe.data.packing,
            seq_length: recipe.train.seq_length,
            rows: recipe.train.micro_batch_size,
            shuffle: (recipe.data.shuffle && split == Split::Train).then_some(recipe.train.seed),
            padding: tokenizer.eos(),
            vocab_size,
        };
        Ok(Self {
            plan,
            prefetch: recipe.data.prefetch,
            position: Position::default(),
            maker: Maker::Idle,
            stall: 0.0,
        })
    }

    /// The next micro-batch.
    ///
    /// # Errors
    /// When the token cache was damaged while it was open.
    pub fn next_batch(&mut self) -> Result<Batch, DataError> {
        self.start()?;
        let begin = Instant::now();
        let (batch, after) = match &mut self.maker {
            Maker::Idle => return Err(DataError::PrefetchEnded),
            Maker::Inline(rows) => {
                let batch = rows.next_batch()?;
                let after = rows.position().clone();
                self.stall += begin.elapsed().as_secs_f64();
                (batch, after)
            }
            Maker::Thread(prefetcher) => {
                let batches = prefetcher
                    .batches
                    .as_ref()
                    .ok_or(DataError::PrefetchEnded)?;
                match batches.try_recv() {
                    Ok(made) => made?,
                    Err(TryRecvError::Disconnected) => return Err(DataError::PrefetchEnded),
                    Err(TryRecvError::Empty) => {
                        let made = batches.recv();
                        self.stall += begin.elapsed().as_secs_f64();
                        made.map_err(|RecvError| DataError::PrefetchEnded)??
                    }
                }
            }
        };
        self.position = after;
        Ok(batch)
    }

    /// Where the batch that [`Self::next_batch`] delivers next begins, whatever was made ahead.
    pub fn position(&self) -> Position {
        self.position.clone()
    }

    /// Goes to a position of an equal loader; the next batch is the one that followed there, bit for bit.
    ///
    /// # Errors
    /// When there is no such position in these documents.
    pub fn seek(&mut self, position: Position) -> Result<(), DataError> {
        // Checked here, so that a wrong one is said at once and not with the next batch.
        Rows::new(self.plan.clone(), position.clone())?;
        self.maker = Maker::Idle;
        self.position = position;
        Ok(())
    }

    /// Seconds that [`Self::next_batch`] waited for data since this was asked last.
    pub fn stall_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.stall)
    }

    /// Micro-batches until every document was delivered once.
    pub fn batches_in_epoch(&self) -> u64 {
        Rows::batches_in_epoch(&self.plan)
    }

    /// Sees to it that somebody makes batches from the present position on.
    fn start(&mut self) -> Result<(), DataError> {
        if !matches!(self.maker, Maker::Idle) {
            return Ok(());
        }
        let mut rows = Rows::new(self.plan.clone(), self.position.clone())?;
        if self.prefetch == 0 {
            self.maker = Maker::Inline(Box::new(rows));
            return Ok(());
        }
        // The thread itself holds one more while it waits to send.
        let (sender, receiver) = mpsc::sync_channel(self.prefetch - 1);
        let thread = thread::Builder::new()
            .name("prefetch".into())
            .spawn(move || {
                loop {
                    let made = rows
                        .next_batch()
                        .map(|batch| (batch, rows.position().clone()));
                    let failed = made.is_err();
                    if sender.send(made).is_err() || failed {
                        return;
                    }
                }
            })
            .map_err(DataError::io("start a thread for", self.plan.corpus.path()))?;
        self.maker = Maker::Thread(Prefetcher {
            batches: Some(receiver),
            thread: Some(thread),
        });
        Ok(())
    }
}
