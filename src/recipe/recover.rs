//! What is wrong with a text that is not TOML, statement by statement, and what of it can still be read.

use std::ops::Range;

use toml::de::DeTable;

/// A syntax error of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) span: Range<usize>,
}

/// The errors of a text, and the text with broken statements blanked out so that every other byte keeps its place.
///
/// A parser that trips over one statement says little about the rest. So each statement, which is what stands between two lines that
/// begin at the margin, is parsed alone; what follows a broken section header is checked too, but belongs to no section and is left out.
pub(super) fn recover(text: &str) -> (String, Vec<SyntaxError>) {
    let Err(first) = DeTable::parse(text) else {
        return (text.into(), Vec::new());
    };
    let mut readable = text.as_bytes().to_vec();
    let mut blank = |range: Range<usize>| {
        for byte in &mut readable[range] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let mut errors = Vec::new();
    let mut is_lost = false;
    for range in statements(text) {
        let statement = &text[range.clone()];
        let is_header = statement.starts_with('[');
        match DeTable::parse(statement) {
            Ok(_) => {
                is_lost &= !is_header;
                if is_lost {
                    blank(range);
                }
            }
            Err(error) => {
                is_lost |= is_header;
                let span = error.span().unwrap_or(0..0);
                errors.push(SyntaxError {
                    message: error.message().into(),
                    span: range.start + span.start..range.start + span.end,
                });
                blank(range);
            }
        }
    }
    // What only shows between statements: a key that is there twice.
    let readable = String::from_utf8_lossy(&readable).into_owned();
    let (_, between) = DeTable::parse_recoverable(&readable);
    errors.extend(between.into_iter().map(|error| SyntaxError {
        message: error.message().into(),
        span: error.span().unwrap_or(0..0),
    }));
    if errors.is_empty() {
        errors.push(SyntaxError {
            message: first.message().into(),
            span: first.span().unwrap_or(0..0),
        });
    }
    errors.sort_by_key(|error| error.span.start);
    (readable, errors)
}

/// Byte ranges of statements: each begins at a line with a letter, a quote or `[` at the margin, and goes on to the next.
fn statements(text: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let begins = line.starts_with(|c: char| c.is_alphanumeric() || "_\"'[".contains(c));
        if begins && at > 0 {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broken_statement_is_found_and_the_rest_stays_readable() {
        let text = "a = 1\nb: 2\nc = [1,\n  2\nd = 4\n[e\nf = 5\n[g]\nh =\ni = 6\n";
        let (readable, errors) = recover(text);
        let lines: Vec<usize> = errors
            .iter()
            .map(|error| text[..error.span.start].matches('\n').count() + 1)
            .collect();
        assert_eq!(lines.len(), 4, "{errors:?}");
        assert_eq!((lines[0], lines[3]), (2, 9));
        assert_eq!(readable.len(), text.len());
        let kept: Vec<&str> = readable
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(kept, ["a = 1", "d = 4", "[g]", "i = 6"]);
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_of_the_second() {
        let text = "[a]\nb = 1\nb = 2\n";
        let (_, errors) = recover(text);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].span.start, text.rfind('b').unwrap_or(0));
    }
}
