//! Numbers in few characters.

use crate::checkpoint::statistics::BINS;

/// A count with a decimal unit: `8.95 B`.
pub(super) fn count(value: u64) -> String {
    let mut scaled = value as f64;
    let mut unit = 0;
    let units = ["", " K", " M", " B", " T"];
    while scaled >= 999.5 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    match (unit, scaled) {
        (0, _) => value.to_string(),
        (_, ..10.0) => format!("{scaled:.2}{}", units[unit]),
        (_, ..100.0) => format!("{scaled:.1}{}", units[unit]),
        _ => format!("{scaled:.0}{}", units[unit]),
    }
}

/// A value with four digits, in at most ten characters; `-` for nothing.
pub(super) fn value(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(v) if (1e-3..1e5).contains(&v.abs()) => {
            let before = v.abs().log10().floor().max(0.0) as usize;
            format!("{v:.*}", 4_usize.saturating_sub(before).max(1))
        }
        Some(v) => format!("{v:.3e}"),
    }
}

/// A histogram as a line of bars, one character a bin. The highest bin is a whole block; what is not empty is seen.
pub(super) fn bars(histogram: &[u64]) -> String {
    const BARS: [char; 9] = [
        ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}',
        '\u{2588}',
    ];
    let highest = histogram.iter().copied().max().unwrap_or(0).max(1);
    let mut line = String::with_capacity(BINS * 3);
    for &bin in histogram {
        let eighths = (bin as f64 / highest as f64 * 8.0).round() as usize;
        line.push(BARS[eighths.max(usize::from(bin > 0))]);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits_and_fit() {
        for (v, expected) in [
            (0.0, "0"),
            (-0.123_456, "-0.1235"),
            (12.345_67, "12.346"),
            (-54_321.0, "-54321.0"),
            (1e-9, "1.000e-9"),
            (-f64::MAX, "-1.798e308"),
        ] {
            assert_eq!(value(Some(v)), expected);
            assert!(value(Some(v)).len() <= 10);
        }
        assert_eq!(value(None), "-");
    }

    #[test]
    fn counts_have_the_unit_that_fits() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234), "1.23 K");
        assert_eq!(count(35_107_000_000), "35.1 B");
        assert_eq!(count(397_000_000_000), "397 B");
    }

    #[test]
    fn bars_show_whatever_is_not_empty() {
        let line: Vec<char> = bars(&[0, 1, 500, 1000]).chars().collect();
        assert_eq!(line, [' ', '\u{2581}', '\u{2584}', '\u{2588}']);
    }
}
