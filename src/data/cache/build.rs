//! Making a token cache.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use super::{HEADER, Header, RECORD, make_folder};
use crate::data::source::{self, SourceFile};
use crate::data::{DataError, Tokenizer};

/// Bytes of text that are tokenised together, on all cores.
const TOGETHER: usize = 4 << 20;

/// Age after which another process's unfinished file is taken for left behind.
const LEFT_BEHIND: Duration = Duration::from_hours(24);

/// Writes the cache of `files` to `path`, all or nothing.
pub(super) fn build(
    files: &[SourceFile],
    tokenizer: &Tokenizer,
    path: &Path,
) -> Result<(), DataError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    remove_left_behind(folder);
    let unfinished = Unfinished::new(path);
    let file = File::create(&unfinished.0).map_err(DataError::io("create", &unfinished.0))?;
    let mut writer = Writer {
        tokenizer,
        width: if tokenizer.vocab_size() <= 1 << 16 {
            2
        } else {
            4
        },
        path: unfinished.0.clone(),
        file: BufWriter::with_capacity(1 << 20, file),
        waiting: Vec::new(),
        waiting_bytes: 0,
        tokens: 0,
        ids_crc: 0,
        records: Vec::new(),
    };
    writer.write(&[0; HEADER])?;
    for file in files {
        source::read(file, &mut |text| writer.push(text))?;
    }
    writer.flush()?;
    if writer.records.is_empty() {
        return Err(DataError::Empty {
            files: files.len(),
            documents: 0,
        });
    }
    writer.finish()?;
    fs::rename(&unfinished.0, path).map_err(DataError::io("write", path))
}

/// A file that goes away unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(path: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(path.with_extension(format!("{}-{count}.unfinished", std::process::id())))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone already if it was renamed.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes what a killed process left. Whatever fails here does no harm.
fn remove_left_behind(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let is_old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|time| {
                SystemTime::now()
                    .duration_since(time)
                    .is_ok_and(|age| age > LEFT_BEHIND)
            });
        if is_old && entry.path().extension().is_some_and(|e| e == "unfinished") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    width: u32,
    path: PathBuf,
    file: BufWriter<File>,
    /// Documents that are not tokenised yet.
    waiting: Vec<String>,
    waiting_bytes: usize,
    tokens: u64,
    ids_crc: u32,
    records: Vec<u8>,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<(), DataError> {
        self.waiting_bytes += text.len();
        self.waiting.push(text.to_owned());
        if self.waiting_bytes >= TOGETHER {
            self.flush()?;
        }
        Ok(())
    }

    /// Tokenises and writes what waits.
    fn flush(&mut self) -> Result<(), DataError> {
        let texts = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let encoded: Vec<Vec<u32>> = texts
            .par_iter()
            .map(|text| self.tokenizer.encode(text))
            .collect::<Result<_, _>>()?;
        let mut bytes = Vec::new();
        for (text, ids) in texts.iter().zip(&encoded) {
            bytes.clear();
            for &id in ids.iter().chain([&self.tokenizer.eos()]) {
                bytes.extend_from_slice(&id.to_le_bytes()[..self.width as usize]);
            }
            self.ids_crc = crc32c::crc32c_append(self.ids_crc, &bytes);
            self.write(&bytes)?;
            self.tokens += ids.len() as u64 + 1;
            self.records.extend_from_slice(&self.tokens.to_le_bytes());
            let hash = blake3::hash(text.as_bytes());
            self.records.extend_from_slice(&hash.as_bytes()[..8]);
            self.records
                .extend_from_slice(&(text.len() as u64).to_le_bytes());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), DataError> {
        let header = Header {
            width: self.width,
            documents: (self.records.len() / RECORD) as u64,
            tokens: self.tokens,
            ids_crc: self.ids_crc,
            records_crc: crc32c::crc32c(&self.records),
        };
        let padding = header.records_start() - HEADER - header.ids_bytes();
        self.write(&[0; 8][..padding])?;
        let records = std::mem::take(&mut self.records);
        self.write(&records)?;
        let path = self.path.clone();
        let end = |mut file: BufWriter<File>| -> io::Result<()> {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header.to_bytes())?;
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()
        };
        end(self.file).map_err(DataError::io("write", &path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file
            .write_all(bytes)
            .map_err(DataError::io("write", &self.path))
    }
}
