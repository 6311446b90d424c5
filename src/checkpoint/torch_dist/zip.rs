//! The container of `torch.save`: a zip archive whose records are stored as they are.
//!
//! An archive is an item of a `.distcp` file, or a file of its own. Its directory stands at the end, so a reader takes the tail first
//! ([`directory`]), then the record's own header ([`data_offset`]), then the data in place. Nothing is unpacked.

mod build;

use thiserror::Error;

pub(super) use build::{ALIGN, Build};

/// Length of the record that ends an archive.
const END: usize = 22;

/// Length of a record's own header without name and extra field.
pub const HEADER: usize = 30;

/// A record of an archive, by its entry in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its name: `archive/data.pkl`, `archive/data/0`.
    pub name: &'a str,
    /// Where its own header begins in the archive.
    pub header: u64,
    /// Bytes of data.
    pub size: u64,
    /// CRC-32 of the data, as the directory has it. `torch.save` can be told to leave it out, so it is not checked on opening.
    pub crc: u32,
}

/// What the tail of an archive tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory<'a> {
    /// The directory is in the tail.
    Records(Vec<Record<'a>>),
    /// The directory begins at this byte of the archive, before the tail.
    Before(u64),
}

/// Why an archive was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ZipError {
    /// No end record, so no zip.
    #[error(
        "no torch.save archive: the last {searched} of {length} bytes hold no end of a zip directory"
    )]
    NoEnd {
        /// Bytes of the archive.
        length: u64,
        /// Bytes that were looked at.
        searched: usize,
    },
    /// A part that lies outside the archive.
    #[error("{what} at byte {at} with {size} bytes ends after the {length} bytes it must lie in")]
    Outside {
        /// The part.
        what: String,
        /// Where it begins.
        at: u64,
        /// How long it says to be.
        size: u64,
        /// Bytes that there are.
        length: u64,
    },
    /// A part that does not begin as it must.
    #[error("{what} at byte {at} does not begin with its signature")]
    Signature {
        /// The part.
        what: String,
        /// Where.
        at: u64,
    },
    /// A record that is packed or encrypted; torch never does that.
    #[error("record {name} is compressed or encrypted (method {method}, flags {flags:#06x})")]
    Packed {
        /// The record.
        name: String,
        /// Number of the method; 0 is none.
        method: u16,
        /// Its flags.
        flags: u16,
    },
    /// A directory that has another number of entries than the end record says, or is spread over several disks.
    #[error("the zip directory holds {found} records, but its end says {said}")]
    Count {
        /// Entries in the directory.
        found: u64,
        /// Entries by the end record.
        said: u64,
    },
    /// A record that is needed.
    #[error("the archive has no record {name}")]
    Missing {
        /// Its name behind the archive's own.
        name: String,
    },
    /// Scalars in the other byte order.
    #[error("byte order {order:?}; only little-endian checkpoints can be read")]
    ByteOrder {
        /// What the record `byteorder` says.
        order: String,
    },
}

/// Reads the directory of an archive of `length` bytes from its last bytes.
///
/// # Errors
/// [`ZipError`]: no end record in the tail, a directory or record beyond the archive, a packed record.
pub fn directory(tail: &[u8], length: u64) -> Result<Directory<'_>, ZipError> {
    let no_end = || ZipError::NoEnd {
        length,
        searched: tail.len(),
    };
    // torch writes no comment, so the end record is the end; a comment of other writers is skipped.
    let end = (0..=tail.len().checked_sub(END).ok_or_else(no_end)?)
        .rev()
        .take(END + usize::from(u16::MAX))
        .find(|&at| {
            tail[at..].starts_with(b"PK\x05\x06")
                && usize::from(u16_at(tail, at + 20)) == tail.len() - at - END
        })
        .ok_or_else(no_end)?;
    let mut said = u64::from(u16_at(tail, end + 10));
    let mut size = u64::from(u32_at(tail, end + 12));
    let mut start = u64::from(u32_at(tail, end + 16));
    // Where the archive's bytes that the tail holds begin.
    let origin = length.checked_sub(tail.len() as u64).ok_or_else(no_end)?;
    let mut limit = origin + end as u64;
    if said == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        let locator = end
            .checked_sub(20)
            .filter(|&at| tail[at..].starts_with(b"PK\x06\x07"));
        if let Some(locator) = locator {
            let at = u64_at(tail, locator + 8);
            let Some(place) = at.checked_sub(origin) else {
                return Ok(Directory::Before(at));
            };
            let inside = |p: &usize| p.checked_add(56).is_some_and(|end| end <= locator);
            let place = usize::try_from(place).ok().filter(inside);
            let Some(place) = place.filter(|&p| tail[p..].starts_with(b"PK\x06\x06")) else {
                return Err(ZipError::Signature {
                    what: "the zip64 end record".to_owned(),
                    at,
                });
            };
            said = u64_at(tail, place + 32);
            size = u64_at(tail, place + 40);
            start = u64_at(tail, place + 48);
            limit = at;
        }
    }
    if start.checked_add(size).is_none_or(|end| end > limit) {
        return Err(ZipError::Outside {
            what: "the zip directory".to_owned(),
            at: start,
            size,
            length: limit,
        });
    }
    let Some(place) = start.checked_sub(origin) else {
        return Ok(Directory::Before(start));
    };
    let place = place as usize; // less than the tail's length, as limit is within it
    let records = entries(&tail[place..place + size as usize], start)?;
    if records.len() as u64 != said {
        return Err(ZipError::Count {
            found: records.len() as u64,
            said,
        });
    }
    Ok(Directory::Records(records))
}

