//! From values to places and back, and which values to write at an axis.

use crate::tui::widgets::number::{Unit, short};

/// An axis: which values lie at its ends, and how they are spaced between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spacing {
    low: f64,
    high: f64,
    log: bool,
}

impl Spacing {
    /// An axis from `low` to `high`; one without extent is widened. A logarithmic axis starts above 0.
    pub(super) fn new(low: f64, high: f64, log: bool) -> Self {
        let (mut low, mut high) = (low, high);
        let log = log && high > 0.0;
        if log && low <= 0.0 {
            low = (high * 1e-6).min(1.0);
        }
        if !low.is_finite() || !high.is_finite() || high <= low {
            let middle = if low.is_finite() { low } else { 0.0 };
            let half = (middle.abs() * 0.05).max(1e-12);
            (low, high) = (middle - half, middle + half);
            if low <= 0.0 && log {
                (low, high) = (middle.abs().max(1e-12) * 0.9, middle.abs().max(1e-12) * 1.1);
            }
        }
        Self { low, high, log }
    }

    /// Where a value lies: 0 at the low end, 1 at the high end.
    pub(super) fn share(&self, value: f64) -> f64 {
        if self.log {
            if value <= 0.0 {
                return f64::NEG_INFINITY;
            }
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The value that lies at a share.
    pub(super) fn value(&self, share: f64) -> f64 {
        if self.log {
            self.low * (self.high / self.low).powf(share)
        } else {
            self.low + (self.high - self.low) * share
        }
    }

    /// At most `most` round values inside the axis with their texts.
    pub(super) fn ticks(&self, most: usize, unit: Unit) -> Vec<(f64, String)> {
        if most == 0 {
            return vec![];
        }
        if self.log && self.high / self.low >= 20.0 {
            return self.decades(most, unit);
        }
        let step = nice((self.high - self.low) / most as f64, unit);
        let first = (self.low / step).ceil();
        (0..most + 2)
            .map(|i| (first + i as f64) * step)
            .take_while(|&v| v <= self.high + step * 1e-9)
            .map(|v| (v, label(v, step, unit)))
            .collect()
    }

    fn decades(&self, most: usize, unit: Unit) -> Vec<(f64, String)> {
        let (first, last) = (
            self.low.log10().floor() as i32,
            self.high.log10().ceil() as i32,
        );
        let within = |v: &f64| (self.low..=self.high).contains(v);
        let at = |steps: &[f64], every: i32| -> Vec<f64> {
            let decades = (first..=last).filter(|d| d.rem_euclid(every) == 0);
            let values = decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            values.filter(within).collect()
        };
        let mut values = at(&[1.0, 2.0, 5.0], 1);
        let mut every = 1;
        while values.len() > most && every < 64 {
            values = at(&[1.0], every);
            every += 1;
        }
        values.into_iter().map(|v| (v, short(v, unit))).collect()
    }
}

/// The smallest round step that is not below `step`: 1, 2 or 5 times a power of ten; of two for bytes.
fn nice(step: f64, unit: Unit) -> f64 {
    if unit == Unit::Bytes {
        return step.max(1.0).log2().ceil().exp2();
    }
    if unit == Unit::Seconds && step > 1.0 {
        let round = [
            2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0,
            43_200.0, 86_400.0,
        ];
        if let Some(found) = round.into_iter().find(|&r| r >= step) {
            return found;
        }
    }
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A tick's text, with as many digits as tell it from its neighbours.
fn label(value: f64, step: f64, unit: Unit) -> String {
    let value = if value.abs() < step * 1e-6 {
        0.0
    } else {
        value
    };
    if unit != Unit::Plain {
        return if value == 0.0 {
            "0".into()
        } else {
            short(value, unit)
        };
    }
    let size = value.abs().max(step);
    if !(1e-3..1e5).contains(&size) && value != 0.0 {
        return format!("{value:.1e}");
    }
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let texts = |low, high, log, most, unit| -> Vec<String> {
            let ticks = Spacing::new(low, high, log).ticks(most, unit);
            ticks.into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(texts(1.3, 4.1, false, 3, Unit::Plain), ["2", "3", "4"]);
        assert_eq!(
            texts(0.0, 20_000.0, false, 4, Unit::Count),
            ["0", "5.00k", "10.0k", "15.0k", "20.0k"]
        );
        assert_eq!(
            texts(1.0, 100.0, true, 8, Unit::Plain),
            [
                "1.000", "2.000", "5.000", "10.000", "20.000", "50.000", "100.0"
            ]
        );
        assert_eq!(
            texts(1.0, 1e6, true, 4, Unit::Count),
            ["1", "100", "10.0k", "1.00M"]
        );
    }

    #[test]
    fn share_and_value_are_inverse() {
        for spacing in [
            Spacing::new(1.0, 9.0, false),
            Spacing::new(1.0, 9.0, true),
            Spacing::new(3.0, 3.0, true),
        ] {
            for share in [0.0, 0.3, 1.0] {
                assert!((spacing.share(spacing.value(share)) - share).abs() < 1e-9);
            }
        }
    }
}
