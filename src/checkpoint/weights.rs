//! The weights in a directory, whatever its format, as tensors of a model.

mod infer;
pub(super) mod stages;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::failed;
use super::huggingface::read_json;
use super::safetensors::{Directory, Header};
use super::{CheckpointError, StoredTensor, torch_dist, training};
use crate::base::Shape;
use crate::mapping::{
    Audit, Convention, Coordinates, Found, Layout, LayoutOptions, Spelling, Table, View, audit,
    differences, expert_style,
};
use crate::spec::{ExpertStyle, ModelConfig};

/// How a directory holds weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Hugging Face's: safetensors with `config.json`.
    HuggingFace,
    /// Megatron's `torch_dist`.
    TorchDist,
    /// One safetensors file a rank, `tp0-pp0-ep0-etp0.safetensors`.
    Shards,
}

impl Format {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "hf",
            Self::TorchDist => "torch_dist",
            Self::Shards => "shards",
        }
    }
}

/// The weights of a directory. Tensors are known by name, shape and place; no value has been read.
#[derive(Debug, Clone)]
pub struct Weights {
    /// The format.
    pub format: Format,
    /// The directory that was opened; of a Megatron one with several iterations, that of the chosen one.
    pub path: PathBuf,
    /// The files with values.
    pub files: Vec<PathBuf>,
    /// The tensors.
    pub tensors: Vec<StoredTensor>,
    /// For shards: the place of each file's rank, in the order of [`files`](Self::files).
    pub ranks: Vec<Coordinates>,
    /// `config.json` beside the weights, if there is one.
    pub config: Option<ModelConfig>,
}

/// Weights whose tensors are known as those of a model.
#[derive(Debug)]
pub struct Bound {
    /// The model's tensors in Megatron and in Hugging Face.
    pub table: Table,
    /// What each tensor of the format holds of them.
    pub view: View,
    /// The stored tensor behind each tensor of the view.
    pub tensors: Vec<StoredTensor>,
    /// Stored tensors that repeat another one: a tied model's head.
    pub repeats: Vec<StoredTensor>,
}

const CONFIG: &str = "config.json";

