//! Minimum, maximum, mean, last value over any range of a column in logarithmic time.

use std::ops::Range;

use super::{Values, is_absent};

/// Children of a node.
const FAN_OUT: usize = 16;

/// What is known about a range of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    /// Smallest finite value; infinity if there is none.
    pub min: f32,
    /// Largest finite value; negative infinity if there is none.
    pub max: f32,
    /// Last finite value; NaN if there is none.
    pub last: f32,
    /// Finite values.
    pub count: u32,
    /// Sum of the finite values.
    pub sum: f64,
    /// Values that are not finite; absent ones count nowhere.
    pub not_finite: u32,
}

impl Node {
    /// Nothing at all.
    pub const EMPTY: Self = Self {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        last: f32::NAN,
        count: 0,
        sum: 0.0,
        not_finite: 0,
    };

    /// Mean of the finite values; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    #[inline]
    fn add(&mut self, value: f32) {
        if value.is_finite() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            self.sum += f64::from(value);
            self.last = value;
            self.count += 1;
        } else if !is_absent(value) {
            self.not_finite += 1;
        }
    }

    fn of(values: &[f32]) -> Self {
        let mut node = Self::EMPTY;
        for &value in values {
            node.add(value);
        }
        node
    }

    /// What is known about this range and the `next` one together.
    fn then(self, next: &Self) -> Self {
        Self {
            min: self.min.min(next.min),
            max: self.max.max(next.max),
            last: if next.count > 0 { next.last } else { self.last },
            count: self.count + next.count,
            sum: self.sum + next.sum,
            not_finite: self.not_finite + next.not_finite,
        }
    }

    fn join(nodes: &[Self]) -> Self {
        nodes.iter().fold(Self::EMPTY, Self::then)
    }
}

/// Levels of nodes over a column: a node of level `k` covers `16^(k+1)` values, the last one maybe fewer.
#[derive(Debug, Clone, Default)]
pub(super) struct Pyramid {
    levels: Vec<Vec<Node>>,
    length: usize,
}

impl Pyramid {
    /// The pyramid over all of `values`.
    pub(super) fn over(values: &Values<f32>) -> Self {
        let mut pyramid = Self::default();
        pyramid.grow(values);
        pyramid
    }

    /// Takes up the values that `values` has beyond those covered.
    pub(super) fn grow(&mut self, values: &Values<f32>) {
        let length = values.len();
        // Nodes from here on are new or cover new values.
        let mut dirty = self.length / FAN_OUT;
        let mut below = length;
        for level in 0.. {
            let count = below.div_ceil(FAN_OUT);
            if self.levels.len() == level {
                self.levels.push(vec![]);
                dirty = 0;
            }
            let (lower, rest) = self.levels.split_at_mut(level);
            let nodes = &mut rest[0];
            nodes.truncate(dirty);
            nodes.reserve(count - dirty);
            for i in dirty..count {
                let children = i * FAN_OUT..((i + 1) * FAN_OUT).min(below);
                nodes.push(match lower.last() {
                    Some(lower) => Node::join(&lower[children]),
                    None => raw(values, children),
                });
            }
            if count <= 1 {
                self.levels.truncate(level + 1);
                break;
            }
            dirty /= FAN_OUT;
            below = count;
        }
        self.length = length;
    }

    /// Forgets all values but the first `values.len()`.
    pub(super) fn cut(&mut self, values: &Values<f32>) {
        self.length = (values.len() / FAN_OUT) * FAN_OUT;
        self.grow(values);
    }

    /// What is known about the values of `range`.
    pub(super) fn fold(&self, values: &Values<f32>, range: Range<usize>) -> Node {
        let (mut start, mut end) = (range.start, range.end.min(self.length));
        if start >= end {
            return Node::EMPTY;
        }
        if start / FAN_OUT == (end - 1) / FAN_OUT {
            return raw(values, start..end);
        }
        let next = start.next_multiple_of(FAN_OUT);
        let mut left = raw(values, start..next);
        let before = end / FAN_OUT * FAN_OUT;
        let mut right = raw(values, before..end);
        (start, end) = (next / FAN_OUT, before / FAN_OUT);
        for nodes in &self.levels {
            if start >= end {
                break;
            }
            if start / FAN_OUT == (end - 1) / FAN_OUT {
                left = left.then(&Node::join(&nodes[start..end]));
                break;
            }
            let next = start.next_multiple_of(FAN_OUT);
            left = left.then(&Node::join(&nodes[start..next]));
            let before = end / FAN_OUT * FAN_OUT;
            right = Node::join(&nodes[before..end]).then(&right);
            (start, end) = (next / FAN_OUT, before / FAN_OUT);
        }
        left.then(&right)
    }
}

/// What is known about the values of `range`, from the values themselves.
pub(super) fn raw(values: &Values<f32>, range: Range<usize>) -> Node {
    let mut node = Node::EMPTY;
    values.slices(range, |slice| node = node.then(&Node::of(slice)));
    node
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::series::ABSENT;

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => (-1000i16..1000).prop_map(f32::from),
            1 => Just(f32::NAN),
            1 => Just(ABSENT),
            1 => Just(f32::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn a_fold_equals_the_loop_over_the_values(
            pieces in prop::collection::vec(prop::collection::vec(value(), 0..300), 1..6),
            cut in 0.0..1.0f64,
            range in (0.0..1.0f64, 0.0..1.0f64),
        ) {
            let mut values = Values::default();
            let mut pyramid = Pyramid::default();
            for piece in &pieces {
                values.extend(piece);
                pyramid.grow(&values);
            }
            let length = (cut * (values.len() + 1) as f64) as usize;
            values.split_off(length);
            pyramid.cut(&values);
            values.extend(&pieces[0]);
            pyramid.grow(&values);
            let at = |share: f64| (share * (values.len() + 1) as f64) as usize;
            let range = at(range.0.min(range.1))..at(range.0.max(range.1));
            let slow = raw(&values, range.clone());
            let fast = pyramid.fold(&values, range);
            // Integers sum exactly in any order.
            prop_assert_eq!(slow.min, fast.min);
            prop_assert_eq!(slow.max, fast.max);
            prop_assert_eq!(slow.sum, fast.sum);
            prop_assert_eq!(slow.last.to_bits(), fast.last.to_bits());
            prop_assert_eq!((slow.count, slow.not_finite), (fast.count, fast.not_finite));
        }
    }
}