/// The records of a whole archive.
///
/// # Errors
/// As [`directory`].
pub fn records(archive: &[u8]) -> Result<Vec<Record<'_>>, ZipError> {
    match directory(archive, archive.len() as u64)? {
        Directory::Records(records) => Ok(records),
        Directory::Before(_) => unreachable!("nothing lies before byte 0"),
    }
}

/// Where a record's data begins in the archive, by the record's own header: `header` is the archive's bytes from [`Record::header`] on,
/// [`HEADER`] of them at least. The data ends before `end`, where the directory begins or whatever else must not be reached.
///
/// # Errors
/// [`ZipError::Signature`] and [`ZipError::Outside`].
pub fn data_offset(record: &Record<'_>, header: &[u8], end: u64) -> Result<u64, ZipError> {
    if header.len() < HEADER || !header.starts_with(b"PK\x03\x04") {
        return Err(ZipError::Signature {
            what: format!("the header of record {}", record.name),
            at: record.header,
        });
    }
    let offset = record.header
        + HEADER as u64
        + u64::from(u16_at(header, 26))
        + u64::from(u16_at(header, 28));
    if offset.checked_add(record.size).is_none_or(|e| e > end) {
        return Err(ZipError::Outside {
            what: format!("record {}", record.name),
            at: offset,
            size: record.size,
            length: end,
        });
    }
    Ok(offset)
}

/// The record of this name behind the archive's own: `data/0` finds `archive/data/0`.
///
/// # Errors
/// [`ZipError::Missing`].
pub fn find<'r, 'a>(records: &'r [Record<'a>], name: &str) -> Result<&'r Record<'a>, ZipError> {
    optional(records, name).ok_or_else(|| ZipError::Missing {
        name: name.to_owned(),
    })
}

/// As [`find`], for a record that need not be there.
pub fn optional<'r, 'a>(records: &'r [Record<'a>], name: &str) -> Option<&'r Record<'a>> {
    records.iter().find(|record| {
        let prefix = record.name.strip_suffix(name);
        prefix
            .and_then(|p| p.strip_suffix('/'))
            .is_some_and(|p| !p.contains('/'))
    })
}

/// Entries of a directory that begins at byte `start` of its archive.
fn entries(mut bytes: &[u8], start: u64) -> Result<Vec<Record<'_>>, ZipError> {
    const ENTRY: usize = 46;
    let length = bytes.len();
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let at = start + (length - bytes.len()) as u64;
        let what = || format!("entry {} of the zip directory", records.len());
        if !bytes.starts_with(b"PK\x01\x02") {
            return Err(ZipError::Signature { what: what(), at });
        }
        let outside = |size: usize| ZipError::Outside {
            what: what(),
            at,
            size: size as u64,
            length: start + length as u64,
        };
        if bytes.len() < ENTRY {
            return Err(outside(ENTRY));
        }
        let flags = u16_at(bytes, 8);
        let method = u16_at(bytes, 10);
        let crc = u32_at(bytes, 16);
        let mut packed = u64::from(u32_at(bytes, 20));
        let mut size = u64::from(u32_at(bytes, 24));
        let name_end = ENTRY + usize::from(u16_at(bytes, 28));
        let extra_end = name_end + usize::from(u16_at(bytes, 30));
        let comment_end = extra_end + usize::from(u16_at(bytes, 32));
        let mut header = u64::from(u32_at(bytes, 42));
        let (Some(name), Some(extra), Some(rest)) = (
            bytes.get(ENTRY..name_end),
            bytes.get(name_end..extra_end),
            bytes.get(comment_end..),
        ) else {
            return Err(outside(comment_end));
        };
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(ZipError::Signature { what: what(), at });
        };
        wide(extra, [&mut size, &mut packed, &mut header]);
        // bit 0: encrypted
        if method != 0 || flags & 1 != 0 || packed != size {
            return Err(ZipError::Packed {
                name: name.to_owned(),
                method,
                flags,
            });
        }
        let end = header.checked_add(HEADER as u64);
        if end
            .and_then(|e| e.checked_add(size))
            .is_none_or(|e| e > start)
        {
            return Err(ZipError::Outside {
                what: format!("record {name}"),
                at: header,
                size,
                length: start,
            });
        }
        records.push(Record {
            name,
            header,
            size,
            crc,
        });
        bytes = rest;
    }
    Ok(records)
}

/// Replaces the values that did not fit into 32 bits by those of the zip64 extra field.
fn wide(mut extra: &[u8], values: [&mut u64; 3]) {
    while let [a, b, c, d, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*c, *d])).min(rest.len());
        let (mut field, rest) = rest.split_at(length);
        if u16::from_le_bytes([*a, *b]) == 1 {
            for value in values {
                if *value == 0xffff_ffff
                    && let Some((wide, after)) = field.split_first_chunk::<8>()
                {
                    *value = u64::from_le_bytes(*wide);
                    field = after;
                }
            }
            return;
        }
        extra = rest;
    }
}

/// Two bytes at a place that is known to be within `bytes`.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
