//! Boxes of a tensor as rectangles of its matrix, and whether rectangles cover it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::Shape;
use crate::checkpoint::{Extent, matrix};

/// A box of a tensor whose scalars lie row-major and without gaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    /// Index of the first element in every dim.
    pub offsets: &'a [usize],
    /// Its extents.
    pub sizes: &'a [usize],
    /// Index into the reader's files.
    pub file: usize,
    /// Byte of its first scalar.
    pub at: u64,
    /// Bytes of a scalar.
    pub scalar: u64,
}

/// Appends the rectangles that a box is in the tensor's [`matrix`]: one if every dim between the first cut one and the last is whole, else one
/// for each index of the dims before. The box must lie within the shape.
pub(super) fn rectangles(shape: &Shape, placed: Placed<'_>, out: &mut Vec<Extent>) {
    let Placed {
        offsets,
        sizes,
        file,
        at,
        scalar,
    } = placed;
    if sizes.contains(&0) {
        return;
    }
    // A vector is one column: its only dim is the rows'.
    let (rows, cols) = match shape.0.len() {
        0 => {
            out.push(Extent {
                file,
                offset: at,
                rows: 0..1,
                cols: 0..1,
            });
            return;
        }
        1 => (1, 0..1),
        dims => (
            dims - 1,
            offsets[dims - 1]..offsets[dims - 1] + sizes[dims - 1],
        ),
    };
    // `last`: the innermost row dim that the box does not fill, after which rows follow each other.
    let dims = &shape.0[..rows];
    let last = (0..rows).rev().find(|&d| sizes[d] != dims[d]).unwrap_or(0);
    let inner: usize = dims[last + 1..].iter().product();
    let run = sizes[last] * inner;
    let step = (run * cols.len()) as u64 * scalar;
    let count: usize = sizes[..last].iter().product();
    let mut index = vec![0; last];
    for n in 0..count {
        let mut row = 0;
        for d in 0..last {
            row = row * dims[d] + offsets[d] + index[d];
        }
        let row = (row * dims[last] + offsets[last]) * inner;
        out.push(Extent {
            file,
            offset: at + n as u64 * step,
            rows: row..row + run,
            cols: cols.clone(),
        });
        for d in (0..last).rev() {
            index[d] += 1;
            if index[d] < sizes[d] {
                break;
            }
            index[d] = 0;
        }
    }
}

/// What is wrong with rectangles that should cover a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cover {
    /// Two that share elements: rows and columns of each.
    Overlap([(Range<usize>, Range<usize>); 2]),
    /// Fewer elements than the matrix has.
    Gap {
        /// Elements that the rectangles hold.
        held: u128,
        /// Elements of the matrix.
        of: u128,
    },
}

/// Whether rectangles within the matrix hold each of its elements once. A sweep over the rows: `n log n`.
pub(super) fn cover(shape: &Shape, extents: &[Extent]) -> Result<(), Cover> {
    let (rows, cols) = matrix(shape);
    let of = rows as u128 * cols as u128;
    let area = |e: &Extent| e.rows.len() as u128 * e.cols.len() as u128;
    let held: u128 = extents.iter().map(area).sum();
    if let [only] = extents
        && held == of
    {
        debug_assert_eq!(only.rows, 0..rows);
        return Ok(());
    }
    // ends before starts at the same row
    let mut events: Vec<(usize, bool, usize)> = Vec::with_capacity(extents.len() * 2);
    for (i, extent) in extents.iter().enumerate() {
        events.push((extent.rows.start, true, i));
        events.push((extent.rows.end, false, i));
    }
    events.sort_unstable();
    let mut active = BTreeMap::<usize, usize>::new();
    for (_, starts, i) in events {
        let extent = &extents[i];
        if !starts {
            active.remove(&extent.cols.start);
            continue;
        }
        let before = active.range(..=extent.cols.start).next_back();
        let after = active.range(extent.cols.start..).next();
        for (_, &other) in before.into_iter().chain(after) {
            let cols = &extents[other].cols;
            if cols.start < extent.cols.end && extent.cols.start < cols.end {
                let [a, b] = [other, i].map(|i| (extents[i].rows.clone(), extents[i].cols.clone()));
                return Err(Cover::Overlap([a, b]));
            }
        }
        active.insert(extent.cols.start, i);
    }
    if held == of {
        Ok(())
    } else {
        Err(Cover::Gap { held, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        shape: &[usize],
        offsets: &[usize],
        sizes: &[usize],
    ) -> Vec<(u64, Range<usize>, Range<usize>)> {
        let placed = Placed {
            offsets,
            sizes,
            file: 0,
            at: 100,
            scalar: 2,
        };
        let mut out = Vec::new();
        rectangles(&Shape(shape.to_vec()), placed, &mut out);
        out.into_iter()
            .map(|e| (e.offset, e.rows, e.cols))
            .collect()
    }

    #[test]
    fn boxes_become_the_fewest_rectangles() {
        assert_eq!(of(&[], &[], &[]), [(100, 0..1, 0..1)]);
        assert_eq!(of(&[8], &[2], &[3]), [(100, 2..5, 0..1)]);
        assert_eq!(of(&[8, 4], &[2, 1], &[3, 2]), [(100, 2..5, 1..3)]);
        assert_eq!(of(&[4, 3, 5], &[1, 0, 0], &[2, 3, 5]), [(100, 3..9, 0..5)]);
        assert_eq!(of(&[4, 3, 5], &[1, 0, 2], &[2, 3, 1]), [(100, 3..9, 2..3)]);
        let cut = of(&[4, 3, 5], &[1, 1, 0], &[2, 2, 5]);
        assert_eq!(cut, [(100, 4..6, 0..5), (120, 7..9, 0..5)]);
        let deep = of(&[2, 2, 2, 3], &[0, 1, 0, 0], &[2, 1, 1, 3]);
        assert_eq!(deep, [(100, 2..3, 0..3), (106, 6..7, 0..3)]);
        assert!(of(&[0, 4], &[0, 0], &[0, 4]).is_empty());
    }

    fn extent(rows: Range<usize>, cols: Range<usize>) -> Extent {
        Extent {
            file: 0,
            offset: 0,
            rows,
            cols,
        }
    }

    #[test]
    fn a_cover_holds_every_element_once() {
        let shape = Shape(vec![4, 6]);
        let pinwheel = [
            extent(0..1, 0..4),
            extent(0..3, 4..6),
            extent(1..4, 0..2),
            extent(3..4, 2..6),
            extent(1..3, 2..4),
        ];
        assert_eq!(cover(&shape, &pinwheel), Ok(()));
        assert_eq!(
            cover(&shape, &pinwheel[1..]),
            Err(Cover::Gap { held: 20, of: 24 })
        );
        let twice = [extent(0..4, 0..3), extent(0..4, 3..6), extent(2..3, 2..5)];
        assert!(matches!(cover(&shape, &twice), Err(Cover::Overlap(_))));
        // the elements add up, but one is there twice
        let shifted = [extent(0..4, 0..3), extent(0..4, 2..5)];
        assert!(matches!(cover(&shape, &shifted), Err(Cover::Overlap(_))));
        assert_eq!(cover(&Shape(vec![0, 3]), &[]), Ok(()));
    }
}
