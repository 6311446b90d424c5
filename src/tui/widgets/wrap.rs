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

/// `text` in lines of at most `width` characters, cut between words; a longer word is broken, after a dot where there is one in the second half.
pub fn fill(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
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
        let mut rest: Vec<char> = word.chars().collect();
        while rest.len() > width {
            let dot = rest[..width].iter().rposition(|&c| c == '.');
            let end = dot.map(|dot| dot + 1).filter(|&end| 2 * end > width);
            let tail = rest.split_off(end.unwrap_or(width));
            lines.push(rest.into_iter().collect());
            rest = tail;
        }
        line.extend(rest);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::{fill, wrap};

    #[test]
    fn long_names_break_after_a_dot_and_the_line_goes_on() {
        assert_eq!(
            fill("model.layers.weight [3]", 14),
            ["model.layers.", "weight [3]"]
        );
        assert_eq!(fill("a abcdefg b", 3), ["a", "abc", "def", "g b"]);
        assert_eq!(fill("", 3), [""]);
        assert_eq!(fill("ab", 0), ["a", "b"]);
        assert_eq!(fill("one two three", 7), ["one two", "three"]);
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("indivisible", 3), ["indivisible"]);
        assert_eq!(wrap("a b", 0), ["a", "b"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
