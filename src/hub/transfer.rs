//! One file on its way into the cache.
//!
//! Bytes go to `<etag>.incomplete` as they come. A broken connection, or the next process after a kill, asks for the rest. When all are there
//! and their checksum is right, the file gets its name; if the checksum is wrong it is downloaded once more from its start, and then refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::address::bare;
use super::cache::Repository;
use super::checksum::Sum;
use super::client::{Ask, Client, header};
use super::fetch::free;
use super::plan::{Plan, PlannedFile, resolve};
use super::progress::{Cell, Stage};
use super::retry::Trouble;
use super::{Checksum, HubError};
use crate::base::Bytes;

/// How much is read at once.
const CHUNK: usize = 256 << 10;
/// How often a lock that another process holds is tried.
const LOOK: Duration = Duration::from_millis(50);

/// A file that is wanted.
#[derive(Debug)]
pub(super) struct Transfer<'a> {
    pub(super) client: &'a Client<'a>,
    pub(super) repository: &'a Repository,
    pub(super) plan: &'a Plan,
    pub(super) file: &'a PlannedFile,
    pub(super) cell: &'a Cell,
}

impl Transfer<'_> {
    /// Makes sure that the file is in the cache, under its name.
    pub(super) fn run(&self) -> Result<(), HubError> {
        let (commit, name) = (&self.plan.commit, &self.file.name);
        let etag = self.file.checksum.etag();
        if !self.is_linked() {
            if !self.has_blob() {
                let _lock = self.lock()?;
                // Whoever held the lock may have downloaded it.
                if !self.has_blob() {
                    self.download()?;
                }
            }
            self.repository.link(commit, name, etag)?;
        }
        self.cell.finish();
        Ok(())
    }

    fn is_linked(&self) -> bool {
        let link = self.plan.snapshot.join(&self.file.name);
        fs::metadata(link).is_ok_and(|data| data.len() == self.file.size.0)
    }

    fn has_blob(&self) -> bool {
        let blob = self.repository.blob(self.file.checksum.etag());
        fs::metadata(blob).is_ok_and(|data| data.len() == self.file.size.0)
    }

    /// Waits until no other process downloads the same contents. The lock is the one that `huggingface_hub` takes.
    fn lock(&self) -> Result<Option<File>, HubError> {
        let name = format!("{}.lock", self.file.checksum.etag());
        let path = self.repository.locks.join(name);
        fs::create_dir_all(&self.repository.locks)
            .map_err(|error| HubError::write(&self.repository.locks, error))?;
        let options = OpenOptions::new().write(true).create(true).clone();
        let file = options
            .open(&path)
            .map_err(|error| HubError::write(&path, error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => {
                    self.cell.stage(Stage::Locked);
                    self.client.pause(LOOK)?;
                }
                // A file system without locks: the checksum still keeps the cache right.
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    fn download(&self) -> Result<(), HubError> {
        let etag = self.file.checksum.etag();
        let path = self.repository.partial(etag);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| HubError::write(folder, error))?;
        }
        let mut part = Part::open(path, self.file)?;
        self.cell.stage(Stage::Checking);
        part.sum_what_is_there(|done| {
            self.cell.done(done);
            self.client.check_stop()
        })?;
        let mut wrong = 0;
        loop {
            self.fill(&mut part)?;
            let Some(actual) = part.differs() else {
                break;
            };
            // The beginning may have been another's; what is wrong twice is wrong at the server.
            part.restart()?;
            wrong += 1;
            if wrong == 2 {
                fs::remove_file(&part.path).map_err(|error| HubError::write(&part.path, error))?;
                return Err(HubError::Checksum {
                    file: self.file.name.clone(),
                    kind: self.file.checksum.kind(),
                    expected: etag.to_owned(),
                    actual,
                });
            }
        }
        part.keep(self.repository.blob(etag))
    }

    /// Downloads what is missing, through as many connections as it takes.
    fn fill(&self, part: &mut Part) -> Result<(), HubError> {
        let retry = &self.client.retry;
        let mut failures = 0;
        while part.written < self.file.size.0 {
            let before = part.written;
            let (error, asked) = match self.stream(part) {
                Ok(()) => continue,
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error, asked)) => (error, asked),
            };
            failures = if part.written > before {
                1
            } else {
                failures + 1
            };
            if failures >= retry.attempts {
                return Err(error.after(failures));
            }
            self.cell.stage(Stage::Pausing(error.to_string()));
            self.client
                .pause(asked.unwrap_or_else(|| retry.wait(failures)))?;
        }
        Ok(())
    }

    /// Downloads through one connection; all of the rest if it ends well.
    fn stream(&self, part: &mut Part) -> Result<(), Trouble> {
        let size = self.file.size.0;
        let url = resolve(
            self.client,
            &self.plan.id,
            &self.plan.commit,
            &self.file.name,
        );
        let what = format!("file {} of {}", self.file.name, self.plan.id.repository());
        let answer = |why: String| HubError::Answer {
            url: bare(&url),
            why,
        };
        let response = self.client.ask(Ask::From(part.written), &url, &what)?;
        match response.status().as_u16() {
            206 => {
                let range = header(&response, "content-range").unwrap_or("");
                if range_start(range) != Some(part.written) {
                    let why = format!("asked for byte {}, it sends {range:?}", part.written);
                    part.restart()?;
                    return Err(Trouble::Passing(answer(why), None));
                }
            }
            416 => {
                let why = format!("it has no byte {}", part.written);
                part.restart()?;
                return Err(Trouble::Passing(answer(why), None));
            }
            // A server without ranges sends all of it again.
            _ if part.written > 0 => {
                part.restart()?;
                self.cell.done(0);
            }
            _ => {}
        }
        let length = header(&response, "content-length").and_then(|text| text.parse().ok());
        if let Some(length) = length
            && part.written.checked_add(length) != Some(size)
        {
            let why = format!(
                "{} sends {} more bytes after {}, the Hub says {size} in all",
                self.file.name, length, part.written
            );
            return Err(answer(why).into());
        }
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        while part.written < size {
            self.client.check_stop()?;
            // A server that says no length may go on without end; the checksum is of the size that the Hub says.
            let most = CHUNK.min((size - part.written) as usize);
            let count = body
                .read(&mut chunk[..most])
                .map_err(|error| self.client.broken(&url, error.into()))?;
            if count == 0 {
                let short = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ended after {} of {size} bytes", part.written),
                );
                return Err(self.client.broken(&url, short.into()));
            }
            part.append(&chunk[..count])?;
            self.cell.received(part.written, count as u64);
        }
        Ok(())
    }
}

