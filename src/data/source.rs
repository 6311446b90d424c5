//! Where documents come from: the bundled text, text files, JSON Lines.
//!
//! In a text file two or more blank lines end a document, and one blank line is a paragraph's. A document of more than
//! [`LONGEST_TEXT`] bytes ends at the next line, so that a file of any size is read in little memory and has parts to hold out.
//! In JSON Lines each line is a document. Documents without a visible character are passed over.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::recipe::DataSource;

use super::DataError;

/// The text that `assets/prepare` made of the Jargon File.
const BUNDLED: &str = include_str!("../../assets/text/jargon.txt");

/// Bytes after which a document of a text file ends at the next line.
pub(super) const LONGEST_TEXT: usize = 64 << 10;

/// Bytes of a text file's line after which it is cut.
const LONGEST_LINE: u64 = 1 << 20;

/// Sources up to this size in all are known by their bytes, larger ones by place, size and time of change of each file.
const HASHED_WHOLE: u64 = 256 << 20;

/// How a file holds documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// Plain text.
    Text,
    /// One JSON object a line, with the text in this field.
    Jsonl(String),
}

/// One file, or the bundled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// `None` is the bundled text.
    path: Option<PathBuf>,
    format: Format,
}

impl SourceFile {
    pub(super) fn new(path: PathBuf, format: Format) -> Self {
        Self {
            path: Some(path),
            format,
        }
    }

    fn bytes(&self) -> Result<u64, DataError> {
        let Some(path) = &self.path else {
            return Ok(0);
        };
        let metadata = fs::metadata(path).map_err(DataError::io("read", path))?;
        Ok(metadata.len())
    }

    fn identify(&self, hasher: &mut blake3::Hasher, whole: bool) -> Result<(), DataError> {
        match &self.format {
            Format::Text => hasher.update(b"text\0"),
            Format::Jsonl(field) => hasher.update(b"jsonl\0").update(field.as_bytes()),
        };
        let Some(path) = &self.path else {
            hasher.update(blake3::hash(BUNDLED.as_bytes()).as_bytes());
            return Ok(());
        };
        let read = || DataError::io("read", path);
        if whole {
            let mut content = blake3::Hasher::new();
            content
                .update_reader(File::open(path).map_err(read())?)
                .map_err(read())?;
            hasher.update(content.finalize().as_bytes());
        } else {
            let metadata = fs::metadata(path).map_err(read())?;
            let changed = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .map_or(0, |time| time.as_nanos());
            let absolute = fs::canonicalize(path).map_err(read())?;
            hasher
                .update(absolute.as_os_str().as_encoded_bytes())
                .update(&metadata.len().to_le_bytes())
                .update(&changed.to_le_bytes());
        }
        Ok(())
    }
}

/// Feeds what tells these files from others, or from themselves after a change.
pub(super) fn identify(files: &[SourceFile], hasher: &mut blake3::Hasher) -> Result<(), DataError> {
    let mut bytes = 0;
    for file in files {
        bytes += file.bytes()?;
    }
    for file in files {
        file.identify(hasher, bytes <= HASHED_WHOLE)?;
    }
    Ok(())
}

/// The files of a recipe's sources, globs relative to `folder`, each glob's files by path.
pub(super) fn resolve(sources: &[DataSource], folder: &Path) -> Result<Vec<SourceFile>, DataError> {
    let mut files = Vec::new();
    for source in sources {
        match source {
            DataSource::Bundled => files.push(SourceFile {
                path: None,
                format: Format::Text,
            }),
            DataSource::Text { glob } => files.extend(
                matches(glob, folder)?
                    .into_iter()
                    .map(|path| SourceFile::new(path, Format::Text)),
            ),
            DataSource::Jsonl { glob, field } => files.extend(
                matches(glob, folder)?
                    .into_iter()
                    .map(|path| SourceFile::new(path, Format::Jsonl(field.clone()))),
            ),
        }
    }
    Ok(files)
}

fn matches(glob: &str, folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    // The folder's own name may hold characters that a pattern would take for its own.
    let prefix = glob::Pattern::escape(&folder.to_string_lossy());
    let pattern = Path::new(&prefix).join(glob);
    let bad = |reason: String| DataError::Glob {
        glob: glob.to_owned(),
        reason,
    };
    let mut files = Vec::new();
    for found in glob::glob(&pattern.to_string_lossy()).map_err(|error| bad(error.to_string()))? {
        let path = found.map_err(|error| DataError::Io {
            action: "read",
            path: error.path().to_owned(),
            source: error.into(),
        })?;
        if path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(DataError::NoFiles {
            pattern: folder.join(glob),
        });
    }
    files.sort();
    Ok(files)
}

