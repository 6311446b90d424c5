//! What the numbers of a stored tensor look like: range, moments, NaN and infinities, a histogram, a hash.
//!
//! Bytes are read by positioned reads in blocks of 4 MiB, one block a thread, so the memory is bounded whatever the tensor's size. Types of
//! 16 bits or fewer are read once: how often each of their bit patterns occurs says everything. Wider ones are read a second time for the
//! histogram, whose ends the first reading finds. Nothing is sampled: every number is of all elements. Results do not depend on the number
//! of threads.

mod blocks;
mod hash;
mod patterns;
mod value;
mod wide;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::{CheckpointError, StoredTensor};
use blocks::Source;
pub use hash::hash;

/// Bins of a histogram.
pub const BINS: usize = 64;

/// How much is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Counts, range and moments.
    Numbers,
    /// The histogram as well.
    Histogram,
}

/// What the elements of a tensor look like. 64-bit integers are taken as the nearest `f64`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// Elements.
    pub elements: u64,
    /// Elements that are zero, of either sign.
    pub zeros: u64,
    /// Elements that are not a number.
    pub nan: u64,
    /// Elements that are plus infinity.
    pub positive_infinity: u64,
    /// Elements that are minus infinity.
    pub negative_infinity: u64,
    /// Smallest finite element; nothing if no element is finite, as in the fields below.
    pub min: Option<f64>,
    /// Largest finite element.
    pub max: Option<f64>,
    /// Mean of the finite elements.
    pub mean: Option<f64>,
    /// Standard deviation of the finite elements (divided by their number, not by one less).
    pub std: Option<f64>,
    /// Finite elements in each of [`BINS`] equal parts from `min` to `max`, the last one with its upper end; all are in the first part if
    /// `min` equals `max`. Empty if it was not asked for or no element is finite.
    pub histogram: Vec<u64>,
}

impl Statistics {
    /// Reads a tensor of a reader's `files`. Nothing if `cancel` became true meanwhile.
    ///
    /// # Errors
    /// When a file cannot be read, or has become shorter.
    pub fn read(
        files: &[PathBuf],
        tensor: &StoredTensor,
        detail: Detail,
        cancel: &AtomicBool,
    ) -> Result<Option<Self>, CheckpointError> {
        let source = Source::open(files, tensor, cancel)?;
        if tensor.dtype.size() <= 2 {
            patterns::read(&source, detail)
        } else {
            wide::read(&source, detail)
        }
    }

    /// Elements that are numbers.
    pub fn finite(&self) -> u64 {
        self.elements - self.nan - self.positive_infinity - self.negative_infinity
    }
}

/// Counts, range and moments that can be merged.
#[derive(Debug, Clone, Copy)]
struct Moments {
    finite: u64,
    zeros: u64,
    nan: u64,
    positive_infinity: u64,
    negative_infinity: u64,
    min: f64,
    max: f64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
}

impl Moments {
    const NONE: Self = Self {
        finite: 0,
        zeros: 0,
        nan: 0,
        positive_infinity: 0,
        negative_infinity: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        mean: 0.0,
        squares: 0.0,
    };

    /// Counts what `value`, which occurs `times`, is; the moments are left to the caller. Whether it is finite.
    fn count(&mut self, value: f64, times: u64) -> bool {
        if value.is_nan() {
            self.nan += times;
        } else if value == f64::INFINITY {
            self.positive_infinity += times;
        } else if value == f64::NEG_INFINITY {
            self.negative_infinity += times;
        } else {
            self.finite += times;
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            if value == 0.0 {
                self.zeros += times;
            }
            return true;
        }
        false
    }

    /// Both sets of elements together (Chan, Golub and `LeVeque`'s update).
    fn merge(self, other: Self) -> Self {
        let finite = self.finite + other.finite;
        let share = other.finite as f64 / finite.max(1) as f64;
        let distance = other.mean - self.mean;
        Self {
            finite,
            zeros: self.zeros + other.zeros,
            nan: self.nan + other.nan,
            positive_infinity: self.positive_infinity + other.positive_infinity,
            negative_infinity: self.negative_infinity + other.negative_infinity,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            mean: self.mean + distance * share,
            squares: self.squares
                + other.squares
                + distance * distance * (self.finite as f64 * share),
        }
    }

    fn with(self, histogram: Vec<u64>) -> Statistics {
        let if_any = |value: f64| (self.finite > 0).then_some(value);
        Statistics {
            elements: self.finite + self.nan + self.positive_infinity + self.negative_infinity,
            zeros: self.zeros,
            nan: self.nan,
            positive_infinity: self.positive_infinity,
            negative_infinity: self.negative_infinity,
            min: if_any(self.min),
            max: if_any(self.max),
            mean: if_any(self.mean),
            std: if_any((self.squares / self.finite.max(1) as f64).sqrt()),
            histogram,
        }
    }
}

/// Which bin a value belongs to.
#[derive(Debug, Clone, Copy)]
struct Bins {
    min: f64,
    /// Half of the range, which does not overflow.
    half: f64,
}

impl Bins {
    fn of(moments: &Moments) -> Self {
        Self {
            min: moments.min,
            half: moments.max / 2.0 - moments.min / 2.0,
        }
    }

    fn bin(self, value: f64) -> usize {
        let part = (value / 2.0 - self.min / 2.0) / self.half;
        // Without a range this is NaN, which becomes 0.
        ((part * BINS as f64) as usize).min(BINS - 1)
    }
}
