//! Names of folders and the files that say which checkpoint is the latest.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::TorchDistError;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::failed;

/// The file that says which checkpoint is the latest: a step number, or `release`.
pub const TRACKER: &str = "latest_checkpointed_iteration.txt";

/// The name of a step's folder: `iter_0000500`.
pub fn folder_name(iteration: u64) -> String {
    format!("iter_{iteration:07}")
}

/// The step of a folder that is named so.
pub(super) fn iteration(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    name.strip_prefix("iter_")?.parse().ok()
}

/// The folder of a checkpoint: `path` itself if it has `.metadata`, else the one that its tracker names.
///
/// # Errors
/// [`TorchDistError::NotFound`], [`TorchDistError::Tracker`], and a folder that cannot be read.
pub(super) fn folder(path: &Path) -> Result<PathBuf, CheckpointError> {
    let metadata = path.join(".metadata");
    match fs::metadata(&metadata) {
        Ok(_) => return Ok(path.to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("read", &metadata)(e)),
    }
    let tracker = path.join(TRACKER);
    let text = match fs::read_to_string(&tracker) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs::metadata(path).map_err(failed("read", path))?;
            let path = path.to_owned();
            return Err(TorchDistError::NotFound { path }.into());
        }
        Err(e) => return Err(failed("read", &tracker)(e)),
    };
    let name = match text.trim() {
        "release" => "release".to_owned(),
        step => match step.parse() {
            Ok(step) => folder_name(step),
            Err(_) => {
                return Err(TorchDistError::Tracker {
                    path: tracker,
                    found: step.chars().take(40).collect(),
                }
                .into());
            }
        },
    };
    Ok(path.join(name))
}
