//! A run's numbers as columns with pyramids over them, so that a chart of any width is drawn from all points at once.
//!
//! Each row is one logged step. A column has a pyramid of fan-out 16 whose nodes hold minimum, maximum, sum, last value, and how many
//! values are missing or not finite, so a bucket of any range costs `O(log n)`. Smoothing runs over all values, never over drawn ones.

mod metric;
mod pyramid;
mod smooth;
mod table;
mod values;

pub use metric::{Metric, PHASES, ROUTER};
pub use pyramid::Node;
pub use table::{Axis, Bucket, Table};

pub(super) use metric::{FIXED, Row, extra_column};
pub(super) use values::Values;

/// Says that a row has no such number; differs from a number that is not finite.
pub const ABSENT: f32 = f32::from_bits(0x7fc0_a85e);

/// Whether `value` is [`ABSENT`].
pub fn is_absent(value: f32) -> bool {
    value.to_bits() == ABSENT.to_bits()
}
