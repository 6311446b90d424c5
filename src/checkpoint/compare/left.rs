//! The first of two tensors that are compared, made again out of files.

use std::ops::Range;

use crate::base::DType;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::convert::{Files, Input, cast, gather};
use crate::mapping::Move;

/// How a tensor's bytes come about.
pub(super) enum Left<'a> {
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
    /// Writes rows of a tensor, in this form (columns and type), to `out`.
    pub(super) fn fill(
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
                        cast(middle_dtype, values, dtype, target, part.shift);
                    }
                }
                Ok(())
            }
        }
    }
}
