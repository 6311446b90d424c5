//! What lies at a path: which format, which model, which files and tensors.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::table::printable;
use super::{numbers, unusable};
use crate::base::{Bytes, DType};
use crate::checkpoint::safetensors::{Directory, Header};
use crate::checkpoint::weights::{is_torch_dist, iteration_folder, rank_files};
use crate::checkpoint::{CheckpointError, StoredTensor, torch_dist, training};
use crate::cli::output::{Output, Tone};
use crate::cli::{Exit, Failure};
use crate::event::layout;
use crate::spec::{self, ModelConfig};

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    HuggingFace,
    File,
    Checkpoint,
    TorchDist,
    Shards,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face directory",
            Self::File => "safetensors file",
            Self::Checkpoint => "checkpoint of a run, a Hugging Face directory with training state",
            Self::TorchDist => "Megatron checkpoint, torch_dist",
            Self::Shards => "one safetensors file a rank",
        }
    }
}

/// A directory of weights. No value has been read.
pub(super) struct Found {
    kind: Kind,
    path: PathBuf,
    /// The model of `config.json`, or what is wrong with it; nothing if there is none.
    model: Option<Result<ModelConfig, String>>,
    pub(super) files: Vec<PathBuf>,
    pub(super) tensors: Vec<StoredTensor>,
    metadata: BTreeMap<String, String>,
    /// What else is worth a line: label and text.
    notes: Vec<(&'static str, String)>,
}

/// What `--json` says before the tensors.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    kind: Kind,
    path: &'a Path,
    model: Option<Model>,
    files: Vec<FileSize<'a>>,
    bytes: u64,
    elements: u64,
    dtypes: Vec<TypeCount>,
    metadata: &'a BTreeMap<String, String>,
}

/// A model as `--json` names it.
#[derive(Serialize)]
struct Model {
    #[serde(rename = "model_type")]
    class: Option<&'static str>,
    architecture: Option<&'static str>,
    /// The published size that it is.
    size: Option<&'static str>,
    /// Why the config could not be read.
    problem: Option<String>,
}

#[derive(Serialize)]
struct FileSize<'a> {
    path: &'a Path,
    bytes: Option<u64>,
}

/// How much is of a type.
#[derive(Serialize)]
struct TypeCount {
    dtype: &'static str,
    tensors: usize,
    bytes: u64,
}

