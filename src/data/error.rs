//! What can be wrong with text.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there are no batches.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A glob that is none.
    #[error("`{glob}` is not a file pattern: {reason}")]
    Glob {
        /// As the recipe says it.
        glob: String,
        /// Why not.
        reason: String,
    },
    /// A glob that matches nothing.
    #[error("no file matches {}", pattern.display())]
    NoFiles {
        /// The glob, joined with the recipe's folder.
        pattern: PathBuf,
    },
    /// Bytes that are not UTF-8.
    #[error("{}:{line}: byte {offset} of the file is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Offset in the file, from 0.
        offset: u64,
    },
    /// A line that is not JSON.
    #[error("{}:{line}:{column}: not a JSON object: {reason}", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// A JSON line without the text.
    #[error("{}:{line}: no text in field `{field}`; the line has {found}", path.display())]
    NoField {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The field that was asked for.
        field: String,
        /// What there is instead.
        found: String,
    },
    /// A tokenizer that cannot be used.
    #[error("tokenizer {}: {reason}", path.display())]
    Tokenizer {
        /// The file, or "bundled".
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A tokenizer without a token that ends documents.
    #[error("tokenizer {} has no end-of-document token", path.display())]
    NoEndOfText {
        /// The file.
        path: PathBuf,
    },
    /// A model that lacks rows for the tokenizer's ids.
    #[error("the model has {model} embedding rows, the tokenizer {tokenizer} ids")]
    VocabularyTooSmall {
        /// `model.vocab_size`.
        model: usize,
        /// Largest id + 1.
        tokenizer: usize,
    },
    /// A vocabulary that is too small to train.
    #[error("a byte-level vocabulary needs at least {least} entries, not {asked}")]
    VocabularyBelowBytes {
        /// What was asked for.
        asked: usize,
        /// 256 bytes and the special tokens.
        least: usize,
    },
    /// Sources without text.
    #[error("the corpus is empty: {documents} documents with text in {files} files")]
    Empty {
        /// Files read.
        files: usize,
        /// Documents found.
        documents: u64,
    },
    /// A part of the documents without text.
    #[error(
        "no document is left for {split}: {documents} documents, validation_fraction = {fraction}"
    )]
    EmptySplit {
        /// "training" or "validation".
        split: &'static str,
        /// Documents in all.
        documents: u64,
        /// As the recipe says.
        fraction: f64,
    },
    /// A position of other data.
    #[error(
        "position (epoch {epoch}, document {document}, offset {offset}) lies outside the data of {documents} documents"
    )]
    Position {
        /// Of the position.
        epoch: u64,
        /// Of the position.
        document: u64,
        /// Of the position.
        offset: u64,
        /// What there is.
        documents: u64,
    },
    /// A token cache that changed while it was read.
    #[error("token cache {} is damaged: {reason}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The thread that prepares batches is gone.
    #[error("the thread that prepares batches ended unexpectedly")]
    PrefetchEnded,
}

impl DataError {
    /// What the user can do, if we know.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotUtf8 { path, .. } => format!(
                "convert it first, for example: iconv -f latin1 -t utf-8 {0} > {0}.utf8",
                path.display()
            ),
            Self::NoFiles { .. } => {
                "patterns are relative to the recipe's folder; `**` matches folders".into()
            }
            Self::NoField { .. } => "name the field with the text: field = \"...\"".into(),
            Self::NotJson { .. } => {
                "a JSON Lines file has one object a line; use kind = \"text\" for plain text".into()
            }
            Self::Tokenizer { .. } => {
                "a Hugging Face tokenizer.json is expected; leave data.tokenizer out for the bundled one"
                    .into()
            }
            Self::NoEndOfText { .. } => {
                "add a special token such as <|endoftext|>, or put tokenizer_config.json with eos_token beside it".into()
            }
            Self::VocabularyTooSmall { tokenizer, .. } => {
                format!("set model.vocab_size to at least {tokenizer}, or use a smaller tokenizer")
            }
            Self::Empty { .. } => "check data.sources; blank lines alone are no text".into(),
            Self::EmptySplit { .. } => {
                "change data.validation_fraction, or give more documents: two blank lines separate them in text files".into()
            }
            Self::Cache { path, .. } => {
                format!("delete {}; it is made again", path.display())
            }
            Self::Position { .. } => {
                "the sources, data.packing or train.seq_length are not those of the checkpoint".into()
            }
            Self::Io { action, source, .. }
                if *action == "write" || *action == "create" =>
            {
                match source.kind() {
                    io::ErrorKind::StorageFull => "free some space, or set data.cache to another folder".into(),
                    _ => "set data.cache to a folder that can be written".into(),
                }
            }
            _ => return None,
        })
    }

    /// For `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
