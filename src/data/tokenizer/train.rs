//! Making a byte-level BPE tokenizer from text.

use std::path::PathBuf;

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, TokenizerBuilder};

use crate::data::DataError;
use crate::data::source::{self, Format, SourceFile};

/// Special tokens of a trained tokenizer, at ids 0, 1, 2. The first ends documents.
pub const SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// How Qwen3.5 cuts text into words before BPE: contractions, words of letters and marks with one sign before them, single
/// digits, signs, line ends, spaces.
const WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
    r"|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+",
    r"|\s+(?!\S)",
    r"|\s+",
);

/// Trains a `tokenizer.json` of at most `vocab_size` entries on text files and returns it as text.
///
/// Equal files in equal order give equal bytes. Unlike Qwen's own, it does not normalise to NFC: every text comes back
/// exactly. A pair has to occur twice to be merged, so a short text may give fewer entries.
pub fn train_tokenizer(files: &[PathBuf], vocab_size: usize) -> Result<String, DataError> {
    let least = 256 + SPECIAL_TOKENS.len();
    if vocab_size < least {
        return Err(DataError::VocabularyBelowBytes {
            asked: vocab_size,
            least,
        });
    }
    let mut documents = Vec::new();
    for path in files {
        let file = SourceFile::new(path.clone(), Format::Text);
        source::read(&file, &mut |text| {
            documents.push(text.to_owned());
            Ok(())
        })?;
    }
    if documents.is_empty() {
        return Err(DataError::Empty {
            files: files.len(),
            documents: 0,
        });
    }
    build(vocab_size, documents).map_err(|error| DataError::Tokenizer {
        path: PathBuf::from("in training"),
        reason: error.to_string(),
    })
}

fn build(vocab_size: usize, documents: Vec<String>) -> tokenizers::Result<String> {
    let byte_level = || ByteLevel::new(false, false, false);
    let words = Split::new(
        SplitPattern::Regex(WORDS.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )?;
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(
            SPECIAL_TOKENS
                .iter()
                .map(|&token| AddedToken::from(token, true).normalized(false))
                .collect(),
        )
        .build();
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
            PreTokenizerWrapper::Split(words),
            PreTokenizerWrapper::ByteLevel(byte_level()),
        ]))))
        .with_post_processor(Some(byte_level()))
        .with_decoder(Some(byte_level()))
        .build()?;
    tokenizer.train(&mut trainer, documents.into_iter())?;
    tokenizer.to_string(false)
}
