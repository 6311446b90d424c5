//! Where an output grows, and how it takes its name: nothing of the user's is lost on the way.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::journal::JOURNAL;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::{failed, sync_folder};

/// Held while a conversion runs; its presence says that a folder is ours.
const LOCK: &str = ".trestle-lock";

/// The folder in which the output grows.
pub fn partial_path(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{name}.partial"))
}

/// The path with a name at its end, so that a folder can be put beside it; a link to a folder is the folder.
pub(super) fn normal(path: &Path) -> Result<PathBuf, CheckpointError> {
    let absolute = std::path::absolute(path).map_err(failed("resolve", path))?;
    if absolute.file_name().is_some() && !(absolute.is_symlink() && absolute.is_dir()) {
        // Without the slash at its end.
        return Ok(absolute.components().collect());
    }
    absolute.canonicalize().map_err(failed("resolve", path))
}

/// Whether something other than an empty folder is there.
pub(super) fn is_taken(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.symlink_metadata().is_ok(),
    }
}

/// Refuses an output whose replacement, or whose partial folder, would take input files away.
pub(super) fn check_inputs(output: &Path, inputs: &[PathBuf]) -> Result<(), CheckpointError> {
    for folder in [output.to_owned(), partial_path(output)] {
        let Ok(folder) = folder.canonicalize() else {
            continue;
        };
        let is_within = |path: &Path| path.canonicalize().is_ok_and(|p| p.starts_with(&folder));
        let lost = inputs
            .iter()
            .find(|file| is_within(file) || file.parent().is_some_and(is_within));
        if let Some(file) = lost {
            return Err(CheckpointError::Overlap {
                output: output.to_owned(),
                folder,
                input: file.clone(),
            });
        }
    }
    Ok(())
}

/// Makes the partial folder, or finds that of an interrupted conversion, which `restart` throws away, and keeps others out while the file lives.
pub(super) fn claim(partial: &Path, restart: bool) -> Result<File, CheckpointError> {
    let is_ours = partial.join(LOCK).exists() || partial.join(JOURNAL).exists();
    if is_taken(partial) && !is_ours {
        return Err(CheckpointError::Foreign {
            path: partial.to_owned(),
        });
    }
    fs::create_dir_all(partial).map_err(failed("create", partial))?;
    let file = lock(partial)?;
    if !restart {
        return Ok(file);
    }
    fs::remove_dir_all(partial).map_err(failed("remove", partial))?;
    fs::create_dir_all(partial).map_err(failed("create", partial))?;
    lock(partial)
}

fn lock(partial: &Path) -> Result<File, CheckpointError> {
    let path = partial.join(LOCK);
    let file = File::create(&path).map_err(failed("write", &path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => CheckpointError::Busy {
            path: partial.to_owned(),
        },
        other => failed("lock", &path)(other.into()),
    })?;
    Ok(file)
}

/// Gives the finished folder the output's name. What had it is exchanged with it in one step where the system can, and goes away afterwards.
pub(super) fn put_in_place(partial: &Path, output: &Path) -> Result<(), CheckpointError> {
    let parent = output.parent().unwrap_or(output);
    let old = if output.symlink_metadata().is_err() {
        fs::rename(partial, output).map_err(failed("move", partial))?;
        None
    } else if renameat_with(CWD, partial, CWD, output, RenameFlags::EXCHANGE).is_ok() {
        Some(partial.to_owned())
    } else {
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        let old = output.with_file_name(format!(".{name}.replaced-{}", std::process::id()));
        fs::rename(output, &old).map_err(failed("move", output))?;
        if let Err(error) = fs::rename(partial, output) {
            // What was there comes back.
            let _ = fs::rename(&old, output);
            return Err(failed("move", partial)(error));
        }
        Some(old)
    };
    // Last, so that a kill before this leaves a folder that is known as ours.
    let lock = output.join(LOCK);
    fs::remove_file(&lock).map_err(failed("remove", &lock))?;
    sync_folder(parent)?;
    let Some(old) = old else { return Ok(()) };
    let removed = if old.is_dir() && !old.is_symlink() {
        fs::remove_dir_all(&old)
    } else {
        fs::remove_file(&old)
    };
    removed.map_err(failed("remove", &old))
}
