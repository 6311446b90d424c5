//! What of an interrupted conversion is done.
//!
//! The first line says which conversion it is, each further one which band of rows is written, with the CRC-32 of its bytes. A band counts only
//! if its bytes, read back, have that sum: a machine that lost power may have kept the line and lost the data.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::failed;

/// Its name in the partial folder.
pub(super) const JOURNAL: &str = ".trestle-journal";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// For people: the command that began it.
    pub(super) command: String,
    /// Of the input's files, the output's plan and all that decides its bytes.
    pub(super) fingerprint: String,
}

/// A further line: a band and the sum of its bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    unit: usize,
    crc32: u32,
}

/// The journal of a conversion under way.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<(BufWriter<File>, Instant)>,
}

/// Bytes of a band that costs far more to make again than to write down.
const LARGE: usize = 1 << 20;

/// How long a finished small band may be unwritten.
const FLUSH: Duration = Duration::from_millis(200);

impl Journal {
    /// Begins a journal, or goes on with one of the same identity: what it says is done, by band.
    pub(super) fn open(
        path: &Path,
        identity: &Identity,
    ) -> Result<(Self, HashMap<usize, u32>), CheckpointError> {
        let done = match File::open(path) {
            Err(_) => HashMap::new(),
            Ok(file) => read(path, file, identity)?,
        };
        // The file is written anew, so that a torn last line does not stay in its middle.
        let new = path.with_extension("new");
        let mut file = BufWriter::new(File::create(&new).map_err(failed("write", &new))?);
        let mut text = line(identity);
        for (&unit, &crc32) in &done {
            text.push_str(&line(&Done { unit, crc32 }));
        }
        file.write_all(text.as_bytes())
            .and_then(|()| file.flush())
            .map_err(failed("write", &new))?;
        fs::rename(&new, path).map_err(failed("write", path))?;
        let journal = Self {
            path: path.to_owned(),
            file: Mutex::new((file, Instant::now())),
        };
        Ok((journal, done))
    }

    /// Adds a band of `bytes`. Large bands are on the journal at once, small ones a moment later.
    pub(super) fn add(&self, unit: usize, crc32: u32, bytes: usize) -> Result<(), CheckpointError> {
        let text = line(&Done { unit, crc32 });
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, flushed) = &mut *guard;
        let mut written = file.write_all(text.as_bytes());
        if bytes >= LARGE || flushed.elapsed() >= FLUSH {
            *flushed = Instant::now();
            written = written.and_then(|()| file.flush());
        }
        written.map_err(failed("write", &self.path))
    }

    /// Writes what is held back.
    pub(super) fn flush(&self) -> Result<(), CheckpointError> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        guard.0.flush().map_err(failed("write", &self.path))
    }
}

fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

fn read(
    path: &Path,
    file: File,
    identity: &Identity,
) -> Result<HashMap<usize, u32>, CheckpointError> {
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    let Some(first) = lines.next() else {
        return Ok(HashMap::new());
    };
    let was: Option<Identity> = serde_json::from_str(&first).ok();
    if was.as_ref().map(|was| &was.fingerprint) != Some(&identity.fingerprint) {
        return Err(CheckpointError::OtherConversion {
            path: path.parent().unwrap_or(path).to_owned(),
            was: was.map_or_else(|| "something unreadable".into(), |was| was.command),
            now: identity.command.clone(),
        });
    }
    Ok(lines
        .filter_map(|line| serde_json::from_str::<Done>(&line).ok())
        .map(|done| (done.unit, done.crc32))
        .collect())
}
