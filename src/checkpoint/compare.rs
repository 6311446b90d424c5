//! Whether two directories hold the same model, whatever their formats.
//!
//! Every tensor of the second one is made again out of the first, in memory, and compared with what the files have, band by band. Values are
//! the same bits, or, where the gated delta net's norm was shifted by 1 and back, within the rounding of that.

mod difference;
mod left;
mod repeated;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::convert::{Files, Input, Progress};
use super::{Bound, CheckpointError, StoredTensor};
use crate::base::DType;
use crate::mapping::{Arithmetic, Move, Table, View, ViewTensor, join};

use difference::Difference;
use left::Left;
use repeated::Repeated;

/// What a comparison says of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The same bits.
    Exact,
    /// Within the rounding of the norm shift: at most 1 ulp of the larger of `|w|` and `|w - 1|`.
    Rounded {
        /// Scalars that differ.
        differ: u64,
        /// The largest difference, in units of that ulp.
        ulp: f64,
    },
    /// Something else.
    Differs {
        /// Scalars that differ.
        differ: u64,
        /// The first of them: row and column of the tensor as a matrix.
        first: (usize, usize),
        /// Its value as the first directory has it, and as the second has it.
        values: (f32, f32),
        /// The largest difference.
        largest: f64,
    },
}

/// A tensor that was compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Its name in the second directory; of a directory of ranks with the rank's file before it.
    pub name: String,
    /// Megatron's name, global.
    pub megatron: String,
    /// Types in the first and the second directory.
    pub dtypes: (DType, DType),
    /// Scalars.
    pub elements: u64,
    /// Of them, as the second directory has them, NaN or infinite.
    pub not_finite: u64,
    /// What came out.
    pub verdict: Verdict,
    /// BLAKE3 of its bytes as the first directory has them, in the second one's order and type.
    pub first: String,
    /// BLAKE3 of its bytes in the second directory.
    pub second: String,
}

impl Compared {
    /// Whether it is the same tensor.
    pub fn is_same(&self) -> bool {
        !matches!(self.verdict, Verdict::Differs { .. })
    }
}

/// What the user sees and can do while a comparison runs.
pub struct Watch<'a> {
    /// Told after each band, from any thread.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Ends the comparison when set.
    pub cancel: &'a AtomicBool,
}

/// A tensor to compare: how it is made, and what there is.
struct Pair<'a> {
    left: &'a Left<'a>,
    /// Index for `left`.
    index: usize,
    name: String,
    entry: usize,
    right: &'a StoredTensor,
    left_dtype: DType,
}

/// The tensors of a view, each to be made by `left` and compared with what is stored.
fn pairs<'a>(
    left: &'a Left<'a>,
    view: &View,
    stored: &'a [StoredTensor],
    left_dtype: impl Fn(usize) -> Option<DType>,
) -> Vec<Pair<'a>> {
    let tensors = view.tensors.iter().zip(stored).enumerate();
    tensors
        .map(|(index, (tensor, right))| Pair {
            left,
            index,
            name: label(view, tensor),
            entry: tensor.pieces.first().map_or(0, |p| p.entry as usize),
            right,
            left_dtype: left_dtype(index).unwrap_or(right.dtype),
        })
        .collect()
}

/// The type that holds the values of all inputs of the moves.
fn widest(bound: &Bound, moves: &[Move]) -> Option<DType> {
    let dtypes = moves.iter().map(|m| bound.tensors[m.input as usize].dtype);
    dtypes.reduce(|a, b| if a == b { a } else { DType::F32 })
}

/// Compares two directories: `first` and its files, `second` and its files. The tensors come in the order of the second.
///
/// Tensors that several ranks hold are compared for each of them, and a head that repeats the embedding with the embedding, on both sides.
pub fn compare(
    (first, first_files): (&Bound, &[PathBuf]),
    (second, second_files): (&Bound, &[PathBuf]),
    watch: &Watch,
) -> Result<Vec<Compared>, CheckpointError> {
    let table = &first.table;
    let (files_a, files_b) = (Files::open(first_files)?, Files::open(second_files)?);
    let inputs_a = inputs(first);
    let moves = join(table, &first.view, &second.view)?;
    // Replicas and repetitions are compared with the tensor that they repeat.
    let (extra_a, extra_b) = (Repeated::of(first), Repeated::of(second));
    let moves_a = join(table, &first.view, &extra_a.view)?;
    let moves_b = join(table, &first.view, &extra_b.view)?;
    let left = |moves| Left::Moves {
        files: &files_a,
        inputs: &inputs_a,
        moves,
    };
    let (left_main, left_a, left_b) = (left(&moves), left(&moves_a), left(&moves_b));
    let of = |moves: &'_ [Vec<Move>], index: usize| widest(first, &moves[index]);
    let mut list = pairs(&left_main, &second.view, &second.tensors, |i| of(&moves, i));
    list.extend(pairs(&left_b, &extra_b.view, &extra_b.stored, |i| {
        of(&moves_b, i)
    }));
    let mut result = run(table, &list, &files_b, watch)?;
    let own = pairs(&left_a, &extra_a.view, &extra_a.stored, |i| of(&moves_a, i));
    result.extend(run(table, &own, &files_a, watch)?);
    Ok(result)
}

