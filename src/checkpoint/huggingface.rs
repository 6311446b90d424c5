//! Hugging Face directories: `config.json` with `model.safetensors`, whole or sharded.
//!
//! Every tensor of the model has to be there, with its shape, and nothing else may be there: a name that is missing or left over is an
//! error that says so. Names may start with `model.` (text class) or `model.language_model.` (multimodal class, whose `model.visual.*`
//! is passed over). A tied model may store `lm_head.weight` if it equals the embedding.

pub(super) mod shards;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::Value;

use crate::nn::{Entry, Parameters};
use crate::spec::{ModelConfig, TextConfig};

use super::CheckpointError;
use super::files::{failed, write};
use super::safetensors::{SINGLE, write_floats};
use shards::Shards;

const CONFIG: &str = "config.json";

/// Reads `config.json` of `directory`.
///
/// # Errors
/// When there is none, it is no JSON, or it describes another family.
pub fn read_config(directory: &Path) -> Result<TextConfig, CheckpointError> {
    let path = directory.join(CONFIG);
    let json = read_json(&path)?;
    TextConfig::from_json(&json).map_err(|source| CheckpointError::Config {
        path,
        source: Box::new(source),
    })
}

/// Reads `config.json` of any class of the family: `path` is that file, or the directory that has it.
///
/// # Errors
/// When there is none, it is no JSON, or it describes another family.
pub fn read_model(path: &Path) -> Result<ModelConfig, CheckpointError> {
    let path = if path.is_dir() {
        path.join(CONFIG)
    } else {
        path.to_owned()
    };
    let json = read_json(&path)?;
    ModelConfig::from_json(&json).map_err(|source| CheckpointError::Config {
        path,
        source: Box::new(source),
    })
}

/// Copies the weights of `directory` into `parameters`, widened to f32.
///
/// # Errors
/// A missing, unexpected, truncated or differently shaped tensor; nothing of `parameters` is to be used then.
pub fn load(
    directory: &Path,
    config: &TextConfig,
    parameters: &Parameters,
) -> Result<(), CheckpointError> {
    let shards = Shards::open(directory)?;
    let mut stored: BTreeMap<String, String> = BTreeMap::new();
    let mut head = None;
    for name in shards.names() {
        match text_name(name) {
            None => {}
            Some(ours) if ours == "lm_head.weight" && config.tie_word_embeddings => {
                head = Some(name.to_owned());
            }
            Some(ours) => {
                stored.insert(ours, name.to_owned());
            }
        }
    }
    let missing: Vec<String> = parameters
        .names()
        .filter(|n| !stored.contains_key(*n))
        .map(str::to_owned)
        .collect();
    if !missing.is_empty() {
        return Err(CheckpointError::Missing {
            path: directory.to_owned(),
            names: missing,
        });
    }
    let unexpected: Vec<String> = stored
        .iter()
        .filter(|(ours, _)| parameters.entry(ours).is_err() && !is_dropped_mtp(ours, config))
        .map(|(_, name)| name.clone())
        .collect();
    if !unexpected.is_empty() {
        return Err(CheckpointError::Unexpected {
            path: directory.to_owned(),
            names: unexpected,
        });
    }
    for entry in parameters.entries() {
        let value = shards.read(&stored[&entry.name], &entry.shape)?;
        parameters.set(&entry.name, &value)?;
    }
    if let Some(head) = head {
        let embedding = parameters.weight("model.embed_tokens.weight")?;
        let value = shards.read(&head, &crate::base::Shape(embedding.dims().to_vec()))?;
        if value.flatten_all()?.to_vec1::<f32>()? != embedding.flatten_all()?.to_vec1::<f32>()? {
            return Err(CheckpointError::UntiedHead {
                path: directory.to_owned(),
            });
        }
    }
    Ok(())
}

/// Writes `config.json` and `model.safetensors` (f32, text-class names) into `directory`, which exists; the bytes written.
pub fn save(
    directory: &Path,
    config: &TextConfig,
    parameters: &Parameters,
) -> Result<u64, CheckpointError> {
    let weights = floats(parameters.masters())?;
    save_values(directory, config, parameters.entries(), &weights)
}

/// [`save`] of weights that lie in memory: `weights` is the arena that `entries` name the parts of.
pub(super) fn save_values(
    directory: &Path,
    config: &TextConfig,
    entries: &[Entry],
    weights: &[f32],
) -> Result<u64, CheckpointError> {
    let mut text = serde_json::to_string_pretty(&config.to_text_json()).unwrap_or_default();
    text.push('\n');
    let config_bytes = write(&directory.join(CONFIG), |file| {
        file.write_all(text.as_bytes())
    })?;
    let tensors: Vec<(&str, &[usize], &[f32])> = entries
        .iter()
        .map(|e| (e.name.as_str(), e.shape.0.as_slice(), &weights[e.range()]))
        .collect();
    Ok(config_bytes + write_floats(&directory.join(SINGLE), &tensors)?)
}

/// The values of a tensor.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f32>, CheckpointError> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Reads a JSON file; a broken one is reported with its place.
pub(super) fn read_json(path: &Path) -> Result<Value, CheckpointError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    serde_json::from_str(&text).map_err(|error| CheckpointError::Json {
        path: PathBuf::from(path),
        line: error.line(),
        column: error.column(),
        problem: error.to_string(),
    })
}

/// The name that the text class uses, or nothing for the vision tower.
fn text_name(name: &str) -> Option<String> {
    if name.starts_with("model.visual.") || name.starts_with("visual.") {
        return None;
    }
    Some(match name.strip_prefix("model.language_model.") {
        Some(rest) => format!("model.{rest}"),
        None => name.to_owned(),
    })
}

/// MTP weights that the files have and a config without MTP leaves out: a recipe may train without them.
fn is_dropped_mtp(name: &str, config: &TextConfig) -> bool {
    config.mtp_num_hidden_layers == 0 && name.starts_with("mtp.")
}
