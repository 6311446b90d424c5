//! One item of a `.distcp` file: an archive of `torch.save` that holds a tensor or an object.
//!
//! [`tensor`] finds the bytes of a tensor's scalars without reading them: the archive's tail for its directory, then its head for `data.pkl`,
//! which says type, extents, strides and record. Two small positioned reads an item; one if it is small itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;

use super::pickle::known::Kind;
use super::pickle::{self, Compound, Pickle, PickleError, Value};
use super::zip::{self, Directory, Record, ZipError};
use crate::base::{DType, Shape};

/// First bytes of an archive that are read at once: `data.pkl` and the next records' headers.
const HEAD: u64 = 1024;

/// Last bytes of an archive that are read at once: the directory, as torch writes it.
const TAIL: u64 = 1024;

/// A directory, or the pickle of a tensor, that is larger than this is not torch's.
const LARGE: u64 = 64 << 20;

/// Why an item was refused.
#[derive(Debug, Error)]
pub enum ItemError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive is damaged.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// Its pickle is damaged, or asks for more than data.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// Its pickle is no tensor.
    #[error("{place} is {found}, not {expected}")]
    Kind {
        /// Which part.
        place: &'static str,
        /// What a plain tensor has.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Its scalars are of another type than `.metadata` says.
    #[error("the item holds {found}, but .metadata says {expected}")]
    DType {
        /// By the item.
        found: DType,
        /// By `.metadata`.
        expected: DType,
    },
    /// Its extents are not those that `.metadata` says.
    #[error("the item holds {found}, but .metadata says {expected}")]
    Shape {
        /// By the item.
        found: Shape,
        /// By `.metadata`.
        expected: Shape,
    },
    /// Its scalars do not lie one after the other.
    #[error(
        "the tensor of {shape} has strides {strides}, so its scalars do not lie row after row; save it contiguous"
    )]
    Strides {
        /// Its extents.
        shape: Shape,
        /// Its strides, in scalars.
        strides: Shape,
    },
    /// Its record is too short.
    #[error("the record of scalars has {found} bytes, but {needed} are needed")]
    Short {
        /// Bytes of the record.
        found: u64,
        /// Bytes that the tensor takes.
        needed: u64,
    },
    /// A part that is far larger than torch writes.
    #[error("{what} of {size} bytes is larger than {limit}")]
    Large {
        /// The part.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
}

/// Bytes of a file that are an archive; they must lie within the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Archive<'f> {
    /// The file.
    pub file: &'f File,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Where the scalars of a tensor begin in the file; they lie row-major and without gaps.
pub(super) fn tensor(
    archive: Archive<'_>,
    sizes: &[usize],
    dtype: DType,
) -> Result<u64, ItemError> {
    let tail = archive.tail()?;
    let records = archive.records(&tail)?;
    let head = archive.read(0, archive.length.min(HEAD))?;
    let bytes = archive.record(&records, "data.pkl", &head)?;
    byte_order(&archive, &records, &head)?;
    let pickle = pickle::parse(&bytes)?;
    let stored = Stored::of(&pickle, pickle.root(), 2)?;
    if stored.dtype != dtype {
        return Err(ItemError::DType {
            found: stored.dtype,
            expected: dtype,
        });
    }
    if stored.sizes != sizes {
        return Err(ItemError::Shape {
            found: Shape(stored.sizes),
            expected: Shape(sizes.to_vec()),
        });
    }
    let mut next = 1_usize;
    for (&size, &stride) in sizes.iter().zip(&stored.strides).rev() {
        if size > 1 && stride != next && !sizes.contains(&0) {
            return Err(ItemError::Strides {
                shape: Shape(stored.sizes),
                strides: Shape(stored.strides),
            });
        }
        next = next.saturating_mul(size);
    }
    let name = format!("data/{}", stored.record);
    let record = zip::find(&records, &name)?;
    let begin = stored.offset.checked_mul(dtype.size());
    let bytes = (next as u64).checked_mul(dtype.size());
    let end = begin.zip(bytes).and_then(|(a, b)| a.checked_add(b));
    let needed = end.unwrap_or(u64::MAX);
    if needed > record.size {
        return Err(ItemError::Short {
            found: record.size,
            needed,
        });
    }
    let data = archive.data_offset(&records, record, &head)?;
    Ok(archive.offset + data + begin.unwrap_or(0))
}

