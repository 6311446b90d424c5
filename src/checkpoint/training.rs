//! Checkpoints of a run.
//!
//! A checkpoint is the folder `checkpoints/step-N`: a Hugging Face directory, `training.safetensors` with Adam's moments, and
//! `training.json`, which holds the trainer's progress and a BLAKE3 of each part. It is written under a temporary name, synced,
//! renamed, and only then named in `checkpoints/latest`; after that older ones beyond `keep` are removed. So at every moment the newest
//! folder without `.tmp` in its name is complete.

mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;
use serde_json::{Value, json};

use crate::base::Shape;
use crate::event::layout;
use crate::nn::{Entry, Parameters};
use crate::spec::TextConfig;

use super::CheckpointError;
use super::files::{failed, replace, sync_folder, write};
use super::huggingface::{self, floats, read_json, shards::Shards};
use super::safetensors::write_floats;

pub use verify::{Intact, Unusable, newest_intact, verify};

const MOMENTS: &str = "training.safetensors";
const PROGRESS: &str = "training.json";
const TEMPORARY: &str = ".tmp-";

/// What a checkpoint is made of.
#[derive(Debug)]
pub struct TrainingState<'a> {
    /// Steps done.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Whatever else the trainer needs to go on, given back by [`load`].
    pub progress: Value,
    /// The model's geometry.
    pub config: &'a TextConfig,
    /// Its weights.
    pub parameters: &'a Parameters,
    /// Adam's first moment, f32, as long as the arena of weights.
    pub m: &'a Tensor,
    /// Adam's second moment, likewise.
    pub v: &'a Tensor,
    /// Newest checkpoints to keep; 0 keeps all.
    pub keep: usize,
}

/// A [`TrainingState`] that lies in the host's memory, so that another thread can write it while training goes on.
#[derive(Debug, Clone)]
pub struct Contents {
    /// Steps done.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Whatever else the trainer needs to go on.
    pub progress: Value,
    /// The model's geometry.
    pub config: TextConfig,
    /// Where each parameter lies in the arenas.
    pub entries: Vec<Entry>,
    /// Newest checkpoints to keep; 0 keeps all.
    pub keep: usize,
}

/// The three arenas of a checkpoint, f32 and equally long.
#[derive(Debug, Clone, Copy)]
pub struct Arenas<'a> {
    /// The weights' masters.
    pub masters: &'a [f32],
    /// Adam's first moment.
    pub m: &'a [f32],
    /// Adam's second moment.
    pub v: &'a [f32],
}

/// A checkpoint that lies complete on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Its folder.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// BLAKE3 of the f32 weights in arena order, hex.
    pub weights_hash: String,
    /// Folders that rotation removed, relative to the run.
    pub removed: Vec<String>,
}

/// What [`load`] gives back beside the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the trainer gave to [`save`].
    pub progress: Value,
    /// BLAKE3 of the f32 weights in arena order, hex.
    pub weights_hash: String,
}

/// Writes a checkpoint of `run`.
///
/// # Errors
/// When something cannot be written. What was there before is intact then, and the partial folder is removed.
pub fn save(run: &Path, state: &TrainingState) -> Result<Saved, CheckpointError> {
    let start = Instant::now();
    let contents = Contents {
        step: state.step,
        tokens: state.tokens,
        progress: state.progress.clone(),
        config: state.config.clone(),
        entries: state.parameters.entries().to_vec(),
        keep: state.keep,
    };
    let masters = floats(state.parameters.masters())?;
    let (m, v) = (floats(state.m)?, floats(state.v)?);
    let arenas = Arenas {
        masters: &masters,
        m: &m,
        v: &v,
    };
    let mut saved = write_arenas(run, &contents, arenas)?;
    saved.seconds = start.elapsed().as_secs_f64();
    Ok(saved)
}

