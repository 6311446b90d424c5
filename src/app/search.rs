//! The search box: what is looked for and how a text is compared with it.

use nucleo_matcher::pattern::{Atom, AtomKind, CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};
use tui_input::Input;

/// How a text is compared with the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchMode {
    /// Letters in order, gaps allowed; words separated by spaces all have to match.
    #[default]
    Fuzzy,
    /// As a part of the text, case ignored unless the query has upper case.
    Exact,
    /// With `*` and `?`.
    Glob,
}

impl SearchMode {
    /// The next mode in the box's cycle.
    pub fn next(self) -> Self {
        match self {
            Self::Fuzzy => Self::Exact,
            Self::Exact => Self::Glob,
            Self::Glob => Self::Fuzzy,
        }
    }

    /// The name in the box.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fuzzy => "fuzzy",
            Self::Exact => "exact",
            Self::Glob => "glob",
        }
    }
}

/// An open search box.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The typed query.
    pub input: Input,
    /// How it compares.
    pub mode: SearchMode,
    /// The query to return to on escape.
    pub before: Query,
}

/// A committed query; an empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// What is looked for.
    pub text: String,
    /// How it compares.
    pub mode: SearchMode,
}

impl Query {
    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// How well `text` matches; `None` if it does not.
    pub fn score(&self, text: &str) -> Option<u32> {
        Matching::new(self).score(text)
    }

    /// Whether `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.score(text).is_some()
    }
}

/// A query made ready for many texts.
#[derive(Debug)]
pub struct Matching {
    way: Way,
    buffer: Vec<char>,
}

#[derive(Debug)]
enum Way {
    Everything,
    Nothing,
    Fuzzy {
        pattern: Pattern,
        /// For each word of the pattern that may have gaps, the word without.
        whole: Vec<Option<Atom>>,
        matcher: Box<Matcher>,
    },
    /// As a part; of the text in lower case if the query has no upper case.
    Part {
        needle: String,
        lower: bool,
    },
    Glob(glob::Pattern),
}

impl Matching {
    /// Reads the query.
    pub fn new(query: &Query) -> Self {
        let text = query.text.trim();
        let way = match query.mode {
            _ if text.is_empty() => Way::Everything,
            SearchMode::Fuzzy => {
                let pattern = Pattern::parse(text, CaseMatching::Smart, Normalization::Smart);
                let whole = pattern.atoms.iter().map(without_gaps).collect();
                Way::Fuzzy {
                    pattern,
                    whole,
                    matcher: Box::new(Matcher::new(Config::DEFAULT.match_paths())),
                }
            }
            SearchMode::Exact => Way::Part {
                needle: text.to_owned(),
                lower: !text.chars().any(char::is_uppercase),
            },
            SearchMode::Glob => {
                glob::Pattern::new(&format!("*{text}*")).map_or(Way::Nothing, Way::Glob)
            }
        };
        Self {
            way,
            buffer: Vec::new(),
        }
    }

    /// How well `text` matches; `None` if it does not.
    pub fn score(&mut self, text: &str) -> Option<u32> {
        let is_match = match &mut self.way {
            Way::Everything => return Some(0),
            Way::Nothing => false,
            Way::Fuzzy {
                pattern, matcher, ..
            } => {
                return pattern.score(Utf32Str::new(text, &mut self.buffer), matcher);
            }
            Way::Part {
                needle,
                lower: true,
            } => text.to_lowercase().contains(needle.as_str()),
            Way::Part { needle, .. } => text.contains(needle.as_str()),
            Way::Glob(pattern) => pattern.matches(text),
        };
        is_match.then_some(1)
    }

    /// Like [`score`](Self::score), of the same texts, but quicker: a word with gaps is scored where it first fits, which may not be the best
    /// place.
    pub fn rough_score(&mut self, text: &str) -> Option<u32> {
        let Way::Fuzzy {
            pattern,
            whole,
            matcher,
        } = &mut self.way
        else {
            return self.score(text);
        };
        let text = Utf32Str::new(text, &mut self.buffer);
        let mut sum = 0;
        for (word, whole) in pattern.atoms.iter().zip(whole) {
            let score = match whole {
                // A score sets the matcher to the word's letter case, which the second try uses too.
                Some(whole) => whole
                    .score(text, matcher)
                    .or_else(|| matcher.fuzzy_match_greedy(text, word.needle_text()))?,
                None => word.score(text, matcher)?,
            };
            sum += u32::from(score);
        }
        Some(sum)
    }
}

/// A word as a part of the text in one piece; none if it is such already.
fn without_gaps(word: &Atom) -> Option<Atom> {
    let needle = word.needle_text().to_string();
    (word.kind == AtomKind::Fuzzy && !word.negative).then(|| {
        Atom::new(
            &needle,
            CaseMatching::Smart,
            Normalization::Smart,
            AtomKind::Substring,
            false,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_compares_in_its_way() {
        let query = |text: &str, mode| Query {
            text: text.into(),
            mode,
        };
        assert!(query("tnmtp", SearchMode::Fuzzy).is_match("tiny-mtp2.toml"));
        assert!(!query("tnmtp", SearchMode::Exact).is_match("tiny-mtp2.toml"));
        assert!(query("mtp2", SearchMode::Exact).is_match("tiny-MTP2.toml"));
        assert!(!query("MTP2", SearchMode::Exact).is_match("tiny-mtp2.toml"));
        assert!(query("t*2.t", SearchMode::Glob).is_match("tiny-mtp2.toml"));
        assert!(!query("[", SearchMode::Glob).is_match("tiny"));
        assert!(query(" ", SearchMode::Exact).is_match("anything"));
    }

    #[test]
    fn a_rough_score_finds_the_same_texts() {
        let texts = [
            "layers.7.mlp.fc1",
            "MLP.fc",
            "f.c.1",
            "mlp",
            "",
            "fc1-fc1 7",
        ];
        for text in ["fc1 7", "!mlp", "MLP", "mlp$", "^la", "'fc1", "f1", "\\ f"] {
            let query = Query {
                text: text.into(),
                mode: SearchMode::Fuzzy,
            };
            let mut matching = Matching::new(&query);
            for of in texts {
                let rough = matching.rough_score(of);
                assert_eq!(
                    matching.score(of).is_some(),
                    rough.is_some(),
                    "{text} in {of}"
                );
                assert!(rough <= matching.score(of), "{text} in {of}");
            }
        }
    }
}