impl Weights {
    /// Opens a directory of any format, or one safetensors file; of a Megatron one the iteration that its tracker names, of a run its newest checkpoint.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let is_directory = fs::metadata(path).map_err(failed("read", path))?.is_dir();
        if is_directory {
            let ranks = rank_files(path)?;
            if !ranks.is_empty() {
                return Self::open_shards(path, ranks);
            }
            if is_torch_dist(path) {
                return Self::open_torch_dist(path);
            }
        }
        let directory = match Directory::open(path) {
            Err(CheckpointError::NoWeights { path }) if !path.join(CONFIG).exists() => {
                return match training::latest(&path)? {
                    Some(newest) => Self::open(&newest),
                    None => Err(CheckpointError::NoCheckpoint { path }),
                };
            }
            other => other?,
        };
        let beside = if is_directory {
            path.join(CONFIG)
        } else {
            path.with_file_name(CONFIG)
        };
        Ok(Self {
            format: Format::HuggingFace,
            path: path.to_owned(),
            files: directory.files,
            tensors: directory.tensors,
            ranks: Vec::new(),
            config: read_config(&beside)?,
        })
    }

    fn open_torch_dist(path: &Path) -> Result<Self, CheckpointError> {
        let reader = torch_dist::Reader::open(&iteration_folder(path)?)?;
        let config = config_near(&reader.folder)?;
        Ok(Self {
            format: Format::TorchDist,
            path: reader.folder,
            files: reader.files,
            tensors: reader.tensors,
            ranks: Vec::new(),
            config,
        })
    }

    fn open_shards(
        path: &Path,
        ranks: BTreeMap<Coordinates, PathBuf>,
    ) -> Result<Self, CheckpointError> {
        let mut tensors = Vec::new();
        for (file, path) in ranks.values().enumerate() {
            let header = Header::read(path)?;
            tensors.extend(header.tensors.into_iter().map(|mut tensor| {
                for extent in &mut tensor.extents {
                    extent.file = file;
                }
                tensor
            }));
        }
        Ok(Self {
            format: Format::Shards,
            path: path.to_owned(),
            config: config_near(path)?,
            tensors,
            files: ranks.values().cloned().collect(),
            ranks: ranks.into_keys().collect(),
        })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(StoredTensor::bytes).sum()
    }

    /// How the files store experts; of Megatron's, which know one way only, that of Qwen3.5's publication.
    pub fn expert_style(&self) -> Result<ExpertStyle, CheckpointError> {
        if self.format != Format::HuggingFace {
            return Ok(ExpertStyle::QWEN3_5);
        }
        let names = self.tensors.iter().map(|tensor| tensor.name.as_str());
        expert_style(names).map_err(|problem| CheckpointError::Audit {
            path: self.path.clone(),
            differences: Vec::new(),
            is_guessed: false,
            problems: vec![*problem],
        })
    }

    /// The model: that of the `config.json` beside the weights, else, for Megatron's formats, what names and shapes tell.
    ///
    /// Shapes do not tell how many heads the vision tower has, nor how wide a key head of the gated delta net is; neither matters between
    /// Megatron's formats.
    pub fn model(&self) -> Result<ModelConfig, CheckpointError> {
        match (&self.config, self.format) {
            (Some(config), _) => Ok(config.clone()),
            (None, Format::HuggingFace) => Err(CheckpointError::NoConfig {
                path: self.path.clone(),
            }),
            (None, _) => infer::model(self),
        }
    }

    /// Finds the tensors of a model among those of the files. Every tensor has to be there, and no other.
    pub fn bind(&self, config: &ModelConfig, style: ExpertStyle) -> Result<Bound, CheckpointError> {
        let table = Table::new(config, style);
        let (view, audit) = self.audit(&table)?;
        if !audit.problems.is_empty() {
            let differences = differences(
                &table,
                view.convention,
                &self.found(),
                self.format != Format::Shards,
            );
            return Err(CheckpointError::Audit {
                path: self.path.clone(),
                differences,
                is_guessed: self.has_guessed_stages(),
                problems: audit.problems,
            });
        }
        let tensors = audit
            .partners
            .iter()
            .flatten()
            .map(|&partner| self.tensors[partner].clone())
            .collect();
        let repeats = audit.repeats.iter();
        Ok(Bound {
            repeats: repeats.map(|&i| self.tensors[i].clone()).collect(),
            table,
            view,
            tensors,
        })
    }

    /// Compares the files' tensors with those of a model, both ways.
    pub fn audit(&self, table: &Table) -> Result<(View, Audit), CheckpointError> {
        let found = self.found();
        match self.format {
            Format::HuggingFace => {
                let mut view = View::huggingface(table);
                let audit = audit(table, &view, &found);
                for &tensor in &audit.transposed {
                    view.transpose(tensor);
                }
                Ok((view, audit))
            }
            Format::TorchDist => {
                let rows = self.vocab_rows(table);
                let view = View::torch_dist(table, rows, Spelling::TransformerLayer);
                let audit = audit(table, &view, &found);
                Ok((view, audit))
            }
            Format::Shards => self.audit_shards(table, &found),
        }
    }

    /// Whether nothing but the numbers of layers tells which layers a stage holds.
    pub fn has_guessed_stages(&self) -> bool {
        self.ranks.iter().any(|at| at.pp > 0) && !self.path.join(stages::LAYOUT).exists()
    }

    fn found(&self) -> Vec<Found<'_>> {
        let tensors = self.tensors.iter();
        tensors
            .map(|tensor| Found {
                name: &tensor.name,
                shape: &tensor.shape,
                dtype: tensor.dtype,
            })
            .collect()
    }

    /// Rows of the embedding: padded or not, all ranks together.
    fn vocab_rows(&self, table: &Table) -> usize {
        let vocab = table.config().text.vocab_size;
        let embedding = self
            .tensors
            .iter()
            .find(|t| t.name.ends_with("embedding.word_embeddings.weight"));
        let rows = embedding.and_then(|tensor| tensor.shape.0.first().copied());
        let tp = self.ranks.iter().map(|at| at.tp + 1).max().unwrap_or(1);
        rows.map_or(vocab, |rows| (rows * tp).max(vocab))
    }

    /// The layout that the files' names and contents tell.
    pub fn layout(&self, table: &Table) -> Result<Layout, CheckpointError> {
        let most = |of: fn(&Coordinates) -> usize| self.ranks.iter().map(of).max().unwrap_or(0) + 1;
        let rows = self.vocab_rows(table);
        let has = |part: &str| self.tensors.iter().any(|tensor| tensor.name.contains(part));
        let options = LayoutOptions {
            tp: most(|at| at.tp),
            ep: most(|at| at.ep),
            etp: most(|at| at.etp),
            world: None,
            pad_vocab: rows != table.config().text.vocab_size,
            sequential_experts: has(".local_experts."),
            spelling: if has(".transformer_layer.") {
                Spelling::TransformerLayer
            } else {
                Spelling::MtpModelLayer
            },
        };
        let stages = stages::of(self, table)?;
        let mut layout = Layout::new(table.config(), &options, stages).map_err(|source| {
            CheckpointError::Layout {
                path: self.path.clone(),
                source,
            }
        })?;
        layout.vocab_rows = rows;
        Ok(layout)
    }

    fn audit_shards(
        &self,
        table: &Table,
        found: &[Found],
    ) -> Result<(View, Audit), CheckpointError> {
        let layout = self.layout(table)?;
        let whole = View::shards(table, &layout);
        let is_there: HashSet<&Coordinates> = self.ranks.iter().collect();
        let mut missing = whole.ranks.iter().filter(|at| !is_there.contains(at));
        if let Some(at) = missing.next() {
            let more = missing.count();
            return Err(CheckpointError::MissingRank {
                path: self.path.clone(),
                name: format!("{at}.safetensors"),
                more,
            });
        }
        // Names repeat from rank to rank, so each rank is audited by itself.
        let mut view = View {
            convention: Convention::Megatron,
            ranks: self.ranks.clone(),
            tensors: Vec::with_capacity(whole.tensors.len()),
        };
        let mut all = Audit::default();
        let by_rank = whole.by_rank();
        let places: HashMap<&Coordinates, usize> = whole
            .ranks
            .iter()
            .enumerate()
            .map(|(i, at)| (at, i))
            .collect();
        let mut by_file = vec![Vec::new(); self.files.len()];
        for (i, tensor) in self.tensors.iter().enumerate() {
            if let Some(extent) = tensor.extents.first() {
                by_file[extent.file].push(i);
            }
        }
        for (file, (at, mine)) in self.ranks.iter().zip(by_file).enumerate() {
            let Some(rank) = places.get(at).copied() else {
                return Err(CheckpointError::ExtraRank {
                    path: self.files[file].clone(),
                    ranks: whole.ranks.len(),
                });
            };
            let part = View {
                convention: Convention::Megatron,
                ranks: vec![*at],
                tensors: by_rank[rank]
                    .iter()
                    .map(|&tensor| whole.tensors[tensor].clone())
                    .collect(),
            };
            let these: Vec<Found> = mine.iter().map(|&i| found[i]).collect();
            let mut result = audit(table, &part, &these);
            let global = |i: &usize| mine[*i];
            all.partners
                .extend(result.partners.iter().map(|p| p.as_ref().map(global)));
            // In a rank's module the head of a tied model is no repetition, but what its stage computes with.
            for problem in &mut result.problems {
                let rule = match problem.rule.as_str() {
                    "" => "nothing",
                    rule => rule,
                };
                problem.rule = format!("{rule} in {at}.safetensors");
            }
            all.problems.append(&mut result.problems);
            view.tensors.extend(part.tensors.into_iter().map(|tensor| {
                crate::mapping::ViewTensor {
                    rank: file,
                    ..tensor
                }
            }));
        }
        view.mark_replicas();
        Ok((view, all))
    }
}

