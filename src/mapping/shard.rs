//! Which part of a tensor each rank holds.

use std::iter::once;
use std::ops::Range;

/// The group of ranks that a tensor is cut over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Tensor parallel.
    Tp,
    /// Tensor parallel of the routed experts.
    Etp,
}

/// How a tensor is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shard {
    /// Every rank holds all of it.
    Replicated,
    /// Each of the sections is cut into equal runs of rows, and a rank holds its run of every section, one after another. So the order of
    /// rows of the gathered tensor depends on the degree as soon as there are two sections.
    Column {
        /// Over which ranks.
        axis: Axis,
        /// Rows of each section; together all rows.
        sections: Vec<usize>,
    },
    /// Cut into equal runs of columns.
    Row {
        /// Over which ranks.
        axis: Axis,
    },
}

impl Shard {
    /// The axis that it is cut over; none if it is replicated.
    pub fn axis(&self) -> Option<Axis> {
        match self {
            Self::Replicated => None,
            Self::Column { axis, .. } | Self::Row { axis } => Some(*axis),
        }
    }

    /// Rows and columns that rank `rank` of `degree` holds, in its order, of a matrix of `rows` by `cols`.
    ///
    /// The degree divides every section, or the columns; [`Layout`](super::Layout) sees to that.
    pub fn part(
        &self,
        (rows, cols): (usize, usize),
        degree: usize,
        rank: usize,
    ) -> (Vec<Range<usize>>, Range<usize>) {
        match self {
            Self::Replicated => (once(0..rows).collect(), 0..cols),
            Self::Row { .. } => {
                let width = cols / degree;
                (once(0..rows).collect(), rank * width..(rank + 1) * width)
            }
            Self::Column { sections, .. } => {
                let mut start = 0;
                let mut list = Vec::with_capacity(sections.len());
                for &section in sections {
                    let run = section / degree;
                    list.push(start + rank * run..start + (rank + 1) * run);
                    start += section;
                }
                (list, 0..cols)
            }
        }
    }

    /// The word for it that Megatron uses.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Column { .. } => "column",
            Self::Row { .. } => "row",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(sections: &[usize], degree: usize, rank: usize) -> Vec<usize> {
        let shard = Shard::Column {
            axis: Axis::Tp,
            sections: sections.to_vec(),
        };
        let total = sections.iter().sum();
        let (rows, _) = shard.part((total, 1), degree, rank);
        rows.into_iter().flatten().collect()
    }

    #[test]
    fn sections_are_cut_one_by_one() {
        assert_eq!(rows(&[4, 4], 1, 0), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(rows(&[4, 4], 2, 0), [0, 1, 4, 5]);
        assert_eq!(rows(&[4, 4], 2, 1), [2, 3, 6, 7]);
        let gdn = [4, 4, 8, 8, 4, 4];
        let first = [0, 1, 4, 5, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 28, 29];
        let second = [2, 3, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 26, 27, 30, 31];
        assert_eq!(rows(&gdn, 2, 0), first);
        assert_eq!(rows(&gdn, 2, 1), second);
        assert_eq!(rows(&[4, 4, 8], 2, 0), [0, 1, 4, 5, 8, 9, 10, 11]);
    }

    #[test]
    fn a_row_parallel_rank_holds_columns() {
        let shard = Shard::Row { axis: Axis::Etp };
        let (rows, cols) = shard.part((3, 8), 4, 2);
        assert_eq!((rows.len(), &rows[0], &cols), (1, &(0..3), &(4..6)));
    }
}
