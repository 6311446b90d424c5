//! From one view to another: which rectangle of which tensor goes where.

use std::ops::Range;

use super::{Arithmetic, Convention, MappingError, Piece, Table, View};

/// A rectangle of a tensor of the input that becomes a rectangle of a tensor of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Index of the input's tensor.
    pub input: u32,
    /// Its first row and column there.
    pub from: (usize, usize),
    /// Its first row and column in the output's tensor.
    pub to: (usize, usize),
    /// Rows and columns in the output.
    pub size: (usize, usize),
    /// Whether the input has it mirrored: row `i`, column `j` of the output is at `(from.0 + j, from.1 + i)`.
    pub transposed: bool,
    /// What is added to the values: 1, -1 or nothing.
    pub shift: i8,
}

/// The moves that make each tensor of `output`, in the order of its rows; what no move writes is padding, all zeros.
///
/// Of the input's replicas the first one is used. Fails if the input does not hold something.
pub fn join(table: &Table, input: &View, output: &View) -> Result<Vec<Vec<Move>>, MappingError> {
    let mut held: Vec<Vec<(u32, &Piece)>> = vec![Vec::new(); table.entries().len()];
    for (index, tensor) in input.tensors.iter().enumerate() {
        if tensor.replica {
            continue;
        }
        for piece in &tensor.pieces {
            held[piece.entry as usize].push((index as u32, piece));
        }
    }
    for pieces in &mut held {
        pieces.sort_by_key(|(_, piece)| (piece.rows.start, piece.cols.start));
    }
    output
        .tensors
        .iter()
        .map(|tensor| {
            let mut moves = Vec::with_capacity(tensor.pieces.len());
            for piece in &tensor.pieces {
                let entry = &table.entries()[piece.entry as usize];
                let shift = match (entry.arithmetic, input.convention, output.convention) {
                    (Arithmetic::ShiftByOne, Convention::HuggingFace, Convention::Megatron) => -1,
                    (Arithmetic::ShiftByOne, Convention::Megatron, Convention::HuggingFace) => 1,
                    _ => 0,
                };
                let area = cover(&held[piece.entry as usize], piece, shift, &mut moves);
                if area != piece.rows.len() * piece.cols.len() {
                    return Err(MappingError::NotHeld {
                        output: tensor.name.clone(),
                        entry: entry.name.clone(),
                        rows: piece.rows.clone(),
                    });
                }
            }
            moves.sort_by_key(|m| m.to);
            Ok(moves)
        })
        .collect()
}

/// The part that two ranges share.
pub(super) fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

/// Adds the moves that make a piece out of what is held; the number of scalars.
fn cover(held: &[(u32, &Piece)], wanted: &Piece, shift: i8, moves: &mut Vec<Move>) -> usize {
    // Pieces are sorted by their first row, and those of one row band have the same rows, so the first candidate is found by halving.
    let start = held.partition_point(|(_, have)| have.rows.end <= wanted.rows.start);
    let mut area = 0;
    for &(input, have) in &held[start..] {
        if have.rows.start >= wanted.rows.end {
            break;
        }
        let rows = overlap(&wanted.rows, &have.rows);
        let cols = overlap(&wanted.cols, &have.cols);
        if rows.is_empty() || cols.is_empty() {
            continue;
        }
        area += rows.len() * cols.len();
        let (down, right) = (rows.start - have.rows.start, cols.start - have.cols.start);
        let (below, beside) = if have.transposed {
            (right, down)
        } else {
            (down, right)
        };
        let from = (have.at_row + below, have.at_col + beside);
        let skipped = (
            rows.start - wanted.rows.start,
            cols.start - wanted.cols.start,
        );
        let (skipped, size) = if wanted.transposed {
            ((skipped.1, skipped.0), (cols.len(), rows.len()))
        } else {
            (skipped, (rows.len(), cols.len()))
        };
        moves.push(Move {
            input,
            from,
            to: (wanted.at_row + skipped.0, wanted.at_col + skipped.1),
            size,
            transposed: have.transposed != wanted.transposed,
            shift,
        });
    }
    area
}
