//! Numbers and times as logs spell them.

/// Powers of ten that f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// An integer without sign and nothing else.
pub(super) fn integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value.checked_mul(10)?.checked_add(u64::from(digit)))?
    })
}

/// A decimal number with or without exponent, `nan`, or `inf`, rounded as the standard library rounds it.
pub(super) fn decimal(text: &[u8]) -> Option<f64> {
    // Both factors are exact where the mantissa has at most 53 bits, so that one rounding happens.
    quick(text).or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
}

fn quick(text: &[u8]) -> Option<f64> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut mantissa = 0u64;
    let mut exponent = 0i32;
    let (mut digits, mut point) = (0, false);
    while let [byte, tail @ ..] = rest {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa
                    .checked_mul(10)?
                    .checked_add(u64::from(byte - b'0'))?;
                exponent -= i32::from(point);
                digits += 1;
            }
            b'.' if !point => point = true,
            b'e' | b'E' => {
                let (minus, tail) = match tail {
                    [b'-', tail @ ..] => (true, tail),
                    [b'+', tail @ ..] => (false, tail),
                    tail => (false, tail),
                };
                let power = i32::try_from(integer(tail)?).ok()?;
                exponent = exponent.checked_add(if minus { -power } else { power })?;
                rest = &[];
                break;
            }
            _ => return None,
        }
        rest = tail;
    }
    if digits == 0 || !rest.is_empty() || mantissa >= 1 << 53 {
        return None;
    }
    let power = POWERS.get(exponent.unsigned_abs() as usize)?;
    let value = mantissa as f64;
    let value = if exponent < 0 {
        value / power
    } else {
        value * power
    };
    Some(if negative { -value } else { value })
}

/// `YYYY-MM-DD HH:MM:SS` with or without a fraction, as milliseconds since the Unix epoch if the clock showed UTC, and whether there is a
/// fraction.
pub(super) fn time(text: &[u8]) -> Option<(i64, bool)> {
    let (whole, fraction) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| whole[at] != byte) {
        return None;
    }
    let part = |from: usize, to: usize| integer(&whole[from..to]).map(|v| v as i64);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 24
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut milliseconds = 0;
    if let [b'.', digits @ ..] = fraction {
        if digits.len() > 9 {
            return None;
        }
        integer(digits)?;
        milliseconds = digits
            .iter()
            .chain(b"000")
            .take(3)
            .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    } else if !fraction.is_empty() {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds * 1000 + milliseconds, !fraction.is_empty()))
}

/// Days from 1970-01-01 in the Gregorian calendar; a year is counted from March so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decimals_are_what_the_standard_library_reads(text in "-?[0-9]{1,20}(\\.[0-9]{0,9})?([eE][+-]?[0-9]{1,3})?") {
            prop_assert_eq!(decimal(text.as_bytes()), text.parse().ok(), "{}", text);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (decimal(&bytes), integer(&bytes), time(&bytes));
        }
    }

    #[test]
    fn times_are_counted_from_the_epoch() {
        assert_eq!(time(b"1970-01-01 00:00:00"), Some((0, false)));
        assert_eq!(
            time(b"2026-01-15 10:22:31"),
            Some((1_768_472_551_000, false))
        );
        assert_eq!(
            time(b"2024-02-29 23:59:60.482913"),
            Some((1_709_251_200_482, true))
        );
        assert_eq!(time(b"2026-13-15 10:22:31"), None);
        assert_eq!(time(b"2026-01-15T10:22:31"), None);
        assert!(decimal(b"nan").is_some_and(f64::is_nan));
        assert_eq!(decimal(b"inf"), Some(f64::INFINITY));
    }
}
