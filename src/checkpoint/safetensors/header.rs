//! One file's header: strict, bounded, quick.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::SafetensorsError;
use crate::base::{DType, Shape};
use crate::checkpoint::files::failed;
use crate::checkpoint::{CheckpointError, Extent, StoredTensor, matrix};

/// Bytes that a header may have at most, as in the reference implementation.
const LIMIT: u64 = 100_000_000;
/// Bytes of the length before the header.
const PREFIX: u64 = 8;
/// Dims that a tensor may have at most; PyTorch's own limit.
const MAX_DIMS: usize = 64;

/// What a file says about its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its tensors in the order of their bytes, each with one extent in file 0.
    pub tensors: Vec<StoredTensor>,
    /// Free-form texts of the writer, `format` being the usual one.
    pub metadata: BTreeMap<String, String>,
    /// Byte of the file at which the tensors begin.
    pub data_start: u64,
}

impl Header {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// When the file cannot be read, or [`parse`](Self::parse) refuses it.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let refused = |source| CheckpointError::Safetensors {
            path: path.to_owned(),
            source: Box::new(source),
        };
        // Asked before opening: to open a pipe would wait for its other end.
        if !fs::metadata(path).map_err(failed("read", path))?.is_file() {
            return Err(refused(SafetensorsError::NotAFile));
        }
        let mut file = File::open(path).map_err(failed("read", path))?;
        let bytes = file.metadata().map_err(failed("read", path))?.len();
        let mut prefix = [0; PREFIX as usize];
        let present = bytes.min(PREFIX) as usize;
        file.read_exact(&mut prefix[..present])
            .map_err(failed("read", path))?;
        let length = length(prefix, bytes).map_err(refused)?;
        let mut json = vec![0; length];
        file.read_exact(&mut json).map_err(failed("read", path))?;
        parse(&json, bytes).map_err(refused)
    }

    /// Reads the header of a file whose every byte is in memory.
    ///
    /// # Errors
    /// Anything but a header whose tensors have known types, distinct names, and bytes that follow each other without hole or overlap up
    /// to the file's end.
    pub fn parse(file: &[u8]) -> Result<Self, SafetensorsError> {
        let mut prefix = [0; PREFIX as usize];
        let present = file.len().min(prefix.len());
        prefix[..present].copy_from_slice(&file[..present]);
        let length = length(prefix, file.len() as u64)?;
        parse(&file[PREFIX as usize..][..length], file.len() as u64)
    }
}

/// The header's length in a file of `bytes` that begins with `prefix`.
fn length(prefix: [u8; PREFIX as usize], bytes: u64) -> Result<usize, SafetensorsError> {
    if bytes < PREFIX {
        return Err(SafetensorsError::Truncated {
            needed: PREFIX,
            found: bytes,
        });
    }
    let claimed = u64::from_le_bytes(prefix);
    if claimed > LIMIT {
        return Err(SafetensorsError::HeaderTooLong {
            claimed,
            limit: LIMIT,
        });
    }
    if claimed > bytes - PREFIX {
        return Err(SafetensorsError::Truncated {
            needed: PREFIX + claimed,
            found: bytes,
        });
    }
    Ok(claimed as usize)
}

/// Reads the header's text in a file of `bytes`.
fn parse(json: &[u8], bytes: u64) -> Result<Header, SafetensorsError> {
    let (mut entries, metadata) =
        super::json::parse("header", json, |current, d| Whole(current).deserialize(d))?;
    refuse_twice(&entries)?;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);

    let data_start = PREFIX + json.len() as u64;
    let mut tensors: Vec<StoredTensor> = Vec::with_capacity(entries.len());
    let mut end = 0;
    for (name, entry) in entries {
        let (tensor, offsets) = check(name, entry, data_start)?;
        if offsets.start < end {
            return Err(SafetensorsError::Overlap {
                name: tensor.name,
                offsets,
                before: tensors.pop().map(|t| t.name).unwrap_or_default(),
                end,
            });
        }
        if offsets.start > end {
            return Err(SafetensorsError::Hole {
                gap: end..offsets.start,
                name: tensor.name,
            });
        }
        end = offsets.end;
        tensors.push(tensor);
    }
    let (expected, found) = (data_start.saturating_add(end), bytes);
    if found < expected {
        return Err(SafetensorsError::Truncated {
            needed: expected,
            found,
        });
    }
    if found > expected {
        return Err(SafetensorsError::Trailing { expected, found });
    }
    Ok(Header {
        tensors,
        metadata,
        data_start,
    })
}

