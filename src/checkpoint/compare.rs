//! Whether two directories hold the same model, whatever their formats.
//!
//! Every tensor of the second one is made again out of the first, in memory, and compared with what the files have, band by band. Values are
//! the same bits, or, where the gated delta net's norm was shifted by 1 and back, within the rounding of that.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::convert::{Files, Input, Progress, gather};
use super::{Bound, CheckpointError, StoredTensor};
use crate::base::DType;
use crate::mapping::{Arithmetic, Move, Piece, Table, View, ViewTensor, join};

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

/// How a tensor's bytes come about.
enum Left<'a> {
    /// By moves out of files.
    Moves {
        files: &'a Files,
        inputs: &'a [Option<Input>],
        moves: &'a [Vec<Move>],
    },
    /// By moves out of tensors that are themselves made by moves.
    Twice {
        files: &'a Files,
        inputs: &'a [Option<Input>],
        /// Makes the tensors between.
        there: &'a [Vec<Move>],
        /// Their columns and types.
        between: &'a [(usize, DType)],
        /// Makes the tensors of the end out of those between.
        back: &'a [Vec<Move>],
    },
}

impl Left<'_> {
    fn fill(
        &self,
        tensor: usize,
        rows: &Range<usize>,
        form: (usize, DType),
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        match self {
            Self::Moves {
                files,
                inputs,
                moves,
            } => gather(files, inputs, &moves[tensor], rows, form, out),
            Self::Twice {
                files,
                inputs,
                there,
                between,
                back,
            } => {
                let (cols, dtype) = form;
                let (size, pitch) = (dtype.size() as usize, cols * dtype.size() as usize);
                for part in &back[tensor] {
                    let start = part.to.0.max(rows.start);
                    let end = (part.to.0 + part.size.0).min(rows.end);
                    if start >= end {
                        continue;
                    }
                    let middle = part.input as usize;
                    let (width, middle_dtype) = between[middle];
                    let (down, height) = (start - part.to.0, end - start);
                    let from = if part.transposed {
                        part.from.0..part.from.0 + part.size.1
                    } else {
                        part.from.0 + down..part.from.0 + down + height
                    };
                    let middle_size = middle_dtype.size() as usize;
                    let line = width * middle_size;
                    let mut band = vec![0; from.len() * line];
                    let moves = &there[middle];
                    gather(files, inputs, moves, &from, between[middle], &mut band)?;
                    let mut mirrored = Vec::new();
                    for i in 0..height {
                        let values = if part.transposed {
                            let at = (part.from.1 + down + i) * middle_size;
                            mirrored.clear();
                            for row in band.chunks_exact(line) {
                                mirrored.extend_from_slice(&row[at..at + middle_size]);
                            }
                            &mirrored[..]
                        } else {
                            let at = i * line + part.from.1 * middle_size;
                            &band[at..at + part.size.1 * middle_size]
                        };
                        let to = (start - rows.start + i) * pitch + part.to.1 * size;
                        let target = &mut out[to..to + part.size.1 * size];
                        super::convert::cast(middle_dtype, values, dtype, target, part.shift);
                    }
                }
                Ok(())
            }
        }
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
    let mut pairs = Vec::new();
    let widest = |moves: &[Move]| {
        let dtypes = moves.iter().map(|m| first.tensors[m.input as usize].dtype);
        dtypes.reduce(|a, b| if a == b { a } else { DType::F32 })
    };
    for (index, (tensor, stored)) in second.view.tensors.iter().zip(&second.tensors).enumerate() {
        pairs.push(Pair {
            left: &left_main,
            index,
            name: label(&second.view, tensor),
            entry: entry_of(tensor),
            right: stored,
            left_dtype: widest(&moves[index]).unwrap_or(stored.dtype),
        });
    }
    for (index, tensor) in extra_b.view.tensors.iter().enumerate() {
        pairs.push(Pair {
            left: &left_b,
            index,
            name: tensor.name.clone(),
            entry: entry_of(tensor),
            right: &extra_b.stored[index],
            left_dtype: widest(&moves_b[index]).unwrap_or(DType::F32),
        });
    }
    let mut result = run(table, &pairs, &files_b, watch)?;
    let own: Vec<Pair> = extra_a
        .view
        .tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| Pair {
            left: &left_a,
            index,
            name: tensor.name.clone(),
            entry: entry_of(tensor),
            right: &extra_a.stored[index],
            left_dtype: widest(&moves_a[index]).unwrap_or(DType::F32),
        })
        .collect();
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
            let dtypes = moves.iter().map(|m| bound.tensors[m.input as usize].dtype);
            let widest = dtypes.reduce(|a, b| if a == b { a } else { DType::F32 });
            let dtype = dtype.or(widest).unwrap_or(DType::F32);
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
    let tensors = bound.view.tensors.iter().zip(&bound.tensors).enumerate();
    let pairs: Vec<Pair> = tensors
        .map(|(index, (tensor, stored))| Pair {
            left: &left,
            index,
            name: label(&bound.view, tensor),
            entry: entry_of(tensor),
            right: stored,
            left_dtype: stored.dtype,
        })
        .collect();
    run(table, &pairs, &opened, watch)
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
    let pairs: Vec<Pair> = extra
        .view
        .tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| Pair {
            left: &left,
            index,
            name: tensor.name.clone(),
            entry: entry_of(tensor),
            right: &extra.stored[index],
            left_dtype: extra.stored[index].dtype,
        })
        .collect();
    let watch = Watch {
        progress: &|_| {},
        cancel: &AtomicBool::new(false),
    };
    let compared = run(&bound.table, &pairs, &opened, &watch)?;
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

