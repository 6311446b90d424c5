//! What a recipe's text amounts to.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::recipe::Recipe;

use super::corpus;
use super::{DataError, Split};

/// Counts of one split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SplitStatistics {
    /// Documents.
    pub documents: u64,
    /// Tokens, the one that ends each document included.
    pub tokens: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// Counts and unigram entropies of a recipe's text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// What the model learns from.
    pub train: SplitStatistics,
    /// What is held out.
    pub validation: SplitStatistics,
    /// Entries of the tokenizer.
    pub vocab_size: usize,
    /// Entropy in nats of the held-out labels (every token but a document's first) under their own frequencies: no model that ignores
    /// the context has a lower validation loss. NaN without validation.
    pub validation_entropy: f64,
    /// Cross entropy in nats of the held-out labels under the frequencies of training text, each count raised by one: what a model that
    /// ignores the context reaches. NaN without validation.
    pub unigram_entropy: f64,
    /// The token cache.
    pub cache: PathBuf,
    /// Whether the cache was made just now.
    pub built: bool,
}

/// Counts a recipe's text, paths relative to `recipe_dir`; reads every token, and tokenises text that was not tokenised before.
pub fn statistics(recipe: &Recipe, recipe_dir: &Path) -> Result<Statistics, DataError> {
    let tokenizer = corpus::tokenizer(recipe, recipe_dir)?;
    let (cache, built) = corpus::tokens(recipe, &tokenizer, recipe_dir)?;
    let vocab_size = tokenizer.vocab_size();
    let mut counts = [vec![0u64; vocab_size], vec![0u64; vocab_size]];
    let mut splits = [SplitStatistics::default(); 2];
    for index in 0..cache.documents() {
        let document = cache.document(index);
        let side = match corpus::split_of(&document, recipe.data.validation_fraction) {
            Split::Train => 0,
            Split::Validation => 1,
        };
        splits[side].documents += 1;
        splits[side].tokens += document.len() as u64;
        splits[side].bytes += document.bytes;
        for id in document.ids(1, document.len()) {
            let count = counts[side]
                .get_mut(id as usize)
                .ok_or_else(|| DataError::Cache {
                    path: cache.path().to_owned(),
                    reason: format!("id {id} where the largest is {}", vocab_size - 1),
                })?;
            *count += 1;
        }
    }
    let [train, validation] = counts;
    let smoothed: Vec<u64> = train.iter().map(|count| count + 1).collect();
    Ok(Statistics {
        train: splits[0],
        validation: splits[1],
        vocab_size,
        validation_entropy: cross_entropy(&validation, &validation),
        unigram_entropy: cross_entropy(&validation, &smoothed),
        cache: cache.path().to_owned(),
        built,
    })
}

/// `-sum p ln q` in nats, for the frequencies `p` of `of` and `q` of `under`; NaN if there is nothing.
fn cross_entropy(of: &[u64], under: &[u64]) -> f64 {
    let total = of.iter().sum::<u64>() as f64;
    let under_total = under.iter().sum::<u64>() as f64;
    of.iter()
        .zip(under)
        .filter(|(count, _)| **count > 0)
        .map(|(&count, &other)| -(count as f64 / total) * (other as f64 / under_total).ln())
        .reduce(|a, b| a + b)
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_frequencies_have_the_logarithm_of_their_number() {
        let even = [5, 5, 0, 5, 5];
        assert!((cross_entropy(&even, &even) - 4f64.ln()).abs() < 1e-12);
        assert!((cross_entropy(&[1, 0], &[1, 3]) - 4f64.ln()).abs() < 1e-12);
        assert!(cross_entropy(&[0, 0], &[1, 1]).is_nan());
    }
}