fn refuse_twice(entries: &[(Cow<str>, Entry)]) -> Result<(), SafetensorsError> {
    let mut seen = HashSet::with_capacity(entries.len());
    for (name, _) in entries {
        if !seen.insert(name.as_ref()) {
            return Err(SafetensorsError::Duplicate {
                part: "header",
                name: name.clone().into_owned(),
            });
        }
    }
    Ok(())
}

/// One entry as a tensor, with its bytes of the data part.
fn check(
    name: Cow<str>,
    entry: Entry,
    data_start: u64,
) -> Result<(StoredTensor, Range<u64>), SafetensorsError> {
    let name = name.into_owned();
    let Some(dtype) = DType::from_safetensors_name(&entry.dtype) else {
        return Err(SafetensorsError::UnknownDType {
            name,
            dtype: entry.dtype.into_owned(),
        });
    };
    let shape = Shape(entry.shape.0);
    let bytes = shape
        .0
        .iter()
        .try_fold(1_u64, |product, &dim| product.checked_mul(dim as u64))
        .and_then(|elements| elements.checked_mul(dtype.size()));
    let Some(bytes) = bytes else {
        return Err(SafetensorsError::Overflow { name, shape });
    };
    let (start, end) = entry.data_offsets;
    if end.checked_sub(start) != Some(bytes) {
        return Err(SafetensorsError::Size {
            name,
            dtype,
            shape,
            expected: bytes,
            offsets: start..end,
        });
    }
    let (rows, cols) = matrix(&shape);
    let extent = Extent {
        file: 0,
        offset: data_start.saturating_add(start),
        rows: 0..rows,
        cols: 0..cols,
    };
    let tensor = StoredTensor {
        name,
        shape,
        dtype,
        extents: vec![extent],
    };
    Ok((tensor, start..end))
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Dims,
    data_offsets: (u64, u64),
}

/// A shape of at most [`MAX_DIMS`] dims.
struct Dims(Vec<usize>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a shape")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::with_capacity(4);
                while let Some(dim) = list.next_element()? {
                    if dims.len() == MAX_DIMS {
                        return Err(A::Error::custom(format!("more than {MAX_DIMS} dims")));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

/// Entries in the order of the text, and the metadata. Keeps the name that is being read for the message of an error.
struct Whole<'s>(&'s mut String);

type Entries<'de> = Vec<(Cow<'de, str>, Entry<'de>)>;

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = (Entries<'de>, BTreeMap<String, String>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = (Entries<'de>, BTreeMap<String, String>);

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        let mut metadata = None;
        while let Some(Name(name)) = map.next_key()? {
            self.0.clear();
            self.0.push_str(&name);
            if name == "__metadata__" {
                let Texts(texts) = map.next_value()?;
                if metadata.replace(texts).is_some() {
                    return Err(A::Error::custom("it occurs twice"));
                }
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        self.0.clear();
        Ok((entries, metadata.unwrap_or_default()))
    }
}

/// A key, borrowed unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Metadata without a key twice.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Distinct;
        impl<'de> Visitor<'de> for Distinct {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((key, text)) = map.next_entry::<String, String>()? {
                    if texts.contains_key(&key) {
                        return Err(A::Error::custom(format!("{key:?} occurs twice")));
                    }
                    texts.insert(key, text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_map(Distinct)
    }
}