/// Hands every document of a file to `take`, in order.
pub(super) fn read(
    file: &SourceFile,
    take: &mut dyn FnMut(&str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let Some(path) = &file.path else {
        return read_text(BUNDLED.as_bytes(), Path::new("bundled"), take);
    };
    let reader = BufReader::with_capacity(
        1 << 18,
        File::open(path).map_err(DataError::io("read", path))?,
    );
    match &file.format {
        Format::Text => read_text(reader, path, take),
        Format::Jsonl(field) => read_jsonl(reader, path, field, take),
    }
}

fn read_text(
    mut reader: impl BufRead,
    path: &Path,
    take: &mut dyn FnMut(&str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut lines = Lines::new(path);
    let mut document = String::new();
    let mut blank = 0;
    while let Some(line) = lines.next(&mut reader, Some(LONGEST_LINE))? {
        if line.trim().is_empty() {
            blank += 1;
            if !document.is_empty() {
                document.push_str(line);
            }
            continue;
        }
        if blank >= 2 || document.len() >= LONGEST_TEXT {
            finish(&mut document, take)?;
        }
        blank = 0;
        document.push_str(line);
    }
    finish(&mut document, take)
}

fn finish(
    document: &mut String,
    take: &mut dyn FnMut(&str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let text = document.trim_end();
    if !text.is_empty() {
        take(text)?;
    }
    document.clear();
    Ok(())
}

fn read_jsonl(
    mut reader: impl BufRead,
    path: &Path,
    field: &str,
    take: &mut dyn FnMut(&str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut lines = Lines::new(path);
    while let Some(line) = lines.next(&mut reader, None)? {
        if line.trim().is_empty() {
            continue;
        }
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)
            .map_err(|error| DataError::NotJson {
                path: path.to_owned(),
                line: lines.number,
                column: error.column(),
                reason: without_place(&error),
            })?;
        match object.get(field) {
            Some(serde_json::Value::String(text)) => {
                if !text.trim().is_empty() {
                    take(text)?;
                }
            }
            other => {
                let found = if let Some(value) = other {
                    format!("a value there that is no string: {}", kind(value))
                } else if object.is_empty() {
                    "no field".to_owned()
                } else {
                    let names: Vec<String> = object
                        .keys()
                        .take(8)
                        .map(|key| format!("`{key}`"))
                        .collect();
                    names.join(", ")
                };
                return Err(DataError::NoField {
                    path: path.to_owned(),
                    line: lines.number,
                    field: field.to_owned(),
                    found,
                });
            }
        }
    }
    Ok(())
}

/// The parser's words without its own line number, which is always 1 here.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "an array",
        serde_json::Value::Object(_) => "an object",
    }
}

/// Lines of a file with their number and place, checked to be UTF-8.
struct Lines<'a> {
    path: &'a Path,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were handed out.
    used: usize,
    /// Line of the last text, from 1.
    number: u64,
    /// Offset in the file of `buffer`'s first byte.
    offset: u64,
    /// Whether the last text ended its line.
    ended: bool,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            buffer: Vec::new(),
            used: 0,
            number: 0,
            offset: 0,
            ended: true,
        }
    }

    /// The next line with its end, or the next part of a line that is longer than `limit`.
    fn next(
        &mut self,
        reader: &mut impl BufRead,
        limit: Option<u64>,
    ) -> Result<Option<&str>, DataError> {
        self.offset += self.used as u64;
        self.buffer.drain(..self.used);
        reader
            .take(limit.unwrap_or(u64::MAX))
            .read_until(b'\n', &mut self.buffer)
            .map_err(DataError::io("read", self.path))?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.ended {
            self.number += 1;
        }
        self.ended = self.buffer.last() == Some(&b'\n');
        if self.offset == 0 && self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.buffer.drain(..3);
            self.offset = 3;
        }
        let valid = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text.len(),
            // A character that the limit cut in two: the rest comes with the next part.
            Err(error)
                if error.error_len().is_none()
                    && limit.is_some_and(|limit| self.buffer.len() as u64 >= limit) =>
            {
                error.valid_up_to()
            }
            Err(error) => {
                return Err(DataError::NotUtf8 {
                    path: self.path.to_owned(),
                    line: self.number,
                    offset: self.offset + error.valid_up_to() as u64,
                });
            }
        };
        self.used = valid;
        Ok(std::str::from_utf8(&self.buffer[..valid]).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &[u8]) -> Result<Vec<String>, DataError> {
        let mut all = Vec::new();
        read_text(text, Path::new("t.txt"), &mut |document| {
            all.push(document.to_owned());
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn two_blank_lines_end_a_document_and_one_does_not() {
        let found = documents(b"\n\n\n a\nb\n\nc\n\n \nd\r\n\r\n\r\n\r\ne").unwrap();
        assert_eq!(found, [" a\nb\n\nc", "d", "e"]);
    }

    #[test]
    fn a_long_document_ends_at_a_line() {
        let text = "word ".repeat(10) + "\n";
        let found = documents(text.repeat(4000).as_bytes()).unwrap();
        assert!(found.len() > 2);
        assert!(found.iter().all(|d| d.len() <= LONGEST_TEXT + text.len()));
        assert!(found.iter().all(|d| d.starts_with("word")));
    }

    #[test]
    fn an_endless_line_is_cut_between_characters() {
        let text = "ab\u{20ac}".repeat(1_000_000);
        let found = documents(text.as_bytes()).unwrap();
        assert!(found.len() > 1);
        assert_eq!(found.concat(), text);
    }

    #[test]
    fn a_bad_byte_is_named_by_line_and_offset() {
        match documents(b"good\nba\xffd\n") {
            Err(DataError::NotUtf8 { line, offset, .. }) => assert_eq!((line, offset), (2, 7)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(documents(b"\xef\xbb\xbfhello\n").unwrap(), ["hello"]);
    }

    #[test]
    fn json_lines_say_which_field_is_missing() {
        let text = br#"{"text": "a"}

{"body": 1, "title": "x"}
"#;
        let mut all = Vec::new();
        let error = read_jsonl(&text[..], Path::new("t.jsonl"), "text", &mut |d| {
            all.push(d.to_owned());
            Ok(())
        })
        .unwrap_err();
        assert_eq!(all, ["a"]);
        assert_eq!(
            error.to_string(),
            "t.jsonl:3: no text in field `text`; the line has `body`, `title`"
        );
    }
}