/// [`save`] of arenas that lie in memory.
///
/// # Errors
/// As [`save`].
pub fn write_arenas(
    run: &Path,
    contents: &Contents,
    arenas: Arenas<'_>,
) -> Result<Saved, CheckpointError> {
    let start = Instant::now();
    let folder = run.join(layout::CHECKPOINTS);
    fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    remove_leftovers(&folder);
    let path = layout::checkpoint(run, contents.step);
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = folder.join(format!("{TEMPORARY}{name}"));
    let written = fill(&temporary, contents, arenas).and_then(|written| {
        if path.exists() {
            // The same step of an abandoned segment; the tracker still names an older one, or this one, whose content is equal in meaning.
            fs::remove_dir_all(&path).map_err(failed("replace", &path))?;
        }
        fs::rename(&temporary, &path).map_err(failed("write", &path))?;
        sync_folder(&folder)?;
        replace(&folder.join(layout::TRACKER), &format!("{name}\n"))?;
        Ok(written)
    });
    let (bytes, weights_hash) = match written {
        Ok(written) => written,
        Err(error) => {
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
    };
    let removed = rotate(run, contents.step, contents.keep);
    Ok(Saved {
        path,
        bytes,
        seconds: start.elapsed().as_secs_f64(),
        weights_hash,
        removed,
    })
}

/// Copies the checkpoint in `path` into `parameters` and Adam's moments.
///
/// # Errors
/// When a part is missing, has another shape, or its hash is not the one that was written.
pub fn load(
    path: &Path,
    config: &TextConfig,
    parameters: &Parameters,
    m: &Tensor,
    v: &Tensor,
) -> Result<Loaded, CheckpointError> {
    let json = read_json(&path.join(PROGRESS))?;
    huggingface::load(path, config, parameters)?;
    let moments = Shards::open(&path.join(MOMENTS))?;
    let shape = Shape(vec![parameters.len()]);
    for (name, tensor) in [("m", m), ("v", v)] {
        let value = moments.read(name, &shape)?.to_device(tensor.device())?;
        tensor.slice_set(&value, 0, 0)?;
    }
    let mut weights_hash = String::new();
    for (part, tensor) in [("weights", parameters.masters()), ("m", m), ("v", v)] {
        let found = hash(&floats(tensor)?);
        if json["blake3"][part] != found.as_str() {
            return Err(CheckpointError::Damaged {
                path: path.to_owned(),
                problem: format!(
                    "the {part} have the hash {found}, but {} was written",
                    json["blake3"][part]
                ),
            });
        }
        if part == "weights" {
            weights_hash = found;
        }
    }
    Ok(Loaded {
        progress: json["progress"].clone(),
        weights_hash,
    })
}

/// What the trainer gave to [`save`] for the checkpoint in `path`.
pub fn progress(path: &Path) -> Result<Value, CheckpointError> {
    Ok(read_json(&path.join(PROGRESS))?["progress"].clone())
}

/// The newest complete checkpoint of `run`, or nothing.
///
/// That is the folder that the tracker names; if there is no tracker or it names no folder, the one with the highest step.
pub fn latest(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let folder = run.join(layout::CHECKPOINTS);
    if let Ok(name) = fs::read_to_string(folder.join(layout::TRACKER)) {
        let path = folder.join(name.trim());
        if layout::checkpoint_step(name.trim()).is_some() && path.join(PROGRESS).is_file() {
            return Ok(Some(path));
        }
    }
    Ok(list(run)?.pop().map(|(_, path)| path))
}

/// Every complete checkpoint of `run` with its step, oldest first.
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let folder = run.join(layout::CHECKPOINTS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", &folder)(error)),
    };
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let step = layout::checkpoint_step(entry.file_name().to_str()?)?;
            entry
                .path()
                .join(PROGRESS)
                .is_file()
                .then(|| (step, entry.path()))
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// BLAKE3 of the f32 weights in arena order, little-endian, as hex.
pub fn weights_hash(parameters: &Parameters) -> Result<String, CheckpointError> {
    Ok(hash(&floats(parameters.masters())?))
}

/// Writes all parts into `temporary` and syncs them; size and the weights' hash.
fn fill(
    temporary: &Path,
    contents: &Contents,
    arenas: Arenas<'_>,
) -> Result<(u64, String), CheckpointError> {
    fs::create_dir(temporary).map_err(failed("create", temporary))?;
    let Arenas { masters, m, v } = arenas;
    // Hashing costs as much as writing; the three arenas are hashed side by side while the files are written.
    let (files, hashes) = std::thread::scope(|scope| {
        let hashes = [masters, m, v].map(|arena| scope.spawn(move || hash(arena)));
        let files = write_files(temporary, contents, arenas);
        (
            files,
            hashes.map(|thread| thread.join().unwrap_or_default()),
        )
    });
    let mut bytes = files?;
    let [weights_hash, m_hash, v_hash] = hashes;
    let text = json!({
        "version": 1,
        "step": contents.step,
        "tokens": contents.tokens,
        "blake3": { "weights": weights_hash, "m": m_hash, "v": v_hash },
        "progress": contents.progress,
    });
    bytes += write(&temporary.join(PROGRESS), |file| writeln!(file, "{text:#}"))?;
    sync_folder(temporary)?;
    Ok((bytes, weights_hash))
}

fn write_files(
    temporary: &Path,
    contents: &Contents,
    arenas: Arenas<'_>,
) -> Result<u64, CheckpointError> {
    let Contents {
        config, entries, ..
    } = contents;
    let Arenas { masters, m, v } = arenas;
    let shape = [m.len()];
    let weights = huggingface::save_values(temporary, config, entries, masters)?;
    let moments = write_floats(
        &temporary.join(MOMENTS),
        &[("m", &shape, m), ("v", &shape, v)],
    )?;
    Ok(weights + moments)
}

/// Removes the oldest checkpoints beyond `keep`, never the one of `step`; their folders relative to the run.
///
/// Steps above `step` belong to an abandoned segment and go first. What cannot be removed stays and is tried again next time.
fn rotate(run: &Path, step: u64, keep: usize) -> Vec<String> {
    if keep == 0 {
        return Vec::new();
    }
    let Ok(mut all) = list(run) else {
        return Vec::new();
    };
    all.retain(|(s, _)| *s != step);
    all.sort_by_key(|(s, _)| (*s < step, *s));
    let surplus = (all.len() + 1).saturating_sub(keep);
    all.into_iter()
        .take(surplus)
        .filter(|(_, path)| fs::remove_dir_all(path).is_ok())
        .map(|(_, path)| {
            path.strip_prefix(run)
                .unwrap_or(&path)
                .display()
                .to_string()
        })
        .collect()
}

/// Removes what a killed writer left behind.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn hash(values: &[f32]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(1 << 16);
    for part in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}