impl Found {
    /// Finds out what `path` is and opens it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let is_there = |name: &str| path.join(name).symlink_metadata().is_ok();
        if is_there(layout::RUN) || is_there(layout::EVENTS) {
            return Self::newest_of_run(path);
        }
        if path.is_dir() {
            let ranks = rank_files(path).map_err(unusable)?;
            if !ranks.is_empty() {
                return Self::shards(path, ranks.into_values().collect()).map_err(unusable);
            }
        }
        if is_torch_dist(path) {
            let folder = iteration_folder(path).map_err(unusable)?;
            return Self::torch_dist(&folder).map_err(unusable);
        }
        Self::huggingface(path).map_err(|error| match error {
            CheckpointError::NoWeights { .. } => unusable(error).hint(
                "inspect takes a safetensors file, a Hugging Face or Megatron directory, a directory of rank files, or a run",
            ),
            error => unusable(error),
        })
    }

    fn newest_of_run(run: &Path) -> Result<Self, Failure> {
        let newest = training::latest(run).map_err(unusable)?;
        let Some(checkpoint) = newest else {
            let message = format!("the run {} has no checkpoint", run.display());
            return Err(Exit::Data
                .because(message)
                .hint("a running trainer writes one on demand: trestle checkpoint RUN"));
        };
        let mut found = Self::huggingface(&checkpoint).map_err(unusable)?;
        found.notes.insert(0, ("run", run.display().to_string()));
        Ok(found)
    }

    fn huggingface(path: &Path) -> Result<Self, CheckpointError> {
        let directory = Directory::open(path)?;
        let is_file = path.is_file();
        let mut notes = Vec::new();
        let state = path.join("training.json");
        let mut kind = if is_file {
            Kind::File
        } else {
            Kind::HuggingFace
        };
        if state.is_file() {
            kind = Kind::Checkpoint;
            notes.push(("training", training_state(path, &state)));
        }
        Ok(Self {
            kind,
            model: model_of(&[path.to_owned()]),
            path: path.to_owned(),
            files: directory.files,
            tensors: directory.tensors,
            metadata: directory.metadata,
            notes,
        })
    }

    fn torch_dist(path: &Path) -> Result<Self, CheckpointError> {
        let reader = torch_dist::Reader::open(path)?;
        let mut notes = Vec::new();
        if let Some(iteration) = reader.iteration {
            notes.push(("iteration", iteration.to_string()));
        }
        if !reader.optimizer.is_empty() {
            let count = reader.optimizer.len();
            notes.push(("optimizer", format!("{count} tensors, not listed below")));
        }
        if !reader.objects.is_empty() {
            notes.push(("objects", reader.objects.join(", ")));
        }
        if reader.extra_states > 0 {
            let count = reader.extra_states;
            notes.push((
                "skipped",
                format!("{count} objects of the engine's extra state"),
            ));
        }
        let folder = reader.folder;
        let mut places = vec![folder.clone(), folder.join("hf"), path.to_owned()];
        places.extend(folder.parent().map(Path::to_owned));
        Ok(Self {
            kind: Kind::TorchDist,
            model: model_of(&places),
            path: folder,
            files: reader.files,
            tensors: reader.tensors,
            metadata: BTreeMap::new(),
            notes,
        })
    }

    fn shards(path: &Path, ranks: Vec<PathBuf>) -> Result<Self, CheckpointError> {
        let mut tensors = Vec::new();
        let mut metadata = BTreeMap::new();
        for (file, path) in ranks.iter().enumerate() {
            let header = Header::read(path)?;
            metadata.extend(header.metadata);
            tensors.extend(header.tensors.into_iter().map(|mut tensor| {
                for extent in &mut tensor.extents {
                    extent.file = file;
                }
                tensor
            }));
        }
        let mut places = vec![path.to_owned(), path.join("hf")];
        places.extend(path.parent().map(Path::to_owned));
        Ok(Self {
            kind: Kind::Shards,
            model: model_of(&places),
            path: path.to_owned(),
            notes: vec![("ranks", ranks.len().to_string())],
            files: ranks,
            tensors,
            metadata,
        })
    }

    /// Names of the files that hold a tensor, below the directory.
    pub(super) fn files_of(&self, tensor: &StoredTensor) -> Vec<&str> {
        let mut files: Vec<usize> = tensor.extents.iter().map(|e| e.file).collect();
        files.sort_unstable();
        files.dedup();
        let name = |file: usize| -> Option<&str> {
            let path = &self.files[file];
            let below = path.strip_prefix(&self.path).unwrap_or(path);
            if below.as_os_str().is_empty() {
                path.file_name()?.to_str()
            } else {
                below.to_str()
            }
        };
        files
            .into_iter()
            .map(|file| name(file).unwrap_or("(a name that is not UTF-8)"))
            .collect()
    }

    fn bytes(&self) -> u64 {
        self.tensors.iter().map(StoredTensor::bytes).sum()
    }

    fn elements(&self) -> u64 {
        self.tensors.iter().map(|t| t.shape.elements()).sum()
    }

    fn dtypes(&self) -> Vec<TypeCount> {
        let mut types: BTreeMap<DType, TypeCount> = BTreeMap::new();
        for tensor in &self.tensors {
            let dtype = tensor.dtype;
            let count = types.entry(dtype).or_insert(TypeCount {
                dtype: dtype.safetensors_name(),
                tensors: 0,
                bytes: 0,
            });
            count.tensors += 1;
            count.bytes += tensor.bytes();
        }
        let mut types: Vec<TypeCount> = types.into_values().collect();
        types.sort_by_key(|count| std::cmp::Reverse(count.bytes));
        types
    }

    /// What `--json` says before the tensors.
    pub(super) fn summary(&self) -> Summary<'_> {
        let model = self.model.as_ref().map(|model| match model {
            Ok(config) => Model {
                class: Some(config.model_type()),
                architecture: Some(config.architecture()),
                size: published(config),
                problem: None,
            },
            Err(problem) => Model {
                class: None,
                architecture: None,
                size: None,
                problem: Some(problem.clone()),
            },
        });
        Summary {
            kind: self.kind,
            path: &self.path,
            model,
            files: self
                .files
                .iter()
                .map(|path| FileSize {
                    path,
                    bytes: fs::metadata(path).ok().map(|m| m.len()),
                })
                .collect(),
            bytes: self.bytes(),
            elements: self.elements(),
            dtypes: self.dtypes(),
            metadata: &self.metadata,
        }
    }

    /// The lines before the table.
    pub(super) fn head(&self, out: &Output) -> String {
        let mut text = String::new();
        let mut line = |label: &str, words: String| {
            let label = out.paint(Tone::Name, format!("{label:<10}"));
            let _ = writeln!(text, "{label} {words}");
        };
        line("kind", self.kind.words().to_owned());
        line("path", self.path.display().to_string());
        match &self.model {
            None => {}
            Some(Ok(config)) => line("model", described(config)),
            Some(Err(problem)) => {
                let problem = format!("unknown: {problem}");
                line("model", out.paint(Tone::Warning, problem));
            }
        }
        for (label, words) in &self.notes {
            line(label, words.clone());
        }
        let sizes = self.files.iter().filter_map(|path| fs::metadata(path).ok());
        let bytes: Bytes = sizes.map(|m| Bytes(m.len())).sum();
        line("files", format!("{}, {bytes}", self.files.len()));
        line(
            "tensors",
            format!(
                "{}, {} elements",
                self.tensors.len(),
                numbers::count(self.elements())
            ),
        );
        for count in self.dtypes() {
            let name = count.dtype;
            let tensors = match count.tensors {
                1 => "1 tensor".to_owned(),
                n => format!("{n} tensors"),
            };
            line(
                "",
                format!("{name:<7} {:>10} in {tensors}", Bytes(count.bytes)),
            );
        }
        for (key, value) in &self.metadata {
            line(
                "metadata",
                format!("{} = {}", printable(key), printable(value)),
            );
        }
        text.push('\n');
        text
    }
}