/// The pickle of an object.
pub(super) fn object(archive: Archive<'_>) -> Result<Vec<u8>, ItemError> {
    let tail = archive.tail()?;
    let records = archive.records(&tail)?;
    let head = archive.read(0, archive.length.min(HEAD))?;
    byte_order(&archive, &records, &head)?;
    archive.record(&records, "data.pkl", &head)
}

/// Refuses scalars in the other byte order. Old versions wrote no such record, on little-endian machines.
fn byte_order(archive: &Archive<'_>, records: &[Record<'_>], head: &[u8]) -> Result<(), ItemError> {
    if zip::optional(records, "byteorder").is_none() {
        return Ok(());
    }
    let order = archive.record(records, "byteorder", head)?;
    if order.starts_with(b"little") {
        return Ok(());
    }
    let order = String::from_utf8_lossy(&order).chars().take(20).collect();
    Err(ZipError::ByteOrder { order }.into())
}

impl Archive<'_> {
    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>, ItemError> {
        if length > LARGE {
            return Err(ItemError::Large {
                what: "a directory or pickle",
                size: length,
                limit: LARGE,
            });
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, self.offset + at)?;
        Ok(bytes)
    }

    /// The archive's last bytes, as many as the directory needs.
    fn tail(&self) -> Result<Vec<u8>, ItemError> {
        let mut tail = self.read(self.length.saturating_sub(TAIL), self.length.min(TAIL))?;
        // The directory's start may be known only after the zip64 record was read.
        for _ in 0..2 {
            match zip::directory(&tail, self.length) {
                Ok(Directory::Before(start)) => {
                    tail = self.read(start, self.length.saturating_sub(start))?;
                }
                _ => break,
            }
        }
        Ok(tail)
    }

    fn records<'t>(&self, tail: &'t [u8]) -> Result<Vec<Record<'t>>, ItemError> {
        match zip::directory(tail, self.length)? {
            Directory::Records(records) => Ok(records),
            Directory::Before(at) => Err(ZipError::Signature {
                what: "the zip directory".to_owned(),
                at,
            }
            .into()),
        }
    }

    /// Where a record's data begins. `head` spares a read if it holds the record's header.
    fn data_offset(
        &self,
        records: &[Record<'_>],
        record: &Record<'_>,
        head: &[u8],
    ) -> Result<u64, ItemError> {
        // A record ends before the next one, and the last before the directory.
        let after = records
            .iter()
            .map(|r| r.header)
            .filter(|&h| h > record.header);
        let end = after.min().unwrap_or(self.length);
        let near = usize::try_from(record.header).ok();
        let near = near.and_then(|at| head.get(at..at.checked_add(zip::HEADER)?));
        if let Some(header) = near {
            return Ok(zip::data_offset(record, header, end)?);
        }
        let header = self.read(record.header, zip::HEADER as u64)?;
        Ok(zip::data_offset(record, &header, end)?)
    }

    /// The bytes of a small record.
    fn record(
        &self,
        records: &[Record<'_>],
        name: &str,
        head: &[u8],
    ) -> Result<Vec<u8>, ItemError> {
        let record = zip::find(records, name)?;
        let at = self.data_offset(records, record, head)?;
        let range = at as usize..(at + record.size) as usize; // both within the archive
        match head.get(range) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.read(at, record.size),
        }
    }
}

/// What the pickle of a tensor says.
struct Stored {
    record: String,
    dtype: DType,
    offset: u64,
    sizes: Vec<usize>,
    strides: Vec<usize>,
}

