//! Where the sequences of a packed batch begin and end.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, DeviceLocation, Result, Tensor, bail};

use super::transfer;

/// Tables on devices, by place and key.
type Tables = HashMap<(DeviceLocation, &'static str), Tensor>;

/// Boundaries of the sequences that a packed batch holds: `[0, n_0, n_0 + n_1, ..., N]`.
///
/// A `[B, s]` batch is `B` segments of `s` tokens. No segment is empty. Clones share what is kept of them on devices.
#[derive(Clone)]
pub struct CuSeqlens {
    boundaries: Arc<[usize]>,
    resident: Arc<Mutex<Tables>>,
}

impl fmt::Debug for CuSeqlens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CuSeqlens").field(&self.boundaries).finish()
    }
}

impl PartialEq for CuSeqlens {
    fn eq(&self, other: &Self) -> bool {
        self.boundaries == other.boundaries
    }
}

impl Eq for CuSeqlens {}

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
        Ok(Self::of(boundaries))
    }

    /// `batch` sequences of `sequence` tokens each; no sequence when either is 0.
    pub fn uniform(batch: usize, sequence: usize) -> Self {
        let batch = if sequence == 0 { 0 } else { batch };
        Self::of((0..=batch).map(|index| index * sequence).collect())
    }

    fn of(boundaries: Vec<usize>) -> Self {
        Self {
            boundaries: boundaries.into(),
            resident: Arc::default(),
        }
    }

    /// A table about the sequences on `device`, `[n]` u32: made by `build` at the first call with this `key`, kept afterwards for this
    /// batch and its clones.
    ///
    /// The boundaries themselves have the key `cu_seqlens`.
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn resident(
        &self,
        device: &Device,
        key: &'static str,
        build: impl FnOnce() -> Vec<u32>,
    ) -> Result<Tensor> {
        let place = (device.location(), key);
        let mut tables = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(&place) {
            return Ok(table.clone());
        }
        let table = transfer::upload_u32(&build(), device)?;
        tables.insert(place, table.clone());
        Ok(table)
    }

    /// The boundaries on `device`, `[sequences + 1]` u32.
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn on(&self, device: &Device) -> Result<Tensor> {
        self.resident(device, "cu_seqlens", || {
            self.boundaries.iter().map(|at| *at as u32).collect()
        })
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
    use candle_core::Device;

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
    fn a_table_is_made_once_for_all_clones() {
        let cu = CuSeqlens::new(vec![0, 2, 7]).unwrap();
        assert_eq!(
            cu.on(&Device::Cpu).unwrap().to_vec1::<u32>().unwrap(),
            [0, 2, 7]
        );
        let table = |value| {
            let clone = cu.clone();
            let table = clone.resident(&Device::Cpu, "table", || vec![value]);
            table.unwrap().to_vec1::<u32>().unwrap()
        };
        assert_eq!((table(1), table(2)), (vec![1], vec![1]));
    }

    #[test]
    fn uniform_is_a_batch() {
        assert_eq!(CuSeqlens::uniform(3, 4).boundaries(), [0, 4, 8, 12]);
        assert_eq!(CuSeqlens::uniform(3, 0).tokens(), 0);
    }
}
