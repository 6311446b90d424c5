//! Layout strings: `Et*3|(tt|)*29,m|L`.

use std::iter::Peekable;
use std::ops::Range;
use std::str::Chars;

use super::PipelineError;

/// More letters and bars than any model has; a string that unfolds to more is refused before it does.
const LONGEST: usize = 1 << 14;
/// Brackets in brackets; the published layouts have one level.
const DEEPEST: usize = 16;

/// Chunks of layers of every stage.
type Chunks = Vec<Vec<Range<usize>>>;

/// Layers of every chunk of every stage, and the stage of MTP.
pub(super) fn chunks(
    text: &str,
    pp: usize,
    vpp: usize,
    layers: usize,
    mtp: usize,
) -> Result<(Chunks, usize), PipelineError> {
    let unfolded = unfold(text)?;
    let chunks: Vec<&str> = unfolded.split('|').collect();
    if !chunks.len().is_multiple_of(pp) {
        return Err(PipelineError::ChunksByStages {
            chunks: chunks.len(),
            pp,
        });
    }
    if vpp != 1 && vpp != chunks.len() / pp {
        return Err(PipelineError::OtherChunks {
            vpp,
            chunks: chunks.len(),
            pp,
        });
    }
    for (letter, expected, part) in [
        ('E', 1, "embedding"),
        ('t', layers, "decoder layers"),
        ('m', mtp, "MTP depths"),
        ('L', 1, "loss"),
    ] {
        let found = unfolded.matches(letter).count();
        if found != expected {
            return Err(PipelineError::Count {
                letter,
                found,
                expected,
                part,
            });
        }
    }
    let mtp_chunk = places(&chunks)?;
    let mut stages = vec![Vec::with_capacity(chunks.len() / pp); pp];
    let mut start = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        let end = start + chunk.matches('t').count();
        stages[index % pp].push(start..end);
        start = end;
    }
    Ok((stages, mtp_chunk % pp))
}

/// Checks where the letters are, and gives the chunk of MTP: the last one for a model without.
fn places(chunks: &[&str]) -> Result<usize, PipelineError> {
    let misplaced = |letter, chunk, rule: String| {
        Err(PipelineError::Misplaced {
            letter,
            chunk,
            rule,
        })
    };
    let last = chunks.len() - 1;
    for (index, chunk) in chunks.iter().enumerate() {
        match chunk.find('E') {
            Some(at) if (index, at) != (0, 0) => {
                return misplaced('E', index, "it comes first in chunk 0".into());
            }
            _ => {}
        }
        match chunk.find('L') {
            Some(at) if index != last || at + 1 != chunk.len() => {
                return misplaced('L', index, format!("it comes last in chunk {last}"));
            }
            _ => {}
        }
    }
    let with_mtp: Vec<usize> = (0..chunks.len())
        .filter(|&index| chunks[index].contains('m'))
        .collect();
    let last_layer = chunks.iter().rposition(|chunk| chunk.contains('t'));
    match with_mtp[..] {
        [] => Ok(last),
        [first, .., other] => misplaced(
            'm',
            other,
            format!("chunk {first} has one too, and all depths are together"),
        ),
        [chunk] => {
            let follows = |text: &str| text.rfind('t') < text.find('m');
            match last_layer {
                Some(layer) if layer > chunk || (layer == chunk && !follows(chunks[chunk])) => {
                    misplaced(
                        'm',
                        chunk,
                        format!("it follows the last layer, which is in chunk {layer}"),
                    )
                }
                _ => Ok(chunk),
            }
        }
    }
}

/// The string without repeats, brackets, commas and blanks.
fn unfold(text: &str) -> Result<String, PipelineError> {
    let mut reader = Reader {
        text,
        at: 0,
        chars: text.chars().peekable(),
    };
    let unfolded = reader.group(0)?;
    match reader.chars.peek() {
        None => Ok(unfolded),
        Some(_) => Err(reader.problem("a `)` without its `(`".into())),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    chars: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        self.at += 1;
        self.chars.next()
    }

    fn problem(&self, problem: String) -> PipelineError {
        PipelineError::Text {
            text: shortened(self.text),
            at: self.at,
            problem,
        }
    }

    /// Letters and groups up to the end or to a `)`, which is left.
    fn group(&mut self, depth: usize) -> Result<String, PipelineError> {
        if depth > DEEPEST {
            return Err(self.problem(format!("brackets are nested deeper than {DEEPEST}")));
        }
        let mut all = String::new();
        while let Some(&letter) = self.chars.peek() {
            let piece = match letter {
                ')' => break,
                ',' | ' ' => {
                    self.next();
                    continue;
                }
                'E' | 't' | 'm' | 'L' | '|' => {
                    self.next();
                    letter.to_string()
                }
                '(' => {
                    let opened = self.at;
                    self.next();
                    let inside = self.group(depth + 1)?;
                    if self.next() != Some(')') {
                        self.at = opened;
                        return Err(self.problem("a `(` without its `)`".into()));
                    }
                    inside
                }
                '*' => return Err(self.problem("a `*` follows a letter or a bracket".into())),
                other => {
                    return Err(self.problem(format!(
                        "`{other}` is none of E, t, m, L, `|`, `*n`, brackets, comma"
                    )));
                }
            };
            let times = self.times()?;
            if piece.len().saturating_mul(times).saturating_add(all.len()) > LONGEST {
                return Err(self.problem(format!("it unfolds to more than {LONGEST} letters")));
            }
            all.push_str(&piece.repeat(times));
        }
        Ok(all)
    }

    /// The number of a `*n`, 1 if there is none.
    fn times(&mut self) -> Result<usize, PipelineError> {
        if self.chars.peek() != Some(&'*') {
            return Ok(1);
        }
        self.next();
        let start = self.at;
        let mut number = 0usize;
        while let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(10)) {
            number = number.saturating_mul(10).saturating_add(digit as usize);
            self.next();
        }
        if self.at == start {
            return Err(self.problem("a number follows `*`".into()));
        }
        Ok(number)
    }
}

/// A string short enough for a message.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    text.chars().take(57).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_brackets_are_unfolded() {
        let cases = [
            ("Et*3|(tt|)*2,m|L", "Ettt|tt|tt|m|L"),
            ("E|(t|)*3, L", "E|t|t|t|L"),
            ("((t*2|)*2)*2", "tt|tt|tt|tt|"),
            ("E||t|L", "E||t|L"),
            ("t*0E", "E"),
        ];
        for (text, expected) in cases {
            assert_eq!(unfold(text), Ok(expected.to_owned()), "{text}");
        }
    }
}
