//! What goes along with weights: tokenizer, chat template, generation settings, and files that we know nothing of.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::failed;

/// Most levels of folders that are copied along.
const DEPTH: usize = 4;

/// The files of a directory that go along with its weights, and their names below the output: all but weights, what other tools hide, our own
/// training state, and folders that hold another model.
///
/// # Errors
/// When something cannot be read; a link that leads back to a folder above it counts as that.
pub(super) fn companions(directory: &Path) -> Result<Vec<(PathBuf, String)>, CheckpointError> {
    let mut list = Vec::new();
    let root = directory
        .canonicalize()
        .map_err(failed("read", directory))?;
    walk(directory, "", &mut vec![root], &mut list)?;
    list.sort();
    Ok(list)
}

fn walk(
    directory: &Path,
    below: &str,
    above: &mut Vec<PathBuf>,
    list: &mut Vec<(PathBuf, String)>,
) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            continue;
        };
        let is_ours = below.is_empty() && (name == "config.json" || name == "training.json");
        if name.starts_with('.') || is_weights(name) || is_ours {
            continue;
        }
        let to = format!("{below}{name}");
        let metadata = fs::metadata(&path).map_err(failed("copy", &path))?;
        if metadata.is_file() {
            // Better now than after hours of conversion.
            File::open(&path).map_err(failed("copy", &path))?;
            list.push((path, to));
        } else if metadata.is_dir() {
            let real = path.canonicalize().map_err(failed("copy", &path))?;
            if above.contains(&real) {
                let source = io::Error::from_raw_os_error(libc::ELOOP);
                return Err(failed("copy", &path)(source));
            }
            if above.len() <= DEPTH && !holds_model(&path)? {
                above.push(real);
                walk(&path, &format!("{to}/"), above, list)?;
                above.pop();
            }
        }
    }
    Ok(())
}

fn is_weights(name: &str) -> bool {
    [
        ".safetensors",
        ".safetensors.index.json",
        ".bin",
        ".pt",
        ".pth",
        ".distcp",
        ".gguf",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

/// Whether a folder is a checkpoint, or one under way: with weights or a journal in it.
fn holds_model(folder: &Path) -> Result<bool, CheckpointError> {
    for entry in fs::read_dir(folder).map_err(failed("copy", folder))? {
        let name = entry.map_err(failed("copy", folder))?.file_name();
        let name = name.to_string_lossy();
        if is_weights(&name) || name.starts_with("iter_") || name == super::journal::JOURNAL {
            return Ok(true);
        }
    }
    Ok(false)
}
