//! What deserves a warning: a loss far above its running mean, throughput far below.

use serde::{Deserialize, Serialize};

use super::Alerts;

/// Share of a new value in a running mean.
const WEIGHT: f64 = 0.05;
/// Values that a running mean needs before it is trusted.
const WARM: u64 = 20;
/// Steps during which a warning is not repeated.
const QUIET: u64 = 20;

/// The running means behind `[alerts]`; part of a checkpoint, so that a continued run warns where an unbroken one would.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    loss: Running,
    throughput: Running,
    quiet_loss: u64,
    quiet_throughput: u64,
}

/// Exponentially weighted mean and variance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Running {
    count: u64,
    mean: f64,
    variance: f64,
}

impl Running {
    fn add(&mut self, value: f64) {
        // The first values weigh more, so that the mean does not start from zero.
        let weight = WEIGHT.max(1.0 / (self.count + 1) as f64);
        let difference = value - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
        self.count += 1;
    }
}

impl Alarm {
    /// Takes the loss and the throughput of one step, the latter in a unit such as `tokens/s`; returns code and message of each warning that they deserve.
    pub fn observe(
        &mut self,
        limits: &Alerts,
        loss: f64,
        throughput: f64,
        unit: &str,
    ) -> Vec<(&'static str, String)> {
        let mut warnings = Vec::new();
        self.quiet_loss = self.quiet_loss.saturating_sub(1);
        self.quiet_throughput = self.quiet_throughput.saturating_sub(1);
        if loss.is_finite() {
            let Running {
                count,
                mean,
                variance,
            } = self.loss;
            // Early losses fall so smoothly that their deviation is tiny; a floor keeps noise from being news.
            let deviation = variance.sqrt().max(1e-3 * mean.abs());
            let score = (loss - mean) / deviation;
            if limits.loss_spike > 0.0
                && count >= WARM
                && score > limits.loss_spike
                && self.quiet_loss == 0
            {
                warnings.push((
                    "loss_spike",
                    format!(
                        "loss {loss:.4} is {score:.1} standard deviations above its running mean {mean:.4}"
                    ),
                ));
                self.quiet_loss = QUIET;
            }
            self.loss.add(loss);
        }
        if throughput.is_finite() && throughput > 0.0 {
            let Running { count, mean, .. } = self.throughput;
            if limits.throughput_drop > 0.0
                && count >= WARM
                && throughput < limits.throughput_drop * mean
                && self.quiet_throughput == 0
            {
                warnings.push((
                    "throughput_drop",
                    format!(
                        "{throughput:.0} {unit} is {:.0} % of the running mean {mean:.0}",
                        100.0 * throughput / mean
                    ),
                ));
                self.quiet_throughput = QUIET;
            }
            self.throughput.add(throughput);
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Alerts = Alerts {
        loss_spike: 6.0,
        throughput_drop: 0.5,
    };

    fn steady() -> Alarm {
        let mut alarm = Alarm::default();
        for i in 0..100 {
            let noise = f64::from(i % 7) * 0.01;
            assert_eq!(
                alarm.observe(&LIMITS, 4.0 + noise, 1000.0 - noise, "tokens/s"),
                []
            );
        }
        alarm
    }

    #[test]
    fn a_spike_and_a_drop_are_each_said_once() {
        let mut alarm = steady();
        let warnings = alarm.observe(&LIMITS, 9.0, 300.0, "tokens/s");
        let codes: Vec<_> = warnings.iter().map(|w| w.0).collect();
        assert_eq!(codes, ["loss_spike", "throughput_drop"]);
        assert_eq!(alarm.observe(&LIMITS, 9.0, 300.0, "tokens/s"), []);
    }

    #[test]
    fn limits_of_zero_are_off_and_non_finite_losses_leave_the_mean_alone() {
        let mut alarm = steady();
        let off = Alerts {
            loss_spike: 0.0,
            throughput_drop: 0.0,
        };
        assert_eq!(alarm.observe(&off, 90.0, 1.0, "tokens/s"), []);
        let before = alarm.loss.clone();
        alarm.observe(&LIMITS, f64::NAN, f64::INFINITY, "tokens/s");
        assert_eq!(alarm.loss, before);
    }
}