/// The first byte of `bytes 5-9/10`.
fn range_start(content_range: &str) -> Option<u64> {
    let range = content_range.trim().strip_prefix("bytes")?.trim_start();
    range.split('-').next()?.trim().parse().ok()
}

/// A file that is there in part.
struct Part {
    path: PathBuf,
    file: File,
    /// How much is there and summed.
    written: u64,
    size: u64,
    checksum: Checksum,
    sum: Sum,
}

impl Part {
    fn open(path: PathBuf, wanted: &PlannedFile) -> Result<Self, HubError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| HubError::write(&path, error))?;
        Ok(Self {
            path,
            file,
            written: 0,
            size: wanted.size.0,
            checksum: wanted.checksum.clone(),
            sum: wanted.checksum.start(wanted.size.0),
        })
    }

    /// Sums what another process left; `step` hears how far it is and may stop it.
    fn sum_what_is_there(
        &mut self,
        mut step: impl FnMut(u64) -> Result<(), HubError>,
    ) -> Result<(), HubError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = self
                .file
                .read(&mut chunk)
                .map_err(|error| HubError::read(&self.path, error))?;
            self.written += count as u64;
            if self.written > self.size {
                return self.restart();
            }
            if count == 0 {
                return Ok(());
            }
            self.sum.update(&chunk[..count]);
            step(self.written)?;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        if let Err(error) = self.file.write_all(bytes) {
            let full = matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
            let folder = self.path.parent().unwrap_or(&self.path);
            return Err(if full {
                HubError::DiskFull {
                    folder: folder.to_owned(),
                    needed: Bytes(self.size - self.written),
                    free: free(folder).unwrap_or_default(),
                }
            } else {
                HubError::write(&self.path, error)
            });
        }
        self.sum.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The checksum that came out, if it is the wrong one.
    fn differs(&mut self) -> Option<String> {
        let fresh = self.checksum.start(self.size);
        self.checksum
            .differs(std::mem::replace(&mut self.sum, fresh))
    }

    /// Forgets what is there.
    fn restart(&mut self) -> Result<(), HubError> {
        self.written = 0;
        self.sum = self.checksum.start(self.size);
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(|_| ())
            .map_err(|error| HubError::write(&self.path, error))
    }

    /// Gives the whole file its name.
    fn keep(self, blob: PathBuf) -> Result<(), HubError> {
        self.file
            .sync_data()
            .and_then(|()| fs::rename(&self.path, &blob))
            .map_err(|error| HubError::write(blob, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_where_it_starts() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes 0-9/*"), Some(0));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start(""), None);
    }
}
