//! The token cache: every document's ids in one memory-mapped file.
//!
//! ```text
//!  header [64 B] | ids, u16 or u32, little-endian | zeros up to 8 | a record for each document [24 B]
//!  record: end of the document in ids u64, hash of its text u64, bytes of its text u64
//! ```
//!
//! The file's name is a hash of the tokenizer and of the sources, so that a change of either makes another file. It is written
//! beside its place and renamed, never changed after: two processes may make the same one, the last rename wins. A damaged or
//! deleted one is made again. Making it streams; memory holds 4 MiB of text and 24 bytes a document. Reading maps it, so that
//! it may be larger than memory.

mod build;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::source::{self, SourceFile};
use super::{DataError, Tokenizer};

const MAGIC: [u8; 8] = *b"trstltok";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const RECORD: usize = 24;

/// Ids of files up to this many bytes are checked whole when opened; of larger ones header and records.
const CHECKED_WHOLE: usize = 256 << 20;

/// What the first bytes of the file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Bytes of an id: 2 or 4.
    width: u32,
    documents: u64,
    tokens: u64,
    ids_crc: u32,
    records_crc: u32,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.width.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.documents.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.ids_crc.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.records_crc.to_le_bytes());
        let own = crc32c::crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.get(..HEADER).ok_or("shorter than its header")?;
        if bytes[..8] != MAGIC || u32_at(bytes, 8) != VERSION {
            return Err("not a token cache of this version");
        }
        if crc32c::crc32c(&bytes[..HEADER - 4]) != u32_at(bytes, HEADER - 4) {
            return Err("its header's checksum is wrong");
        }
        let header = Self {
            width: u32_at(bytes, 12),
            documents: u64_at(bytes, 16),
            tokens: u64_at(bytes, 24),
            ids_crc: u32_at(bytes, 32),
            records_crc: u32_at(bytes, 36),
        };
        match header.width {
            2 | 4 => Ok(header),
            _ => Err("ids of an unknown width"),
        }
    }

    fn ids_bytes(&self) -> usize {
        self.tokens as usize * self.width as usize
    }

    fn records_start(&self) -> usize {
        HEADER + self.ids_bytes().next_multiple_of(8)
    }

    fn file_bytes(&self) -> usize {
        self.records_start() + self.documents as usize * RECORD
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// An open token cache.
#[derive(Debug)]
pub(super) struct TokenCache {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl TokenCache {
    /// Opens the cache of these files in `folder`, made first if it is missing or damaged; whether it was made.
    pub(super) fn open_or_build(
        files: &[SourceFile],
        tokenizer: &Tokenizer,
        folder: &Path,
    ) -> Result<(Self, bool), DataError> {
        let path = folder.join(format!("{}.tokens", key(files, tokenizer)?));
        if path.exists()
            && let Ok(cache) = Self::open(&path)
        {
            return Ok((cache, false));
        }
        build::build(files, tokenizer, &path)?;
        Ok((Self::open(&path)?, true))
    }

    fn open(path: &Path) -> Result<Self, DataError> {
        let damaged = |reason: &str| DataError::Cache {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let file = File::open(path).map_err(DataError::io("read", path))?;
        #[expect(
            unsafe_code,
            reason = "files larger than memory are read through a map"
        )]
        // SAFETY: a token cache is complete when it gets its name and nobody writes to it afterwards; see the room's doc.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io("read", path))?;
        let header = Header::parse(&map).map_err(damaged)?;
        if map.len() != header.file_bytes() {
            return Err(damaged(&format!(
                "{} bytes long where its header says {}",
                map.len(),
                header.file_bytes()
            )));
        }
        if crc32c::crc32c(&map[header.records_start()..]) != header.records_crc {
            return Err(damaged("the checksum of its documents is wrong"));
        }
        if map.len() <= CHECKED_WHOLE
            && crc32c::crc32c(&map[HEADER..HEADER + header.ids_bytes()]) != header.ids_crc
        {
            return Err(damaged("the checksum of its ids is wrong"));
        }
        Ok(Self {
            path: path.to_owned(),
            map,
            header,
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Documents in all.
    pub(super) fn documents(&self) -> usize {
        self.header.documents as usize
    }

    /// One document.
    pub(super) fn document(&self, index: usize) -> Document<'_> {
        let start = if index == 0 {
            0
        } else {
            u64_at(self.record(index - 1), 0)
        } as usize;
        let record = self.record(index);
        let end = u64_at(record, 0) as usize;
        let width = self.header.width as usize;
        Document {
            ids: &self.map[HEADER + start * width..HEADER + end * width],
            width,
            hash: u64_at(record, 8),
            bytes: u64_at(record, 16),
        }
    }

    fn record(&self, index: usize) -> &[u8] {
        let start = self.header.records_start() + index * RECORD;
        &self.map[start..start + RECORD]
    }
}

/// A document in the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    ids: &'a [u8],
    width: usize,
    /// The first 8 bytes of BLAKE3 of its text.
    pub(super) hash: u64,
    /// Bytes of its text.
    pub(super) bytes: u64,
}

impl<'a> Document<'a> {
    /// Ids, the one that ends the document included.
    pub(super) fn len(&self) -> usize {
        self.ids.len() / self.width
    }

    /// The id at `at`.
    pub(super) fn id(&self, at: usize) -> u32 {
        if self.width == 2 {
            u32::from(u16::from_le_bytes([self.ids[2 * at], self.ids[2 * at + 1]]))
        } else {
            u32_at(self.ids, 4 * at)
        }
    }

    /// The ids from `start`, at most `len` of them.
    pub(super) fn ids(self, start: usize, len: usize) -> impl Iterator<Item = u32> + 'a {
        (start..(start + len).min(self.len())).map(move |at| self.id(at))
    }
}

/// What the ids depend on.
fn key(files: &[SourceFile], tokenizer: &Tokenizer) -> Result<String, DataError> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&VERSION.to_le_bytes())
        .update(tokenizer.fingerprint())
        .update(&tokenizer.eos().to_le_bytes())
        .update(&(source::LONGEST_TEXT as u64).to_le_bytes());
    source::identify(files, &mut hasher)?;
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// The folder of caches: as the recipe says, relative to its own folder; else in the user's cache folder.
pub(super) fn folder(configured: Option<&Path>, recipe_folder: &Path) -> PathBuf {
    if let Some(folder) = configured {
        return recipe_folder.join(folder);
    }
    let variable = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("trestle")
        .join("tokens")
}

/// Makes the folder if it is missing.
fn make_folder(folder: &Path) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(DataError::io("create", folder))
}