/// Makes every tensor of a directory out of a layout of Megatron's that is made out of the directory, and compares; nothing is written.
pub fn round_trip(
    bound: &Bound,
    files: &[PathBuf],
    layout: &View,
    dtype: Option<DType>,
    watch: &Watch,
) -> Result<Vec<Compared>, CheckpointError> {
    let table = &bound.table;
    let opened = Files::open(files)?;
    let there = join(table, &bound.view, layout)?;
    let back = join(table, layout, &bound.view)?;
    let between: Vec<(usize, DType)> = layout
        .tensors
        .iter()
        .zip(&there)
        .map(|(tensor, moves)| {
            let dtype = dtype.or(widest(bound, moves)).unwrap_or(DType::F32);
            (tensor.shape.matrix().1, dtype)
        })
        .collect();
    let inputs = inputs(bound);
    let left = Left::Twice {
        files: &opened,
        inputs: &inputs,
        there: &there,
        between: &between,
        back: &back,
    };
    let list = pairs(&left, &bound.view, &bound.tensors, |_| None);
    run(table, &list, &opened, watch)
}

/// Checks that the tensors of a directory that repeat others are equal to them: the head of a tied model.
pub fn check_repeats(bound: &Bound, files: &[PathBuf]) -> Result<(), CheckpointError> {
    if bound.repeats.is_empty() {
        return Ok(());
    }
    let extra = Repeated::heads(bound);
    let moves = join(&bound.table, &bound.view, &extra.view)?;
    let opened = Files::open(files)?;
    let inputs = inputs(bound);
    let left = Left::Moves {
        files: &opened,
        inputs: &inputs,
        moves: &moves,
    };
    let list = pairs(&left, &extra.view, &extra.stored, |_| None);
    let watch = Watch {
        progress: &|_| {},
        cancel: &AtomicBool::new(false),
    };
    let compared = run(&bound.table, &list, &opened, &watch)?;
    if compared.iter().all(Compared::is_same) {
        return Ok(());
    }
    Err(CheckpointError::UntiedHead {
        path: files.first().cloned().unwrap_or_default(),
    })
}

fn inputs(bound: &Bound) -> Vec<Option<Input>> {
    let tensors = bound.tensors.iter();
    tensors.map(|tensor| Some(Input::new(tensor))).collect()
}

/// The tensor's name, with its rank's file before it where names repeat.
fn label(view: &View, tensor: &ViewTensor) -> String {
    match view.ranks.len() {
        0 | 1 => tensor.name.clone(),
        _ => format!("{}: {}", view.ranks[tensor.rank], tensor.name),
    }
}

/// Bytes that are compared at a time.
const BAND: usize = 8 << 20;

fn run(
    table: &Table,
    pairs: &[Pair],
    files: &Files,
    watch: &Watch,
) -> Result<Vec<Compared>, CheckpointError> {
    let begun = Instant::now();
    let total: u64 = pairs.iter().map(|pair| pair.right.bytes()).sum();
    let done = AtomicU64::new(0);
    pairs
        .par_iter()
        .with_max_len(1)
        .map(|pair| {
            one(table, pair, files, &mut |bytes| {
                if watch.cancel.load(Ordering::Relaxed) {
                    return Err(CheckpointError::Cancelled);
                }
                (watch.progress)(Progress {
                    done: done.fetch_add(bytes, Ordering::Relaxed) + bytes,
                    total,
                    resumed: 0,
                    seconds: begun.elapsed().as_secs_f64(),
                });
                Ok(())
            })
        })
        .collect()
}

fn one(
    table: &Table,
    pair: &Pair,
    files: &Files,
    after_band: &mut dyn FnMut(u64) -> Result<(), CheckpointError>,
) -> Result<Compared, CheckpointError> {
    let (rows, cols) = pair.right.shape.matrix();
    let dtype = pair.right.dtype;
    let pitch = cols * dtype.size() as usize;
    let right = Input::new(pair.right);
    let entry = &table.entries()[pair.entry];
    let mut difference = Difference::default();
    let (mut hash_a, mut hash_b) = (blake3::Hasher::new(), blake3::Hasher::new());
    let step = (BAND / pitch.max(1)).max(1);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let (mut start, mut not_finite) = (0, 0);
    while start < rows {
        let band = start..rows.min(start + step);
        a.clear();
        a.resize(band.len() * pitch, 0);
        b.resize(band.len() * pitch, 0);
        pair.left.fill(pair.index, &band, (cols, dtype), &mut a)?;
        right.read(files, band.clone(), 0..cols, &mut b, pitch)?;
        hash_a.update(&a);
        hash_b.update(&b);
        not_finite += super::convert::not_finite(dtype, &b);
        if a != b {
            difference.add(dtype, &a, &b, start * cols);
        }
        after_band(b.len() as u64)?;
        start = band.end;
    }
    let is_shifted = entry.arithmetic == Arithmetic::ShiftByOne;
    Ok(Compared {
        name: pair.name.clone(),
        megatron: entry.name.clone(),
        dtypes: (pair.left_dtype, dtype),
        elements: pair.right.shape.elements(),
        not_finite,
        verdict: difference.verdict(cols, is_shifted),
        first: hash_a.finalize().to_hex().to_string(),
        second: hash_b.finalize().to_hex().to_string(),
    })
}
