//! How far two tensors are from each other.

use super::Verdict;
use crate::base::DType;
use crate::checkpoint::convert::cast;

/// Differences of a tensor, as they add up.
#[derive(Default)]
pub(super) struct Difference {
    differ: u64,
    first: Option<(usize, (f32, f32))>,
    largest: f64,
    ulp: f64,
}

impl Difference {
    /// Adds a band of both tensors' bytes, `before` scalars into them.
    pub(super) fn add(&mut self, dtype: DType, a: &[u8], b: &[u8], before: usize) {
        let size = dtype.size() as usize;
        for (i, (x, y)) in a.chunks_exact(size).zip(b.chunks_exact(size)).enumerate() {
            if x == y {
                continue;
            }
            let values = [x, y].map(|bytes| {
                let mut out = [0; 4];
                cast(dtype, bytes, DType::F32, &mut out, 0);
                f32::from_le_bytes(out)
            });
            self.differ += 1;
            self.first
                .get_or_insert((before + i, (values[0], values[1])));
            let error = (f64::from(values[0]) - f64::from(values[1])).abs();
            let error = if error.is_nan() { f64::INFINITY } else { error };
            self.largest = self.largest.max(error);
            self.ulp = self.ulp.max(error / shift_ulp(f64::from(values[1])));
        }
    }

    /// What came out, for a tensor of `cols` columns whose values were shifted or not.
    pub(super) fn verdict(&self, cols: usize, is_shifted: bool) -> Verdict {
        match self.first {
            None => Verdict::Exact,
            Some(_) if is_shifted && self.ulp <= 1.0 => Verdict::Rounded {
                differ: self.differ,
                ulp: self.ulp,
            },
            Some((at, values)) => Verdict::Differs {
                differ: self.differ,
                first: (at / cols.max(1), at % cols.max(1)),
                values,
                largest: self.largest,
            },
        }
    }
}

/// The distance of neighbouring bf16 numbers at the larger of `|w|` and `|w - 1|`.
fn shift_ulp(w: f64) -> f64 {
    let size = w
        .abs()
        .max((w - 1.0).abs())
        .max(f64::from(f32::MIN_POSITIVE));
    (size.log2().floor() - 7.0).exp2()
}
