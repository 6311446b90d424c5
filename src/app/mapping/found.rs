//! Names that a search finds.

use rayon::prelude::*;

use super::Names;
use crate::app::search::{Matching, Query, SearchMode};

/// Names that a thread compares at a time.
const PIECE: usize = 2048;
/// Up to so many matches are all scored with care.
const ALL: usize = 4096;
/// Of more, so many are: nobody reads further.
const FIRST: usize = 1024;

/// What a search found, and what the searches before it found that it continues: typed letter by letter, each looks only at what the one before
/// left, and a letter taken back costs nothing.
#[derive(Debug, Default)]
pub struct Found(Vec<Step>);

#[derive(Debug)]
struct Step {
    query: Query,
    /// Best first; equally good ones in the order of the names.
    names: Vec<u32>,
}

impl Found {
    /// The names found, best first.
    pub fn names(&self) -> &[u32] {
        self.0.last().map_or(&[], |step| &step.names)
    }

    /// Searches `names`; an empty query finds nothing.
    pub fn search(&mut self, names: &Names, query: &Query) {
        let continues = |step: &Step| {
            step.query.mode == query.mode
                && query.text.starts_with(&step.query.text)
                && (query.text == step.query.text || narrows(query))
        };
        while self.0.pop_if(|step| !continues(step)).is_some() {}
        if query.is_empty() {
            self.0.clear();
        } else if self.0.last().is_none_or(|step| step.query != *query) {
            let mut left = match self.0.last() {
                Some(before) => before.names.clone(),
                None => (0..names.len() as u32).collect(),
            };
            // In the order of the names, so that pieces have neighbours whatever was typed before.
            left.par_sort_unstable();
            let found = compare(names, query, &left);
            self.0.push(Step {
                query: query.clone(),
                names: found,
            });
        }
    }
}

/// Whether a longer text of this kind never matches what the shorter one did not. Signs of the pattern language may turn a meaning around.
fn narrows(query: &Query) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    query.mode != SearchMode::Glob && query.text.chars().all(plain)
}

/// The names that match, best first. Of very many the first ones are in the order of their best scores, the rest by a rough score.
fn compare(names: &Names, query: &Query, which: &[u32]) -> Vec<u32> {
    let found = scored(which, query, |matching, name| {
        matching.rough_score(names.get(name as usize))
    });
    let careful = if found.len() <= ALL {
        found.len()
    } else {
        FIRST
    };
    let (first, rest) = found.split_at(careful);
    let first: Vec<u32> = first.iter().map(|&word| word as u32).collect();
    let first = scored(&first, query, |matching, name| {
        matching.score(names.get(name as usize))
    });
    first.iter().chain(rest).map(|&word| word as u32).collect()
}

/// Names that have a score, best first, then by number: the score, turned round, above the number in one word.
fn scored(
    which: &[u32],
    query: &Query,
    score: impl Fn(&mut Matching, u32) -> Option<u32> + Sync,
) -> Vec<u64> {
    let mut words: Vec<u64> = which
        .par_chunks(PIECE)
        .flat_map_iter(|piece| {
            let mut matching = Matching::new(query);
            let word = |&name: &u32| {
                let score = score(&mut matching, name)?;
                Some(u64::from(u32::MAX - score) << 32 | u64::from(name))
            };
            piece.iter().filter_map(word).collect::<Vec<u64>>()
        })
        .collect();
    words.par_sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str, mode: SearchMode) -> Query {
        Query {
            text: text.into(),
            mode,
        }
    }

    #[test]
    fn a_search_typed_letter_by_letter_finds_the_same_as_one_at_once() {
        let list: Vec<String> = (0..40)
            .flat_map(|l| {
                ["q_proj", "gate_proj", "norm"].map(|x| format!("model.layers.{l}.{x}.weight"))
            })
            .collect();
        let names = Names::new(list.iter().map(String::as_str));
        for mode in [SearchMode::Fuzzy, SearchMode::Exact, SearchMode::Glob] {
            for text in [
                "l.7 gate", "1.norm", "Q", "!gate 3", "lay*3.q", "zzz", "proj$",
            ] {
                let mut typed = Found::default();
                for end in 1..=text.len() {
                    typed.search(&names, &query(&text[..end], mode));
                }
                let mut at_once = Found::default();
                at_once.search(&names, &query(text, mode));
                assert_eq!(typed.names(), at_once.names(), "{text} {mode:?}");
                typed.search(&names, &query(&text[..1], mode));
                let mut short = Found::default();
                short.search(&names, &query(&text[..1], mode));
                assert_eq!(typed.names(), short.names(), "{text} {mode:?} taken back");
            }
        }
    }

    #[test]
    fn an_empty_query_finds_nothing() {
        let names = Names::new(["a"]);
        let mut found = Found::default();
        found.search(&names, &query("a", SearchMode::Fuzzy));
        assert_eq!(found.names(), [0]);
        found.search(&names, &query(" ", SearchMode::Fuzzy));
        assert_eq!(found.names(), [0; 0]);
    }
}