fn entry_of(tensor: &ViewTensor) -> usize {
    tensor
        .pieces
        .first()
        .map_or(0, |piece| piece.entry as usize)
}

/// The tensor's name, with its rank's file before it where names repeat.
fn label(view: &View, tensor: &ViewTensor) -> String {
    match view.ranks.len() {
        0 | 1 => tensor.name.clone(),
        _ => format!("{}: {}", view.ranks[tensor.rank], tensor.name),
    }
}

/// Tensors of a directory that hold what others of it hold.
struct Repeated {
    view: View,
    stored: Vec<StoredTensor>,
}

impl Repeated {
    /// Replicas of ranks, and heads that repeat the embedding.
    fn of(bound: &Bound) -> Self {
        let mut list = Self::heads(bound);
        for (tensor, stored) in bound.view.tensors.iter().zip(&bound.tensors) {
            if tensor.replica {
                list.view.tensors.push(ViewTensor {
                    name: label(&bound.view, tensor),
                    rank: 0,
                    replica: false,
                    ..tensor.clone()
                });
                list.stored.push(stored.clone());
            }
        }
        list
    }

    fn heads(bound: &Bound) -> Self {
        let (mut tensors, mut stored) = (Vec::new(), Vec::new());
        let embedding = bound
            .table
            .entries()
            .iter()
            .position(|entry| entry.place == crate::mapping::Place::Embedding);
        for tensor in &bound.repeats {
            let (rows, cols) = tensor.shape.matrix();
            let Some(entry) = embedding else { continue };
            tensors.push(ViewTensor {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                rank: 0,
                pieces: vec![Piece {
                    entry: entry as u32,
                    rows: 0..rows.min(bound.table.entries()[entry].matrix().0),
                    cols: 0..cols,
                    at_row: 0,
                    at_col: 0,
                    transposed: false,
                }],
                replica: false,
            });
            stored.push(tensor.clone());
        }
        Self {
            view: View {
                convention: bound.view.convention,
                ranks: bound.view.ranks[..1.min(bound.view.ranks.len())].to_vec(),
                tensors,
            },
            stored,
        }
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
    let mut start = 0;
    while start < rows {
        let band = start..rows.min(start + step);
        a.clear();
        a.resize(band.len() * pitch, 0);
        b.resize(band.len() * pitch, 0);
        pair.left.fill(pair.index, &band, (cols, dtype), &mut a)?;
        right.read(files, band.clone(), 0..cols, &mut b, pitch)?;
        hash_a.update(&a);
        hash_b.update(&b);
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
        verdict: difference.verdict(cols, is_shifted),
        first: hash_a.finalize().to_hex().to_string(),
        second: hash_b.finalize().to_hex().to_string(),
    })
}

/// Differences of a tensor, as they add up.
#[derive(Default)]
struct Difference {
    differ: u64,
    first: Option<(usize, (f32, f32))>,
    largest: f64,
    ulp: f64,
}

impl Difference {
    fn add(&mut self, dtype: DType, a: &[u8], b: &[u8], before: usize) {
        let size = dtype.size() as usize;
        for (i, (x, y)) in a.chunks_exact(size).zip(b.chunks_exact(size)).enumerate() {
            if x == y {
                continue;
            }
            let values = [x, y].map(|bytes| {
                let mut out = [0; 4];
                super::convert::cast(dtype, bytes, DType::F32, &mut out, 0);
                f32::from_le_bytes(out)
            });
            self.differ += 1;
            self.first
                .get_or_insert((before + i, (values[0], values[1])));
            let error = (f64::from(values[0]) - f64::from(values[1])).abs();
            let error = if error.is_nan() { f64::INFINITY } else { error };
            self.largest = self.largest.max(error);
            self.ulp = self.ulp.max(error / shift_ulp(f64::from(values[1])));
        }
    }

    fn verdict(&self, cols: usize, is_shifted: bool) -> Verdict {
        match self.first {
            None => Verdict::Exact,
            Some(_) if is_shifted && self.ulp <= 1.0 => Verdict::Rounded {
                differ: self.differ,
                ulp: self.ulp,
            },
            Some((at, values)) => Verdict::Differs {
                differ: self.differ,
                first: (at / cols.max(1), at % cols.max(1)),
                values,
                largest: self.largest,
            },
        }
    }
}

/// The distance of neighbouring bf16 numbers at the larger of `|w|` and `|w - 1|`.
fn shift_ulp(w: f64) -> f64 {
    let size = w
        .abs()
        .max((w - 1.0).abs())
        .max(f64::from(f32::MIN_POSITIVE));
    (size.log2().floor() - 7.0).exp2()
}