impl Bound {
    /// Extents of a tensor of the view as the files have it.
    pub fn shape(&self, tensor: usize) -> &Shape {
        &self.tensors[tensor].shape
    }
}

/// The folder of the iteration to read: the only one where no tracker names it.
///
/// # Errors
/// A tracker that names none of those there, or several without a tracker; the error lists what is there.
pub fn iteration_folder(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.join(".metadata").exists() {
        return Ok(path.to_owned());
    }
    let mut there: Vec<String> = fs::read_dir(path)
        .map_err(failed("read", path))?
        .flatten()
        .filter(|entry| entry.path().join(".metadata").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    let named = match fs::read_to_string(path.join(torch_dist::TRACKER)) {
        Ok(text) => match text.trim() {
            "release" => Some("release".to_owned()),
            step => step.parse().ok().map(torch_dist::folder_name),
        },
        Err(_) if there.len() == 1 => return Ok(path.join(&there[0])),
        Err(_) => None,
    };
    match named {
        Some(ref name) if !there.contains(name) => {}
        None if there.len() > 1 && !path.join(torch_dist::TRACKER).exists() => {}
        // The reader says what is wrong with a tracker.
        _ => return Ok(path.to_owned()),
    }
    Err(CheckpointError::NoIteration {
        path: path.to_owned(),
        named,
        there,
    })
}

/// Whether a directory is a `torch_dist` checkpoint, or holds some by step.
pub fn is_torch_dist(directory: &Path) -> bool {
    if directory.join(".metadata").exists() || directory.join(torch_dist::TRACKER).exists() {
        return true;
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("iter_") && entry.path().join(".metadata").exists()
    })
}

