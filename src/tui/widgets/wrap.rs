//! Text cut between words, and words cut.

/// `text` in lines of at most `width` characters, cut between words; a longer word has a line of its own and is not cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let taken = line.chars().count();
        if taken > 0 && taken + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// A word in pieces of at most `width` characters, broken after a dot where there is one in the second half.
pub fn broken(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut rest: Vec<char> = text.chars().collect();
    let mut lines = Vec::new();
    while rest.len() > width {
        let dot = rest[..width].iter().rposition(|&c| c == '.');
        let end = dot.map(|dot| dot + 1).filter(|&end| 2 * end > width);
        let tail = rest.split_off(end.unwrap_or(width));
        lines.push(rest.into_iter().collect());
        rest = tail;
    }
    lines.push(rest.into_iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::{broken, wrap};

    #[test]
    fn long_names_break_after_a_dot() {
        assert_eq!(
            broken("model.layers.weight", 14),
            ["model.layers.", "weight"]
        );
        assert_eq!(broken("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(broken("", 3), [""]);
        assert_eq!(broken("ab", 0), ["a", "b"]);
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("indivisible", 3), ["indivisible"]);
        assert_eq!(wrap("a b", 0), ["a", "b"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
