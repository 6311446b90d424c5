//! From one format to another, streaming.
//!
//! A [`Conversion`] is planned in full before a byte is written: every file with its size, every tensor's place in it, and for each the
//! moves that make it out of the input. Then threads gather bands of rows by positioned reads and put them in place by
//! positioned writes, so memory is a few bands whatever the size of the model. Everything goes to a folder beside the output, with a
//! journal of finished bands, and takes the output's name at the end: a kill at any moment leaves nothing half done under that name,
//! and the same command goes on where it stopped, after reading back what the journal says is there.

mod cast;
mod companions;
mod finite;
mod gather;
mod journal;
mod load;
mod place;
mod run;
mod target;

use std::ops::Range;
use std::path::PathBuf;

use super::{Bound, CheckpointError, Weights};
use crate::base::{DType, Shape};
use crate::mapping::{Move, join};

pub use load::load;
pub use place::partial_path;
pub use run::{Options, Progress, Report};
pub use target::{HuggingFaceTarget, Target, config_text};

pub(super) use cast::cast;
pub(super) use finite::not_finite;
pub(super) use gather::{Files, Input, gather};
use target::Planned;

/// A conversion that is planned, and costs nothing yet.
#[derive(Debug)]
pub struct Conversion {
    /// The input's files.
    inputs: Vec<PathBuf>,
    /// The input's tensors; none where no move reads it.
    tensors: Vec<Option<Input>>,
    /// What is made.
    outputs: Vec<Output>,
    /// Where it goes.
    planned: Planned,
}

/// A tensor to be made.
#[derive(Debug)]
struct Output {
    name: String,
    shape: Shape,
    dtype: DType,
    moves: Vec<Move>,
}

/// Rows of a tensor that lie together in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    /// Index into the outputs.
    tensor: usize,
    rows: Range<usize>,
    file: usize,
    offset: u64,
}

impl Conversion {
    /// Plans the way from weights of one format to another.
    ///
    /// Types of scalars stay the input's; a tensor out of several gets the widest of theirs. Hugging Face's `A_log` and the gated delta net's
    /// norm become f32 where Megatron kept them in 16 bits, as published checkpoints have them, unless `target` says what they were. `dtype` overrules all.
    pub fn plan(
        weights: &Weights,
        bound: &Bound,
        target: &Target,
        dtype: Option<DType>,
    ) -> Result<Self, CheckpointError> {
        let view = target.view(&bound.table);
        let moves = join(&bound.table, &bound.view, &view)?;
        let mut is_read = vec![false; bound.tensors.len()];
        for part in moves.iter().flatten() {
            is_read[part.input as usize] = true;
        }
        let outputs: Vec<Output> = view
            .tensors
            .iter()
            .zip(moves)
            .map(|(tensor, moves)| {
                let inputs = moves.iter().map(|m| bound.tensors[m.input as usize].dtype);
                let widest = inputs.reduce(wider).unwrap_or(DType::F32);
                Output {
                    name: tensor.name.clone(),
                    shape: tensor.shape.clone(),
                    dtype: dtype.unwrap_or_else(|| target.dtype(&tensor.name, widest)),
                    moves,
                }
            })
            .collect();
        let planned = target.plan(&view, &outputs)?;
        Ok(Self {
            inputs: weights.files.clone(),
            tensors: bound
                .tensors
                .iter()
                .zip(is_read)
                .map(|(tensor, is_read)| is_read.then(|| Input::new(tensor)))
                .collect(),
            outputs,
            planned,
        })
    }

    /// Bytes of all files with tensors.
    pub fn bytes(&self) -> u64 {
        self.planned.files.iter().map(|file| file.bytes).sum()
    }

    /// The files with tensors: path below the output, and size.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        let files = self.planned.files.iter();
        files.map(|file| (file.name.as_str(), file.bytes))
    }

    /// The tensors: name, extents, type.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Shape, DType)> {
        self.outputs
            .iter()
            .map(|output| (output.name.as_str(), &output.shape, output.dtype))
    }
}

/// The type that holds the values of both.
fn wider(a: DType, b: DType) -> DType {
    if a == b { a } else { DType::F32 }
}
