//! Is a checkpoint what was written, and which one to go on from if not.

use std::path::{Path, PathBuf};

use super::{MOMENTS, PROGRESS, latest, list};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::huggingface::{read_json, shards::Shards};
use crate::checkpoint::safetensors::SINGLE;

/// A checkpoint that is not what was written.
#[derive(Debug)]
pub struct Unusable {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: CheckpointError,
}

/// The newest checkpoint that is what was written.
#[derive(Debug)]
pub struct Intact {
    /// Its folder.
    pub path: PathBuf,
    /// Newer ones that are not, newest first; worth a warning.
    pub passed_over: Vec<Unusable>,
}

/// The newest checkpoint of `run` whose every byte is what was written, or nothing if there is none at all.
///
/// It begins with [`latest`] and goes back by step; steps above the latest belong to an abandoned segment and are left alone.
///
/// # Errors
/// When there are checkpoints and all are damaged: the newest one's error, since to start again would throw the run away.
pub fn newest_intact(run: &Path) -> Result<Option<Intact>, CheckpointError> {
    let Some(newest) = latest(run)? else {
        return Ok(None);
    };
    let older = list(run)?
        .into_iter()
        .rev()
        .map(|(_, path)| path)
        .skip_while(|path| *path != newest)
        .skip(1);
    let mut passed_over = Vec::new();
    for path in std::iter::once(newest.clone()).chain(older) {
        match verify(&path) {
            Ok(()) => return Ok(Some(Intact { path, passed_over })),
            Err(error) => passed_over.push(Unusable { path, error }),
        }
    }
    Err(passed_over.swap_remove(0).error)
}

/// Reads the checkpoint in `path` and compares every hash with what was written.
pub fn verify(path: &Path) -> Result<(), CheckpointError> {
    let json = read_json(&path.join(PROGRESS))?;
    let weights = Shards::open(&path.join(SINGLE))?;
    let moments = Shards::open(&path.join(MOMENTS))?;
    // Weights are written in arena order, so the file's data part is the arena.
    for (part, found) in [
        ("weights", weights.hash(None)?),
        ("m", moments.hash(Some("m"))?),
        ("v", moments.hash(Some("v"))?),
    ] {
        if json["blake3"][part] != found.as_str() {
            return Err(CheckpointError::Damaged {
                path: path.to_owned(),
                problem: format!(
                    "the {part} have the hash {found}, but {} was written",
                    json["blake3"][part]
                ),
            });
        }
    }
    Ok(())
}
