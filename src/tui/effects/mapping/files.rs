//! Directories of weights as models of the screen.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::app::mapping::{Files, Model, Numbers, Stored, Values, ValuesOf};
use crate::checkpoint::safetensors::Directory;
use crate::checkpoint::statistics::Detail;
use crate::checkpoint::{CheckpointError, Statistics, StoredTensor, torch_dist, training};
use crate::mapping::{Found, Spelling, Table, View, audit, expert_style};
use crate::spec::{ExpertStyle, ModelConfig, find};

/// What a directory has.
struct Weights {
    format: &'static str,
    path: PathBuf,
    files: Vec<PathBuf>,
    tensors: Vec<StoredTensor>,
}

/// An error with what the user can do.
fn told(error: &CheckpointError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

/// Opens a directory or a file; of a run the latest checkpoint.
fn weights(path: &Path) -> Result<Weights, String> {
    let latest = training::latest(path).ok().flatten();
    let path = latest.as_deref().unwrap_or(path);
    let is_torch_dist =
        path.join(".metadata").exists() || path.join("latest_checkpointed_iteration.txt").exists();
    if is_torch_dist {
        let reader = torch_dist::Reader::open(path).map_err(|error| told(&error))?;
        return Ok(Weights {
            format: "torch_dist",
            path: reader.folder,
            files: reader.files,
            tensors: reader.tensors,
        });
    }
    let directory = Directory::open(path).map_err(|error| told(&error))?;
    Ok(Weights {
        format: "hf",
        path: path.to_owned(),
        files: directory.files,
        tensors: directory.tensors,
    })
}

/// The model that a `config.json`, a directory with one, or the name of a published size tells.
fn model_config(text: &str) -> Result<ModelConfig, String> {
    if let Some(entry) = find(text) {
        return Ok(entry.model.clone());
    }
    let mut path = PathBuf::from(text);
    if path.is_dir() {
        path.push("config.json");
    }
    let said = |why: String| format!("{}: {why}", path.display());
    let json = fs::read_to_string(&path).map_err(|error| said(error.to_string()))?;
    let json = serde_json::from_str(&json).map_err(|error| said(error.to_string()))?;
    ModelConfig::from_json(&json).map_err(|error| said(error.to_string()))
}

/// Opens `path` as a model with what the files have of it; `config` tells the model where nothing beside the weights does.
pub(super) fn open(path: &Path, config: &str) -> Result<Model, String> {
    let weights = weights(path)?;
    let folder = if weights.path.is_dir() {
        weights.path.as_path()
    } else {
        weights.path.parent().unwrap_or(Path::new("."))
    };
    let beside = folder.join("config.json");
    let config = match config {
        "" if beside.exists() => model_config(&beside.to_string_lossy())?,
        "" => {
            return Err(format!(
                "{} has no config.json; name one in the second field",
                folder.display()
            ));
        }
        text => model_config(text)?,
    };
    let found: Vec<Found> = weights
        .tensors
        .iter()
        .map(|tensor| Found {
            name: &tensor.name,
            shape: &tensor.shape,
            dtype: tensor.dtype,
        })
        .collect();
    let is_hf = weights.format == "hf";
    let style = if is_hf {
        let names = weights.tensors.iter().map(|tensor| tensor.name.as_str());
        expert_style(names).map_err(|problem| problem.to_string())?
    } else {
        ExpertStyle::QWEN3_5
    };
    let table = Table::new(&config, style);
    let view = if is_hf {
        View::huggingface(&table)
    } else {
        let vocab = weights
            .tensors
            .iter()
            .find(|tensor| tensor.name.ends_with("word_embeddings.weight"));
        let rows = vocab.and_then(|tensor| tensor.shape.0.first().copied());
        let rows = rows.unwrap_or(config.text.vocab_size);
        View::torch_dist(&table, rows, Spelling::TransformerLayer)
    };
    let audit = audit(&table, &view, &found);
    let stored = weights
        .tensors
        .iter()
        .map(|tensor| Stored {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: tensor.dtype,
        })
        .collect();
    let name = weights.path.file_name().map_or_else(
        || weights.path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    Ok(Model::with_files(
        name,
        table,
        Files {
            path: weights.path,
            format: weights.format,
            stored,
            view,
            audit,
        },
    ))
}

/// Reads the values of a stored tensor; none if `stop` was told meanwhile.
pub(super) fn values(of: &ValuesOf, stop: &AtomicBool) -> Result<Option<Values>, String> {
    let weights = weights(&of.path)?;
    let Some(tensor) = weights.tensors.get(of.stored) else {
        return Err(format!("{} has changed; open it again", of.path.display()));
    };
    let read = Statistics::read(&weights.files, tensor, Detail::Histogram, stop);
    Ok(read.map_err(|error| told(&error))?.map(|read| Values {
        elements: read.elements,
        zeros: read.zeros,
        nan: read.nan,
        infinite: read.positive_infinity + read.negative_infinity,
        numbers: numbers(&read),
        histogram: read.histogram,
    }))
}

fn numbers(read: &Statistics) -> Option<Numbers> {
    Some(Numbers {
        min: read.min?,
        max: read.max?,
        mean: read.mean?,
        std: read.std?,
    })
}
