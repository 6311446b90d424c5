//! The learning rate over time.

use crate::recipe::{Schedule, ScheduleKind};

/// The learning rate after `x` updates, with `peak` as the recipe's rate; update `n` (from 1) uses `x = n - 1`.
///
/// Megatron's convention: the very first update of a warm-up runs at rate 0, and an update that was skipped for a non-finite gradient does
/// not advance `x`. With `W` warm-up steps, `D` decay steps and `F` steps of the final fall:
///
/// ```text
/// x <= W (W > 0)   peak * x / W
/// constant         peak
/// x > D            min
/// linear, cosine   min + (peak - min) * c((x - W) / (D - W))     c(t) = 1 - t | (1 + cos(pi t)) / 2
/// wsd              peak while x <= D - F, then linear in (x - (D - F)) / F
/// ```
pub fn learning_rate(schedule: &Schedule, peak: f64, x: u64) -> f64 {
    let (warmup, decay) = (schedule.warmup_steps, schedule.decay_steps);
    if warmup > 0 && x <= warmup {
        return peak * x as f64 / warmup as f64;
    }
    if schedule.kind == ScheduleKind::Constant {
        return peak;
    }
    if x > decay {
        return schedule.min_lr;
    }
    let share = |from: u64, steps: u64| (x - from) as f64 / steps.max(1) as f64;
    let height = match schedule.kind {
        ScheduleKind::Constant => 1.0,
        ScheduleKind::Linear => 1.0 - share(warmup, decay - warmup),
        ScheduleKind::Cosine => {
            0.5 * (1.0 + (std::f64::consts::PI * share(warmup, decay - warmup)).cos())
        }
        ScheduleKind::Wsd => {
            let fall = schedule.wsd_decay_steps.min(decay);
            let start = decay - fall;
            if x <= start {
                1.0
            } else {
                1.0 - share(start, fall)
            }
        }
    };
    schedule.min_lr + (peak - schedule.min_lr) * height
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule {
            kind,
            warmup_steps: 10,
            decay_steps: 110,
            wsd_decay_steps: 20,
            min_lr: 0.1,
        }
    }

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn the_first_update_of_a_warm_up_has_rate_zero() {
        for kind in [
            ScheduleKind::Constant,
            ScheduleKind::Linear,
            ScheduleKind::Cosine,
            ScheduleKind::Wsd,
        ] {
            let schedule = schedule(kind);
            near(learning_rate(&schedule, 1.0, 0), 0.0);
            near(learning_rate(&schedule, 1.0, 3), 0.3);
            near(learning_rate(&schedule, 1.0, 10), 1.0);
        }
    }

    #[test]
    fn curves_pass_through_their_points() {
        let at = |kind, x| learning_rate(&schedule(kind), 1.0, x);
        near(at(ScheduleKind::Constant, 5000), 1.0);
        near(at(ScheduleKind::Linear, 60), 0.55);
        near(at(ScheduleKind::Linear, 110), 0.1);
        near(
            at(ScheduleKind::Cosine, 35),
            0.1 + 0.9 * 0.5 * (1.0 + 0.5f64.sqrt()),
        );
        near(at(ScheduleKind::Cosine, 60), 0.55);
        near(at(ScheduleKind::Wsd, 90), 1.0);
        near(at(ScheduleKind::Wsd, 100), 0.55);
        for kind in [
            ScheduleKind::Linear,
            ScheduleKind::Cosine,
            ScheduleKind::Wsd,
        ] {
            near(at(kind, 111), 0.1);
        }
    }

    #[test]
    fn without_warm_up_the_first_update_has_the_peak() {
        let schedule = Schedule {
            warmup_steps: 0,
            ..schedule(ScheduleKind::Cosine)
        };
        near(learning_rate(&schedule, 0.5, 0), 0.5);
    }
}
