//! Tensors of a directory that hold what others of it hold.

use super::label;
use crate::checkpoint::{Bound, StoredTensor};
use crate::mapping::{Piece, Place, View, ViewTensor};

/// Tensors of a directory that hold what others of it hold.
pub(super) struct Repeated {
    pub(super) view: View,
    pub(super) stored: Vec<StoredTensor>,
}

impl Repeated {
    /// Replicas of ranks, and heads that repeat the embedding.
    pub(super) fn of(bound: &Bound) -> Self {
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

    /// Heads that repeat the embedding.
    pub(super) fn heads(bound: &Bound) -> Self {
        let (mut tensors, mut stored) = (Vec::new(), Vec::new());
        let embedding = bound
            .table
            .entries()
            .iter()
            .position(|entry| entry.place == Place::Embedding);
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