/// What training state is beside the weights.
fn training_state(folder: &Path, state: &Path) -> String {
    let json = fs::read(state)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .unwrap_or_default();
    let number = |key: &str| json[key].as_u64();
    let step = number("step").map_or_else(|| "no step".to_owned(), |n| format!("step {n}"));
    let tokens = number("tokens").map_or(0, |n| n);
    let moments = folder.join("training.safetensors");
    let bytes = fs::metadata(moments).map_or(0, |m| m.len());
    format!(
        "{step}, {} tokens seen, optimizer {}",
        numbers::count(tokens),
        Bytes(bytes)
    )
}

/// The model of the first `config.json` in these folders.
fn model_of(folders: &[PathBuf]) -> Option<Result<ModelConfig, String>> {
    let path = folders
        .iter()
        .map(|folder| folder.join("config.json"))
        .find(|path| path.is_file())?;
    let read = || -> Result<ModelConfig, String> {
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let json = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        ModelConfig::from_json(&json).map_err(|error| error.to_string())
    };
    Some(read().map_err(|problem| format!("{}: {problem}", path.display())))
}

/// The published size that has this geometry.
fn published(config: &ModelConfig) -> Option<&'static str> {
    let is_same = |entry: &&spec::Entry| {
        let mut model = match config.vision {
            Some(_) => entry.model.clone(),
            None => entry.text_only(),
        };
        // Where it was read from and what it is stored in are no geometry.
        model.text.source = config.text.source.clone();
        model.text.dtype = config.text.dtype;
        model == *config
    };
    let entry = spec::registry().iter().find(is_same)?;
    Some(entry.display)
}

/// A model in words.
fn described(config: &ModelConfig) -> String {
    let text = &config.text;
    let mut words = published(config).map_or_else(String::new, |size| format!("{size}, "));
    let _ = write!(
        words,
        "{}: {} layers of {}",
        config.model_type(),
        text.num_hidden_layers,
        text.hidden_size
    );
    if let Some(moe) = &text.moe {
        let _ = write!(words, ", {} experts", moe.num_experts);
    }
    match text.mtp_num_hidden_layers {
        0 => {}
        depth => {
            let _ = write!(words, ", MTP of depth {depth}");
        }
    }
    if let Some(vision) = &config.vision {
        let _ = write!(words, ", vision of {} blocks", vision.depth);
    }
    if text.tie_word_embeddings {
        words.push_str(", tied head");
    }
    words
}
