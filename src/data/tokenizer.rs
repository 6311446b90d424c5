//! Text to token ids and back: any Hugging Face `tokenizer.json`, or the bundled one.

mod train;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use train::{SPECIAL_TOKENS, train_tokenizer};

use super::DataError;

/// The tokenizer that `assets/prepare` made of the bundled text.
const BUNDLED: &[u8] = include_bytes!("../../assets/tokenizer.json");

/// Names under which tokenizers keep the token that ends a document, best first.
const END_OF_TEXT: [&str; 6] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|eot_id|>",
    "<|im_end|>",
];

/// A tokenizer; a clone shares its tables.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    vocab_size: usize,
    eos: u32,
    fingerprint: [u8; 32],
}

impl Tokenizer {
    /// The one that comes with the program: byte-level BPE with 4096 entries, the split of Qwen3.5, no normalisation, so
    /// that decoding gives back every text exactly.
    pub fn bundled() -> Result<Self, DataError> {
        Self::from_bytes(BUNDLED, Path::new("bundled"), None)
    }

    /// Reads a `tokenizer.json`; `tokenizer_config.json` beside it may name the end-of-document token.
    pub fn from_file(path: &Path) -> Result<Self, DataError> {
        let path = if path.is_dir() {
            path.join("tokenizer.json")
        } else {
            path.to_owned()
        };
        let bytes = fs::read(&path).map_err(DataError::io("read", &path))?;
        Self::from_bytes(&bytes, &path, configured_end(&path).as_deref())
    }

    fn from_bytes(bytes: &[u8], path: &Path, end: Option<&str>) -> Result<Self, DataError> {
        let bad = |reason: String| DataError::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| bad(error.to_string()))?;
        // A corpus is encoded whole, whatever the file says about a model's longest input.
        inner
            .with_truncation(None)
            .map_err(|error| bad(error.to_string()))?
            .with_padding(None);
        let eos = END_OF_TEXT
            .iter()
            .copied()
            .chain(end)
            .find_map(|name| inner.token_to_id(name))
            .ok_or_else(|| DataError::NoEndOfText {
                path: path.to_owned(),
            })?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        Ok(Self {
            inner: Arc::new(inner),
            vocab_size: largest as usize + 1,
            eos,
            fingerprint: *blake3::hash(bytes).as_bytes(),
        })
    }

    /// The ids of a text, without tokens that a post-processor would add. Special tokens written in the text become their ids.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| self.failure("encode", &error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, special tokens by their names. Bytes that are not UTF-8 (a character cut in two) become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.inner
            .decode(ids, false)
            .map_err(|error| self.failure("decode", &error.to_string()))
    }

    /// An id as the vocabulary spells it.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Largest id + 1: the rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token that ends a document.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// BLAKE3 of the file.
    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    fn failure(&self, what: &str, reason: &str) -> DataError {
        DataError::Tokenizer {
            path: PathBuf::from(format!("of {} ids", self.vocab_size)),
            reason: format!("cannot {what}: {reason}"),
        }
    }
}

/// `eos_token` of the `tokenizer_config.json` beside a `tokenizer.json`.
fn configured_end(tokenizer: &Path) -> Option<String> {
    let text = fs::read_to_string(tokenizer.with_file_name("tokenizer_config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    let end = &config["eos_token"];
    end.as_str()
        .or_else(|| end["content"].as_str())
        .map(str::to_owned)
}
