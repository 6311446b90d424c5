//! A bar of several parts, and a line of small columns.

/// What fills the parts of a stacked bar in turn, so that neighbours differ without colour, too.
pub const FILLS: [char; 4] = ['█', '▓', '▒', '░'];

/// The columns that each part has in a bar of `width` columns which `whole` fills.
///
/// Edges are rounded, not parts, so the bar is as long as its sum; what goes beyond the bar is cut.
pub fn stack(parts: &[f64], whole: f64, width: usize) -> Vec<usize> {
    let scale = if whole > 0.0 {
        width as f64 / whole
    } else {
        0.0
    };
    let (mut sum, mut before) = (0.0, 0);
    parts
        .iter()
        .map(|&part| {
            sum += if part.is_finite() { part.max(0.0) } else { 0.0 };
            let edge = ((sum * scale).round() as usize).min(width);
            let columns = edge - before;
            before = edge;
            columns
        })
        .collect()
}

/// Values from 0 to 1 as one character each; what is missing is left blank.
pub fn spark(values: impl Iterator<Item = Option<f32>>) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    values
        .map(|value| match value {
            Some(value) if value.is_finite() => {
                LEVELS[((value.clamp(0.0, 1.0) * 8.0) as usize).min(7)]
            }
            _ => ' ',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stack_is_as_long_as_its_sum(
            parts in prop::collection::vec(prop_oneof![0.0..10.0f64, Just(0.0), Just(f64::NAN)], 0..8),
            whole in 0.0..50.0f64,
            width in 0usize..80,
        ) {
            let columns = stack(&parts, whole, width);
            prop_assert_eq!(columns.len(), parts.len());
            let sum: f64 = parts.iter().filter(|p| p.is_finite()).sum();
            let share = if whole > 0.0 { (sum / whole).min(1.0) } else { 0.0 };
            prop_assert_eq!(columns.iter().sum::<usize>(), (share * width as f64).round() as usize);
        }
    }

    #[test]
    fn a_spark_has_a_character_a_value() {
        let values = [
            Some(0.0),
            Some(0.5),
            None,
            Some(1.0),
            Some(7.0),
            Some(f32::NAN),
        ];
        assert_eq!(spark(values.into_iter()), "▁▅ ██ ");
    }
}
