//! Numbers as short as a chart needs them.

/// What a number measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// A plain number.
    #[default]
    Plain,
    /// A count, with a decimal unit.
    Count,
    /// Bytes, with a binary unit.
    Bytes,
    /// Seconds.
    Seconds,
    /// Percent.
    Percent,
}

/// `value` to about four digits.
pub fn short(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "NaN".into();
    }
    match unit {
        Unit::Plain => plain(value),
        Unit::Count => scaled(value, 1000.0, &["", "k", "M", "B", "T", "P"]),
        Unit::Bytes => scaled(
            value,
            1024.0,
            &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"],
        ),
        Unit::Seconds => duration(value),
        Unit::Percent => format!("{value:.1} %"),
    }
}

/// Bytes of all bytes with one unit where they have the same: `55.0/80.0 GiB`.
pub fn part_of(part: u64, whole: u64) -> String {
    let whole = short(whole as f64, Unit::Bytes);
    let part = short(part as f64, Unit::Bytes);
    let unit = whole.rsplit(' ').next().unwrap_or_default();
    match part.strip_suffix(unit) {
        Some(number) => format!("{}/{whole}", number.trim_end()),
        None => format!("{part}/{whole}"),
    }
}

fn plain(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.2e}")
    } else if size >= 1000.0 {
        format!("{value:.0}")
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.3}")
    } else {
        format!("{value:.4}")
    }
}

fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value.abs() >= base * 0.9995 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = match value.abs() {
        v if unit == 0 && v.fract() == 0.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[unit])
}

/// Seconds as `350 ms`, `12.3 s`, `4m05s`, `1h04m`, `2d03h`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    if seconds < 1.0 {
        format!("{:.0} ms", seconds.max(0.0) * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else if hours == 0 {
        format!("{minutes}m{:02}s", whole % 60)
    } else if days == 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else {
        format!("{days}d{:02}h", hours % 24)
    }
}

/// A whole number with a space between thousands.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, unit, text) in [
            (2.4713, Unit::Plain, "2.471"),
            (3e-4, Unit::Plain, "3.00e-4"),
            (0.0, Unit::Plain, "0"),
            (12.0, Unit::Count, "12"),
            (98_300.0, Unit::Count, "98.3k"),
            (2.2e9, Unit::Count, "2.20B"),
            (999_999.0, Unit::Count, "1.00M"),
            (1536.0, Unit::Bytes, "1.50 KiB"),
            (3849.0, Unit::Seconds, "1h04m"),
            (0.35, Unit::Seconds, "350 ms"),
            (f64::NAN, Unit::Plain, "NaN"),
        ] {
            assert_eq!(short(value, unit), text);
        }
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(part_of(3 << 29, 80 << 30), "1.50/80.0 GiB");
        assert_eq!(part_of(3 << 19, 80 << 30), "1.50 MiB/80.0 GiB");
        assert_eq!(part_of(0, 0), "0/0 B");
    }
}
