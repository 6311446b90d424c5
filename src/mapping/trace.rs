//! One element on its way through all names.

use super::{Coordinates, Layout, MappingError, Piece, Spelling, Table, View, ViewTensor};
use crate::base::Shape;

/// A place in a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The tensor.
    pub name: String,
    /// One index a dim.
    pub index: Vec<usize>,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let index: Vec<String> = self.index.iter().map(ToString::to_string).collect();
        f.pad(&format!("{}[{}]", self.name, index.join(",")))
    }
}

/// What the ranks at one place hold an element as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The place.
    pub coordinates: Coordinates,
    /// The global ranks there.
    pub ranks: Vec<usize>,
    /// Name and index in their own module.
    pub at: At,
}

/// One element under all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Index of the entry.
    pub entry: usize,
    /// In Hugging Face's files.
    pub huggingface: At,
    /// In Megatron's tensor on one rank, by global names.
    pub megatron: At,
    /// In a `torch_dist` checkpoint.
    pub torch_dist: At,
    /// On the ranks of a layout.
    pub ranks: Vec<Held>,
}

impl Table {
    /// Follows an element, given by a Hugging Face name or by a Megatron name with global numbers, to all its names.
    pub fn trace(
        &self,
        name: &str,
        index: &[usize],
        layout: &Layout,
    ) -> Result<Trace, MappingError> {
        let (entry, row, col) = self.locate(name, index)?;
        let holds = |piece: &&Piece| {
            piece.entry as usize == entry && piece.rows.contains(&row) && piece.cols.contains(&col)
        };
        let place = |tensor: &ViewTensor| {
            let piece = tensor.pieces.iter().find(holds)?;
            Some(At {
                name: tensor.name.clone(),
                index: unravel(
                    &tensor.shape,
                    piece.at_row + row - piece.rows.start,
                    piece.at_col + col - piece.cols.start,
                ),
            })
        };
        // Every element of an entry is in both views; a name that were missing would have no index.
        let nowhere = || At {
            name: String::new(),
            index: Vec::new(),
        };
        let one = |view: View| view.tensors.iter().find_map(place);
        let mut ranks = Vec::new();
        for coordinates in layout.coordinates() {
            for local in layout.local(self, entry, coordinates) {
                let tensor = ViewTensor {
                    name: local.name,
                    shape: local.shape,
                    rank: 0,
                    pieces: local.pieces,
                    replica: false,
                };
                if let Some(at) = place(&tensor) {
                    ranks.push(Held {
                        coordinates,
                        ranks: layout.ranks_at(coordinates),
                        at,
                    });
                }
            }
        }
        let own = &self.entries()[entry];
        Ok(Trace {
            entry,
            huggingface: one(View::huggingface(self)).unwrap_or_else(nowhere),
            megatron: At {
                name: own.name.clone(),
                index: unravel(&own.shape, row, col),
            },
            torch_dist: one(View::torch_dist(
                self,
                layout.vocab_rows,
                Spelling::TransformerLayer,
            ))
            .unwrap_or_else(nowhere),
            ranks,
        })
    }

    /// The entry, row and column of an element.
    fn locate(&self, name: &str, index: &[usize]) -> Result<(usize, usize, usize), MappingError> {
        if let Some(entry) = self.find(name) {
            let shape = &self.entries()[entry].shape;
            let (row, col) = ravel(name, shape, index)?;
            return Ok((entry, row, col));
        }
        for (number, entry) in self.entries().iter().enumerate() {
            let Some(shape) = entry
                .sources
                .iter()
                .find(|source| source.name == name)
                .map(|source| &source.shape)
            else {
                continue;
            };
            let (row, col) = ravel(name, shape, index)?;
            let found = entry.blocks().into_iter().find(|block| {
                entry.sources[block.source].name == name
                    && (block.source_row..block.source_row + block.rows).contains(&row)
            });
            // Another expert of the same tensor may have the row.
            if let Some(block) = found {
                return Ok((number, block.row + row - block.source_row, col));
            }
        }
        let names = self.entries().iter().flat_map(|e| {
            let sources = e.sources.iter().map(|s| s.name.as_str());
            sources.chain([e.name.as_str()])
        });
        Err(MappingError::UnknownTensor {
            name: name.to_owned(),
            nearest: super::audit::nearest(name, names).map(str::to_owned),
        })
    }
}

/// Row and column of an index.
fn ravel(name: &str, shape: &Shape, index: &[usize]) -> Result<(usize, usize), MappingError> {
    let inside = index.len() == shape.0.len() && index.iter().zip(&shape.0).all(|(i, n)| i < n);
    if !inside {
        return Err(MappingError::OutOfRange {
            name: name.to_owned(),
            shape: shape.clone(),
            index: index.to_vec(),
        });
    }
    Ok(match index {
        [] => (0, 0),
        [i] => (*i, 0),
        [rows @ .., col] => {
            let row = rows.iter().zip(&shape.0).fold(0, |row, (i, n)| row * n + i);
            (row, *col)
        }
    })
}

/// The index of a row and column.
fn unravel(shape: &Shape, row: usize, col: usize) -> Vec<usize> {
    match shape.0.as_slice() {
        [] => Vec::new(),
        [_] => vec![row],
        [dims @ .., _] => {
            let mut index = vec![col];
            let mut row = row;
            for &n in dims.iter().rev() {
                index.push(row % n.max(1));
                row /= n.max(1);
            }
            index.reverse();
            index
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_go_to_a_matrix_and_back() {
        let shape = Shape::from([2, 3, 4]);
        for index in [[0, 0, 0], [1, 2, 3], [1, 0, 2]] {
            let (row, col) = ravel("t", &shape, &index).expect("inside");
            assert_eq!(unravel(&shape, row, col), index);
        }
        assert!(ravel("t", &shape, &[0, 3, 0]).is_err());
        assert!(ravel("t", &shape, &[0, 1]).is_err());
    }
}
