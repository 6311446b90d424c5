//! Writing so that a kill or a full disk never leaves half a file under its name.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::CheckpointError;

/// An error about `path`.
pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io {
        action,
        path,
        source,
    }
}

/// Creates `path`, lets `fill` write it, and waits until it is on the disk; the number of bytes.
pub(super) fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<u64, CheckpointError> {
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        fill(&mut file)?;
        let file = file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    })();
    written.map_err(failed("write", path))
}

/// Waits until the names in `folder` are on the disk.
pub(super) fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(failed("sync", folder))
}

/// Puts `text` under `path` at once: whoever reads sees the old text or the new one.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CheckpointError> {
    let new = path.with_extension("new");
    write(&new, |file| file.write_all(text.as_bytes()))?;
    fs::rename(&new, path).map_err(failed("write", path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Asks that `count` more files can be open at once; what the system refuses shows when they are opened.
///
/// The usual limit is 1024, and a checkpoint can have a file for each of more ranks.
pub(super) fn expect_open(count: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = count as u64 + SPARE;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| wanted.min(maximum)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Files that are open besides: terminal, input, journal, threads.
const SPARE: u64 = 2048;
