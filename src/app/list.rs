//! Moving a cursor over rows.

use super::Action;

/// Where the cursor stands after a movement over `len` rows, or `None` if the action is no vertical movement.
pub fn moved(cursor: usize, len: usize, action: Action, half_page: usize) -> Option<usize> {
    let last = len.saturating_sub(1);
    Some(match action {
        Action::MoveUp => cursor.saturating_sub(1),
        Action::MoveDown => (cursor + 1).min(last),
        Action::Top => 0,
        Action::Bottom => last,
        Action::HalfPageUp => cursor.saturating_sub(half_page),
        Action::HalfPageDown => (cursor + half_page).min(last),
        Action::PageUp => cursor.saturating_sub(2 * half_page),
        Action::PageDown => (cursor + 2 * half_page).min(last),
        _ => return None,
    })
}

/// The first row to show so that `cursor` is visible in `height` of `len` rows, near the middle where possible.
pub fn offset(cursor: usize, len: usize, height: usize) -> usize {
    cursor
        .saturating_sub(height / 2)
        .min(len.saturating_sub(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_inside() {
        assert_eq!(moved(0, 0, Action::MoveDown, 5), Some(0));
        assert_eq!(moved(3, 4, Action::MoveDown, 5), Some(3));
        assert_eq!(moved(3, 40, Action::PageDown, 5), Some(13));
        assert_eq!(moved(3, 40, Action::Quit, 5), None);
    }

    #[test]
    fn the_cursor_is_always_visible() {
        for len in 0..30 {
            for height in 1..12 {
                for cursor in 0..len {
                    let first = offset(cursor, len, height);
                    assert!(first <= cursor && cursor < first + height);
                    assert!(first == 0 || first + height <= len);
                }
            }
        }
    }
}
