//! Micro-batches for the step, read and prepared by a thread while the device computes.
//!
//! What is made ahead is lost when a trainer ends: [`Feed::position`] is where the next batch begins that the trainer takes, so a run that is
//! continued from there sees the same batches.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use crate::data::{DataError, Loader, Position};
use crate::nn::{self, Preparation, Prepared};
use crate::{data, ops};

use super::TrainError;

/// A micro-batch, and where the loader stood after it.
type Made = Result<(Prepared, Position), TrainError>;

/// The micro-batches of a loader, one after the other.
#[derive(Debug)]
pub(super) struct Feed {
    position: Position,
    maker: Maker,
}

#[derive(Debug)]
enum Maker {
    /// The trainer itself, with `data.prefetch = 0`.
    Inline(Box<Loader>, Preparation),
    /// A thread. Nothing only while dropped.
    Thread {
        made: Option<Receiver<Made>>,
        thread: Option<JoinHandle<()>>,
    },
}

impl Feed {
    /// Begins where `loader` stands. A thread makes up to `ahead` micro-batches before they are asked for; with 0 there is no thread.
    pub(super) fn start(
        loader: Loader,
        preparation: Preparation,
        ahead: usize,
    ) -> Result<Self, TrainError> {
        let position = loader.position();
        let maker = if ahead == 0 {
            Maker::Inline(Box::new(loader), preparation)
        } else {
            // The thread itself holds one more while it waits to send.
            let (sender, receiver) = mpsc::sync_channel(ahead - 1);
            let thread = thread::Builder::new()
                .name("prepare".to_owned())
                .spawn(move || make(loader, preparation, &sender))
                .map_err(|e| TrainError::Unsupported(format!("cannot start a thread: {e}")))?;
            Maker::Thread {
                made: Some(receiver),
                thread: Some(thread),
            }
        };
        Ok(Self { position, maker })
    }

    /// The next micro-batch.
    pub(super) fn next(&mut self) -> Result<Prepared, TrainError> {
        let (prepared, after) = match &mut self.maker {
            Maker::Inline(loader, preparation) => one(loader, *preparation)?,
            Maker::Thread { made, .. } => made
                .as_ref()
                .and_then(|made| made.recv().ok())
                .ok_or(DataError::PrefetchEnded)??,
        };
        self.position = after;
        Ok(prepared)
    }

    /// Where the micro-batch begins that [`Self::next`] gives next, whatever was made ahead.
    pub(super) fn position(&self) -> Position {
        self.position.clone()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Maker::Thread { made, thread } = &mut self.maker {
            // A thread that waits to send sees that nobody receives, and ends.
            *made = None;
            if let Some(thread) = thread.take() {
                // If it panicked, the panic hook has spoken and the feed has said `PrefetchEnded`.
                let _ = thread.join();
            }
        }
    }
}

fn make(mut loader: Loader, preparation: Preparation, sender: &SyncSender<Made>) {
    loop {
        let made = one(&mut loader, preparation);
        let failed = made.is_err();
        if sender.send(made).is_err() || failed {
            return;
        }
    }
}

fn one(loader: &mut Loader, preparation: Preparation) -> Made {
    let batch = model_batch(loader.next_batch()?)?;
    Ok((preparation.prepare(batch)?, loader.position()))
}

/// A loader's micro-batch as the model takes it.
pub(super) fn model_batch(batch: data::Batch) -> Result<nn::Batch, TrainError> {
    Ok(nn::Batch {
        input_ids: batch.input_ids,
        labels: batch.labels,
        loss_mask: batch.loss_mask,
        position_ids: batch.position_ids,
        cu_seqlens: ops::CuSeqlens::new(batch.cu_seqlens)?,
    })
}
