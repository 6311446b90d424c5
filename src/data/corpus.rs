//! One split of the tokenised documents of a recipe.

use std::path::Path;
use std::sync::Arc;

use crate::recipe::Recipe;

use super::cache::{self, Document, TokenCache};
use super::{DataError, Split, Tokenizer, source};

/// The tokenizer that a recipe names, paths relative to `folder`.
pub(super) fn tokenizer(recipe: &Recipe, folder: &Path) -> Result<Tokenizer, DataError> {
    match &recipe.data.tokenizer {
        Some(path) => Tokenizer::from_file(&folder.join(path)),
        None => Tokenizer::bundled(),
    }
}

/// All documents of a recipe, tokenised; whether the cache was made just now.
pub(super) fn tokens(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    folder: &Path,
) -> Result<(Arc<TokenCache>, bool), DataError> {
    let files = source::resolve(&recipe.data.sources, folder)?;
    if files.is_empty() {
        return Err(DataError::Empty {
            files: 0,
            documents: 0,
        });
    }
    let caches = cache::folder(recipe.data.cache.as_deref(), folder);
    let (cache, built) = TokenCache::open_or_build(&files, tokenizer, &caches)?;
    Ok((Arc::new(cache), built))
}

/// Whether a document is held out: its hash, as a number in 0..1, is below the fraction. So it stays on its side when others
/// come or go, and equal documents are on the same side.
pub(super) fn split_of(document: &Document<'_>, validation_fraction: f64) -> Split {
    if (document.hash as f64) < validation_fraction * 2f64.powi(64) {
        Split::Validation
    } else {
        Split::Train
    }
}

/// The documents of one split.
#[derive(Debug, Clone)]
pub(super) struct Corpus {
    cache: Arc<TokenCache>,
    documents: Arc<[u32]>,
}

impl Corpus {
    pub(super) fn new(
        cache: Arc<TokenCache>,
        split: Split,
        validation_fraction: f64,
    ) -> Result<Self, DataError> {
        let documents: Arc<[u32]> = (0..cache.documents())
            .filter(|&index| {
                let document = cache.document(index);
                // One that is only its end has nothing to predict.
                document.len() > 1 && split_of(&document, validation_fraction) == split
            })
            .map(|index| index as u32)
            .collect();
        if documents.is_empty() {
            return Err(DataError::EmptySplit {
                split: match split {
                    Split::Train => "training",
                    Split::Validation => "validation",
                },
                documents: cache.documents() as u64,
                fraction: validation_fraction,
            });
        }
        Ok(Self { cache, documents })
    }

    /// Documents of the split.
    pub(super) fn len(&self) -> usize {
        self.documents.len()
    }

    /// The document at a place of the split.
    pub(super) fn document(&self, index: u32) -> Document<'_> {
        self.cache.document(self.documents[index as usize] as usize)
    }

    /// The file behind.
    pub(super) fn path(&self) -> &Path {
        self.cache.path()
    }
}