impl Stored {
    fn of<'a>(pickle: &Pickle<'a>, value: Value<'a>, depth: usize) -> Result<Self, ItemError> {
        const PLACE: &str = "the item's pickle";
        const TENSOR: &str = "a plain tensor";
        let wrong = |place, expected, value| ItemError::Kind {
            place,
            expected,
            found: pickle.kind(value),
        };
        let Some((class, args, _)) = pickle.object(value) else {
            return Err(wrong(PLACE, TENSOR, value));
        };
        let arguments = pickle.sequence(args).unwrap_or(&[]);
        match (class.name, arguments) {
            ("_rebuild_tensor_v2", &[storage, offset, sizes, strides, ..]) => {
                let (record, dtype) = Self::storage(pickle, storage)?;
                let dtype = dtype.ok_or_else(|| wrong(PLACE, "a typed storage", storage))?;
                Self::with(pickle, record, dtype, [offset, sizes, strides])
            }
            ("_rebuild_tensor_v3", &[storage, offset, sizes, strides, _, _, dtype, ..]) => {
                let (record, _) = Self::storage(pickle, storage)?;
                let Value::Global(known) = dtype else {
                    return Err(wrong(PLACE, "a dtype", dtype));
                };
                let Kind::DType(dtype) = known.kind else {
                    return Err(wrong(PLACE, "a dtype that can be read", dtype));
                };
                Self::with(pickle, record, dtype, [offset, sizes, strides])
            }
            ("_rebuild_parameter", &[tensor, ..]) if depth > 0 => {
                Self::of(pickle, tensor, depth - 1)
            }
            _ => Err(wrong(PLACE, TENSOR, value)),
        }
    }

    /// Record and type of a persistent id `('storage', class, record, device, scalars)`.
    fn storage<'a>(
        pickle: &Pickle<'a>,
        value: Value<'a>,
    ) -> Result<(String, Option<DType>), ItemError> {
        let Some(&Compound::Persistent(id)) = pickle.compound(value) else {
            return Err(ItemError::Kind {
                place: "the tensor's storage",
                expected: "a persistent id",
                found: pickle.kind(value),
            });
        };
        if let Some(
            [
                Value::Str("storage"),
                Value::Global(class),
                Value::Str(record),
                ..,
            ],
        ) = pickle.sequence(id)
        {
            match class.kind {
                Kind::Storage(dtype) => return Ok(((*record).to_owned(), Some(dtype))),
                Kind::Untyped => return Ok(((*record).to_owned(), None)),
                _ => {}
            }
        }
        let shown = pickle::Shown {
            pickle,
            value: id,
            limit: 80,
        };
        Err(ItemError::Kind {
            place: "the tensor's storage",
            expected: "('storage', class, record, device, scalars)",
            found: shown.to_string(),
        })
    }

    fn with<'a>(
        pickle: &Pickle<'a>,
        record: String,
        dtype: DType,
        [offset, sizes, strides]: [Value<'a>; 3],
    ) -> Result<Self, ItemError> {
        let counts = |place, value| {
            let items = pickle.sequence(value);
            let counts = items.and_then(|items| {
                let count = |v: &Value<'a>| v.count().and_then(|n| usize::try_from(n).ok());
                items.iter().map(count).collect::<Option<Vec<usize>>>()
            });
            counts.ok_or_else(|| ItemError::Kind {
                place,
                expected: "a tuple of counts",
                found: pickle.kind(value),
            })
        };
        let sizes = counts("the tensor's size", sizes)?;
        let strides = counts("the tensor's stride", strides)?;
        if sizes.len() != strides.len() {
            return Err(ItemError::Strides {
                shape: Shape(sizes),
                strides: Shape(strides),
            });
        }
        let offset = offset.count().ok_or_else(|| ItemError::Kind {
            place: "the tensor's storage offset",
            expected: "a count",
            found: pickle.kind(offset),
        })?;
        Ok(Self {
            record,
            dtype,
            offset,
            sizes,
            strides,
        })
    }
}
