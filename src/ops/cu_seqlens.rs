//! Where the sequences of a packed batch begin and end.

use std::ops::Range;

use candle_core::{Result, bail};

/// Boundaries of the sequences that a packed batch holds: `[0, n_0, n_0 + n_1, ..., N]`.
///
/// A `[B, s]` batch is `B` segments of `s` tokens. No segment is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CuSeqlens {
    boundaries: Vec<usize>,
}

impl CuSeqlens {
    /// Takes boundaries as they are.
    ///
    /// # Errors
    /// When they do not begin at 0 or do not rise strictly.
    pub fn new(boundaries: Vec<usize>) -> Result<Self> {
        if boundaries.first() != Some(&0) {
            bail!(
                "cu_seqlens must begin with 0, and is {:?}",
                boundaries.first()
            );
        }
        for pair in boundaries.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            if start >= end {
                bail!("cu_seqlens must rise, and {start} is followed by {end}");
            }
        }
        Ok(Self { boundaries })
    }

    /// `batch` sequences of `sequence` tokens each; no sequence when either is 0.
    pub fn uniform(batch: usize, sequence: usize) -> Self {
        let batch = if sequence == 0 { 0 } else { batch };
        Self {
            boundaries: (0..=batch).map(|index| index * sequence).collect(),
        }
    }

    /// The token ranges of the sequences, in order.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone + '_ {
        self.boundaries.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The boundaries, one more than there are sequences.
    pub fn boundaries(&self) -> &[usize] {
        &self.boundaries
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.boundaries.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of all sequences, `N`.
    pub fn tokens(&self) -> usize {
        self.boundaries.last().copied().unwrap_or(0)
    }

    /// Tokens of the longest sequence.
    pub fn max_len(&self) -> usize {
        self.segments()
            .map(|segment| segment.len())
            .max()
            .unwrap_or(0)
    }

    /// Fails unless the boundaries end at `tokens`.
    pub(super) fn check(&self, op: &'static str, tokens: usize) -> Result<()> {
        if self.tokens() != tokens {
            bail!(
                "{op}: {tokens} tokens, but cu_seqlens end at {}",
                self.tokens()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::CuSeqlens;

    #[test]
    fn boundaries_must_rise_from_zero() {
        assert!(CuSeqlens::new(vec![]).is_err());
        assert!(CuSeqlens::new(vec![1, 2]).is_err());
        assert!(CuSeqlens::new(vec![0, 2, 2]).is_err());
        let cu = CuSeqlens::new(vec![0, 2, 7]).unwrap();
        assert_eq!(cu.segments().collect::<Vec<_>>(), [0..2, 2..7]);
        assert_eq!((cu.tokens(), cu.max_len(), cu.len()), (7, 5, 2));
    }

    #[test]
    fn uniform_is_a_batch() {
        assert_eq!(CuSeqlens::uniform(3, 4).boundaries(), [0, 4, 8, 12]);
        assert_eq!(CuSeqlens::uniform(3, 0).tokens(), 0);
    }
}
