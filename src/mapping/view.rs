//! What the tensors of a format hold of a table's entries.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::layout::spell;
use super::{Coordinates, Layout, Place, Shard, Spelling, Table};
use crate::base::Shape;

/// Whose values a view's tensors have where the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// The gated delta net's norm is `w`.
    HuggingFace,
    /// It is `w - 1`.
    Megatron,
}

/// The tensors of a format, and what each holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whose values they have.
    pub convention: Convention,
    /// The ranks that have files of their own; one of no meaning where files are not by rank.
    pub ranks: Vec<Coordinates>,
    /// The tensors, those of one rank together.
    pub tensors: Vec<ViewTensor>,
}

/// A tensor of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewTensor {
    /// Its name there.
    pub name: String,
    /// Its extents there.
    pub shape: Shape,
    /// Index into [`View::ranks`].
    pub rank: usize,
    /// What it holds. Rows that no piece has are padding, all zeros.
    pub pieces: Vec<Piece>,
    /// Whether another tensor of the view, before this one, holds the same.
    pub replica: bool,
}

/// A rectangle of an entry in a tensor of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index of the entry.
    pub entry: u32,
    /// Rows of the entry.
    pub rows: Range<usize>,
    /// Columns of the entry.
    pub cols: Range<usize>,
    /// Row of the tensor that the first one is.
    pub at_row: usize,
    /// Column of the tensor that the first one is.
    pub at_col: usize,
    /// Whether the tensor has it mirrored: its rows are the entry's columns.
    pub transposed: bool,
}

const NOWHERE: Coordinates = Coordinates {
    tp: 0,
    pp: 0,
    ep: 0,
    etp: 0,
};

impl View {
    /// The Hugging Face tensors, in the order in which the table's entries name them.
    pub fn huggingface(table: &Table) -> Self {
        let mut tensors: Vec<ViewTensor> = Vec::with_capacity(table.entries().len());
        let mut by_name: HashMap<&str, usize> = HashMap::with_capacity(table.entries().len());
        for (index, entry) in table.entries().iter().enumerate() {
            let (_, cols) = entry.matrix();
            for block in entry.blocks() {
                let source = &entry.sources[block.source];
                let at = *by_name.entry(&source.name).or_insert_with(|| {
                    tensors.push(ViewTensor {
                        name: source.name.clone(),
                        shape: source.shape.clone(),
                        rank: 0,
                        pieces: Vec::new(),
                        replica: false,
                    });
                    tensors.len() - 1
                });
                tensors[at].pieces.push(Piece {
                    entry: index as u32,
                    rows: block.row..block.row + block.rows,
                    cols: 0..cols,
                    at_row: block.source_row,
                    at_col: 0,
                    transposed: false,
                });
            }
        }
        Self {
            convention: Convention::HuggingFace,
            ranks: vec![NOWHERE],
            tensors,
        }
    }

    /// The tensors of a `torch_dist` checkpoint: whole, in natural order, whatever the layout; parts of a gated delta net apart, experts of a layer
    /// together. `vocab_rows` are those of embedding and head, padding included.
    pub fn torch_dist(table: &Table, vocab_rows: usize, spelling: Spelling) -> Self {
        let mut tensors: Vec<ViewTensor> = Vec::new();
        let mut stacks: HashMap<String, usize> = HashMap::new();
        for (index, entry) in table.entries().iter().enumerate() {
            let (rows, cols) = entry.matrix();
            let name = spell(&entry.name, spelling);
            let piece = |rows: Range<usize>, at_row| Piece {
                entry: index as u32,
                rows,
                cols: 0..cols,
                at_row,
                at_col: 0,
                transposed: false,
            };
            let tensor = |name, shape, pieces| ViewTensor {
                name,
                shape,
                rank: 0,
                pieces,
                replica: false,
            };
            if let Some(expert) = entry.expert {
                let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
                let key = stem.replacen(".mlp.experts.", ".mlp.experts.experts.", 1);
                let at = *stacks.entry(key).or_insert_with_key(|key| {
                    let experts = table.config().text.moe.map_or(1, |moe| moe.num_experts);
                    let shape = Shape(vec![experts, rows, cols]);
                    tensors.push(tensor(key.clone(), shape, Vec::with_capacity(experts)));
                    tensors.len() - 1
                });
                tensors[at].pieces.push(piece(0..rows, expert * rows));
            } else if let (Shard::Column { sections, .. }, false) =
                (&entry.shard, entry.parts.is_empty())
            {
                let mut start = 0;
                for (part, &section) in entry.parts.iter().zip(sections) {
                    let mut shape = entry.shape.clone();
                    shape.0[0] = section;
                    let pieces = vec![piece(start..start + section, 0)];
                    tensors.push(tensor(format!("{name}.{part}"), shape, pieces));
                    start += section;
                }
            } else {
                let mut shape = entry.shape.clone();
                if matches!(entry.place, Place::Embedding | Place::Head) {
                    shape.0[0] = vocab_rows;
                }
                tensors.push(tensor(name, shape, vec![piece(0..rows, 0)]));
            }
        }
        Self {
            convention: Convention::Megatron,
            ranks: vec![NOWHERE],
            tensors,
        }
    }

    /// The tensors of every rank's own module.
    pub fn shards(table: &Table, layout: &Layout) -> Self {
        let ranks = layout.coordinates();
        let mut tensors = Vec::new();
        // Most entries are experts, and most ranks hold few of them.
        let mut candidates: HashMap<(usize, usize), Vec<usize>> = HashMap::new();
        for (rank, &at) in ranks.iter().enumerate() {
            let held = candidates.entry((at.pp, at.ep)).or_insert_with(|| {
                let entries = 0..table.entries().len();
                entries
                    .filter(|&index| layout.may_hold(table, index, at))
                    .collect()
            });
            for &index in held.iter() {
                for local in layout.local(table, index, at) {
                    tensors.push(ViewTensor {
                        name: local.name,
                        shape: local.shape,
                        rank,
                        pieces: local.pieces,
                        replica: false,
                    });
                }
            }
        }
        let mut view = Self {
            convention: Convention::Megatron,
            ranks,
            tensors,
        };
        view.mark_replicas();
        view
    }

    /// The tensors of each rank.
    pub fn by_rank(&self) -> Vec<Vec<usize>> {
        let mut list = vec![Vec::new(); self.ranks.len()];
        for (index, tensor) in self.tensors.iter().enumerate() {
            list[tensor.rank].push(index);
        }
        list
    }

    /// Marks each tensor that holds what one before it holds.
    pub fn mark_replicas(&mut self) {
        let mut seen: HashSet<(u32, usize, usize)> = HashSet::new();
        for tensor in &mut self.tensors {
            tensor.replica = match tensor.pieces.first() {
                Some(piece) => !seen.insert((piece.entry, piece.rows.start, piece.cols.start)),
                None => false,
            };
        }
    }

    /// Mirrors the last two dims of a tensor of experts, as some writers store it.
    pub fn transpose(&mut self, tensor: usize) {
        let tensor = &mut self.tensors[tensor];
        let [_, rows, cols] = tensor.shape.0[..] else {
            return;
        };
        tensor.shape.0[1..].rotate_left(1);
        for piece in &mut tensor.pieces {
            let (expert, row) = (piece.at_row / rows, piece.at_row % rows);
            piece.at_row = expert * cols + piece.at_col;
            piece.at_col = row;
            piece.transposed = true;
        }
    }
}
