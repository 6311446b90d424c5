//! Where the bytes of a tensor lie, whatever the format around it.
//!
//! Every reader of a format gives its tensors as [`StoredTensor`]s, and every conversion, comparison and statistic works on those: a
//! safetensors tensor is one [`Extent`], a tensor of a `torch_dist` checkpoint has one or more a chunk.

use std::ops::Range;

use crate::base::{DType, Shape};

/// A tensor in the files of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name in the format: a Hugging Face name, a key of `torch_dist`, a name of a rank's module.
    pub name: String,
    /// Its extents.
    pub shape: Shape,
    /// Type of its scalars.
    pub dtype: DType,
    /// Where its bytes lie. Together they cover every scalar once.
    pub extents: Vec<Extent>,
}

/// A rectangle of a tensor that lies in one file, row after row without gaps.
///
/// Rows and columns are those of the tensor seen as a [`matrix`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Index into the reader's list of files.
    pub file: usize,
    /// Byte of the rectangle's first scalar in the file.
    pub offset: u64,
    /// Rows of the matrix.
    pub rows: Range<usize>,
    /// Columns of the matrix.
    pub cols: Range<usize>,
}

/// A tensor as a matrix: all dims but the last are rows, the last is columns; a vector is one column.
pub fn matrix(shape: &Shape) -> (usize, usize) {
    shape.matrix()
}

impl StoredTensor {
    /// Bytes of its scalars.
    pub fn bytes(&self) -> u64 {
        self.shape.elements() * self.dtype.size()
    }
}
