//! A horizontal bar made of characters.

/// A bar over `width` columns of which a `share` (0 to 1) is full, to half a column; anything above 0 shows.
pub fn bar(share: f64, width: usize) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let mut halves = (share * 2.0 * width as f64).round() as usize;
    if share > 0.0 && width > 0 {
        halves = halves.max(1);
    }
    let mut bar = "█".repeat(halves / 2);
    if halves % 2 == 1 {
        bar.push('▌');
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_have_the_length_of_their_share() {
        assert_eq!(bar(0.5, 8), "████");
        assert_eq!(bar(0.45, 5), "██▌");
        assert_eq!(bar(0.0001, 8), "▌");
        assert_eq!(bar(0.0, 8), "");
        assert_eq!(bar(2.0, 2), "██");
        assert_eq!(bar(f64::NAN, 2), "");
        assert_eq!(bar(1.0, 0), "");
    }
}
