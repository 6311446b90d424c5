//! Exponential smoothing over all values of a column.

use super::{ABSENT, Values, is_absent};

/// A smoothed column that grows with its raw one.
///
/// With `s = sum_i decay^(n-i) x_i` and `w = sum_i decay^(n-i)` over the finite values up to row `n`, the smoothed value is `s / w`: a constant
/// stays constant from the first row on. Values that are not finite are passed over, and the line goes on at its last value.
#[derive(Debug, Clone)]
pub(super) struct Smooth {
    pub(super) decay: f32,
    pub(super) values: Values<f32>,
    sum: f64,
    weight: f64,
}

impl Smooth {
    pub(super) fn over(raw: &Values<f32>, decay: f32) -> Self {
        let mut smooth = Self {
            decay,
            values: Values::default(),
            sum: 0.0,
            weight: 0.0,
        };
        smooth.grow(raw);
        smooth
    }

    pub(super) fn grow(&mut self, raw: &Values<f32>) {
        let decay = f64::from(self.decay);
        let Self {
            values,
            sum,
            weight,
            ..
        } = self;
        raw.slices(values.len()..raw.len(), |slice| {
            for &value in slice {
                if value.is_finite() {
                    *sum = *sum * decay + f64::from(value);
                    *weight = *weight * decay + 1.0;
                }
                values.push(if is_absent(value) || *weight == 0.0 {
                    ABSENT
                } else {
                    (*sum / *weight) as f32
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smooth(values: &[f32], decay: f32) -> Vec<f32> {
        let mut raw = Values::default();
        raw.extend(values);
        Smooth::over(&raw, decay).values.parts().1.to_vec()
    }

    #[test]
    fn a_constant_stays_constant() {
        assert_eq!(smooth(&[2.5; 100], 0.99), [2.5; 100]);
    }

    #[test]
    fn no_smoothing_gives_the_values_back() {
        assert_eq!(smooth(&[1.0, -2.0, 3.0], 0.0), [1.0, -2.0, 3.0]);
    }

    #[test]
    fn values_that_are_not_finite_are_passed_over() {
        let with = smooth(&[1.0, f32::NAN, 3.0, f32::INFINITY], 0.5);
        let without = smooth(&[1.0, 3.0], 0.5);
        assert_eq!(with, [without[0], without[0], without[1], without[1]]);
        assert!((without[1] - (0.5 + 3.0) / 1.5).abs() < 1e-6);
    }

    #[test]
    fn nothing_is_drawn_before_the_first_value() {
        let smoothed = smooth(&[f32::NAN, ABSENT, 4.0], 0.9);
        assert!(is_absent(smoothed[0]) && is_absent(smoothed[1]));
        assert_eq!(smoothed[2], 4.0);
    }
}