/// The files of ranks in a directory (`tp0-pp0-ep0-etp0.safetensors`), by their place; none if it holds something else.
///
/// # Errors
/// When the directory cannot be read.
pub fn rank_files(directory: &Path) -> Result<BTreeMap<Coordinates, PathBuf>, CheckpointError> {
    let mut ranks = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let entry = entry.map_err(failed("read", directory))?;
        let name = entry.file_name();
        if let Some(at) = name.to_str().and_then(coordinates) {
            ranks.insert(at, entry.path());
        }
    }
    Ok(ranks)
}

/// The place that a file name tells.
fn coordinates(name: &str) -> Option<Coordinates> {
    let mut parts = name.strip_suffix(".safetensors")?.split('-');
    let mut next = |axis: &str| -> Option<usize> {
        let digits = parts.next()?.strip_prefix(axis)?;
        let is_number = digits.bytes().all(|b| b.is_ascii_digit()) && digits.len() <= 6;
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let at = Coordinates {
        tp: next("tp")?,
        pp: next("pp")?,
        ep: next("ep")?,
        etp: next("etp")?,
    };
    parts.next().is_none().then_some(at)
}

/// Reads a `config.json`; none if there is no such file.
fn read_config(path: &Path) -> Result<Option<ModelConfig>, CheckpointError> {
    if !path.exists() {
        return Ok(None);
    }
    let json: Value = read_json(path)?;
    let config = ModelConfig::from_json(&json).map_err(|source| CheckpointError::Config {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    Ok(Some(config))
}

/// The `config.json` of a Megatron checkpoint: beside it, in its `hf` folder, or above its `iter_` folder.
fn config_near(directory: &Path) -> Result<Option<ModelConfig>, CheckpointError> {
    let mut places = vec![directory.join(CONFIG), directory.join("hf").join(CONFIG)];
    let is_iteration = directory
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("iter_"));
    if is_iteration && let Some(above) = directory.parent() {
        places.push(above.join(CONFIG));
    }
    for place in places {
        if let Some(config) = read_config(&place)? {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_has_its_place_in_its_name() {
        let at = Coordinates {
            tp: 1,
            pp: 0,
            ep: 3,
            etp: 0,
        };
        assert_eq!(coordinates("tp1-pp0-ep3-etp0.safetensors"), Some(at));
        for name in [
            "tp1-pp0-ep3.safetensors",
            "tp-pp0-ep3-etp0.safetensors",
            "model.safetensors",
            "tp1-pp0-ep3-etp0-x.safetensors",
        ] {
            assert_eq!(coordinates(name), None, "{name}");
        }
    }
}
