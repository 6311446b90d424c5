//! What can be wrong with weights on disk.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::safetensors::SafetensorsError;
use super::torch_dist::TorchDistError;
use crate::base::{Bytes, Shape};
use crate::mapping::{Difference, MappingError, Problem, ProblemKind};
use crate::nn::NnError;
use crate::spec::SpecError;

/// Why weights could not be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file or folder that could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A JSON file that is none, or says something else than expected.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// A config that is not one of ours.
    #[error("{}: {source}", path.display())]
    Config {
        /// `config.json`.
        path: PathBuf,
        /// What is wrong.
        source: Box<SpecError>,
    },
    /// A safetensors file or an index that is refused.
    #[error("{}: {source}", path.display())]
    Safetensors {
        /// The file, or the directory.
        path: PathBuf,
        /// What is wrong.
        source: Box<SafetensorsError>,
    },
    /// A directory without weights.
    #[error("{} has neither model.safetensors nor model.safetensors.index.json", path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
    },
    /// Tensors that the model has and the files do not.
    #[error("{} lacks {} of the model: {}", path.display(), count(names.len()), list(names))]
    Missing {
        /// The directory.
        path: PathBuf,
        /// The model's names.
        names: Vec<String>,
    },
    /// Tensors that the files have and the model does not.
    #[error("{} has {} that the model has no place for: {}", path.display(), count(names.len()), list(names))]
    Unexpected {
        /// The directory.
        path: PathBuf,
        /// The files' names.
        names: Vec<String>,
    },
    /// A tensor of another shape.
    #[error("{}: {name} is {found}, but the config makes it {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// In the file.
        found: Shape,
        /// By the config.
        expected: Shape,
    },
    /// A tensor of a type that is no weight's.
    #[error("{}: {name} has the type {dtype}; weights are F32, BF16 or F16", path.display())]
    DType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// In the file.
        dtype: String,
    },
    /// A tied model whose head differs from its embedding.
    #[error("{}: tie_word_embeddings is true, but lm_head.weight differs from the embedding", path.display())]
    UntiedHead {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint whose content is not what was written.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// Tensors that are missing, left over or wrong.
    #[error("{}: {}", path.display(), problem_list(differences, problems))]
    Audit {
        /// The directory.
        path: PathBuf,
        /// In what the model is another one; empty where single tensors are wrong.
        differences: Vec<Difference>,
        /// Whether it is not known, but guessed, which layers each pipeline stage holds.
        is_guessed: bool,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// Weights without `config.json`, where names and shapes do not tell the model.
    #[error("{} has no config.json, so its model is not known", path.display())]
    NoConfig {
        /// The directory.
        path: PathBuf,
    },
    /// A checkpoint that is not of the family.
    #[error("{} is no checkpoint of a Qwen3.5 model: it lacks {what}", path.display())]
    Unrecognised {
        /// The directory.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A directory with checkpoints of several iterations, of which none can be chosen.
    #[error("{} {}; it has {}", path.display(), match named { Some(name) => format!("lacks {name}, which {} names", super::torch_dist::TRACKER), None => format!("has no {}", super::torch_dist::TRACKER) }, if there.is_empty() { "no checkpoint".to_owned() } else { list(there) })]
    NoIteration {
        /// The directory.
        path: PathBuf,
        /// The folder that the tracker names.
        named: Option<String>,
        /// The folders that are checkpoints.
        there: Vec<String>,
    },
    /// A directory in which there is nothing of any format.
    #[error("{} holds no checkpoint: no safetensors of Hugging Face, no torch_dist, no files of ranks", path.display())]
    NoCheckpoint {
        /// The directory.
        path: PathBuf,
    },
    /// Files of ranks that do not make up a layout of the model.
    #[error("{}: the names of its files make up no layout of the model: {source}", path.display())]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What does not fit.
        source: MappingError,
    },
    /// A rank without its file.
    #[error("{} lacks {name}{}", path.display(), and_more(*more))]
    MissingRank {
        /// The directory.
        path: PathBuf,
        /// The file.
        name: String,
        /// How many others are missing.
        more: usize,
    },
    /// A file of a rank that the layout does not have.
    #[error("{} is of no rank: the other files make up {ranks}", path.display())]
    ExtraRank {
        /// The file.
        path: PathBuf,
        /// Ranks with different weights.
        ranks: usize,
    },
    /// Two views of a model that do not fit.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// An output that is there already.
    #[error("{} exists", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// An output that would take its own input away.
    #[error("{} lies in {}, which is {}", input.display(), folder.display(), if folder.file_name() == output.file_name() { "replaced at the end" } else { "written anew" })]
    Overlap {
        /// The output.
        output: PathBuf,
        /// It, or the folder in which it grows.
        folder: PathBuf,
        /// A file of the input in it.
        input: PathBuf,
    },
    /// Something of somebody else's where the output is to grow.
    #[error("{} is in the way: it is not of an interrupted conversion", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A disk that cannot hold the output.
    #[error("{} needs {}, but {} are free", path.display(), Bytes(*need), Bytes(*free))]
    Space {
        /// Where the output grows.
        path: PathBuf,
        /// Bytes still to be written.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// An interrupted conversion of another kind.
    #[error("{} holds an interrupted conversion (`{was}`), which `{now}` cannot go on with", path.display())]
    OtherConversion {
        /// The folder.
        path: PathBuf,
        /// The command that began it.
        was: String,
        /// The present command.
        now: String,
    },
    /// Another process converts to the same place.
    #[error("{} is being written by another process", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The user ended it.
    #[error("stopped; what is done is kept, and the same command goes on from there")]
    Cancelled,
    /// The model's side failed.
    #[error(transparent)]
    Model(#[from] NnError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A `torch_dist` checkpoint.
    #[error(transparent)]
    TorchDist(Box<TorchDistError>),
}

impl From<TorchDistError> for CheckpointError {
    fn from(error: TorchDistError) -> Self {
        Self::TorchDist(Box::new(error))
    }
}

impl CheckpointError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "change its permissions, or choose another place"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space; earlier checkpoints are intact"
                }
                _ if source.raw_os_error() == Some(libc::ELOOP) => {
                    "a symbolic link leads back to itself; remove it or let it name the file"
                }
                io::ErrorKind::NotFound => {
                    "check the path; a sharded model needs every file that its index names"
                }
                _ => return None,
            },
            Self::Safetensors { source, .. } => source.hint()?,
            Self::NoWeights { .. } => {
                "point at a directory that transformers' save_pretrained or trestle wrote"
            }
            Self::Missing { names, .. } if names.iter().all(|n| n.starts_with("mtp.")) => {
                "the config promises MTP; set mtp_num_hidden_layers = 0 to use the weights without it. transformers drops mtp.* when it saves"
            }
            Self::Missing { .. } | Self::Unexpected { .. } | Self::Shape { .. } => {
                "config.json and the weights belong to different models"
            }
            Self::TorchDist(error) => error.hint()?,
            Self::Audit {
                is_guessed: true, ..
            } => {
                "without layout.json each stage is taken to hold a run of layers; an interleaved pipeline needs that file"
            }
            Self::Audit {
                differences,
                problems,
                ..
            } => return audit_hint(differences, problems).map(str::to_owned),
            Self::NoConfig { .. } => {
                "name the model's config.json, or a directory that has one, with --hf"
            }
            Self::NoIteration { .. } => "point at the folder of one iteration",
            Self::NoCheckpoint { .. } => {
                "Hugging Face: config.json and model.safetensors; torch_dist: .metadata, or iter_ folders; ranks: tp0-pp0-ep0-etp0.safetensors"
            }
            Self::Layout { .. } => "a file of a rank is missing, or of another checkpoint",
            Self::ExtraRank { .. } => "it belongs to another layout, or layout.json does",
            Self::Mapping(source) => return source.hint(),
            Self::MissingRank { .. } => "every rank with weights of its own needs its file",
            Self::Exists { .. } => "choose another name, or replace it with --overwrite",
            Self::Space { .. } => "free some space, or write to another disk",
            Self::OtherConversion { .. } => {
                "repeat the first command to go on with it, or throw it away with --restart"
            }
            Self::Overlap { .. } => "write to a directory of its own",
            Self::Foreign { .. } => "move it away, or choose another name",
            Self::Busy { .. } => "wait for it, or write elsewhere",
            Self::UntiedHead { .. } => "set tie_word_embeddings to false in config.json",
            Self::Damaged { .. } => "an earlier checkpoint of the run can be used",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn count(n: usize) -> String {
    if n == 1 {
        "a tensor".to_owned()
    } else {
        format!("{n} tensors")
    }
}

/// The first names, and how many more.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The differences as a whole, else the first problems, a line each, and how many more.
fn problem_list(differences: &[Difference], problems: &[Problem]) -> String {
    if let Some(class) = differences.iter().find(|d| d.is_of_class()) {
        return class.to_string();
    }
    let (mut text, shown) = match (differences, problems) {
        ([], [problem]) => return problem.to_string(),
        ([], _) => {
            let count = problems.len();
            (format!("{count} tensors are not what the model needs"), 8)
        }
        _ => {
            let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
            (all.join("; "), 2)
        }
    };
    for problem in problems.iter().take(shown) {
        let _ = write!(text, "\n  {problem}");
    }
    if problems.len() > shown {
        let _ = write!(text, "\n  and {} more", problems.len() - shown);
    }
    text
}

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

/// What most likely happened.
fn audit_hint(differences: &[Difference], problems: &[Problem]) -> Option<&'static str> {
    let is_mtp = |difference: &Difference| {
        matches!(
            difference,
            Difference::Size {
                what: "mtp_num_hidden_layers",
                ..
            }
        )
    };
    if !differences.iter().all(is_mtp) {
        return Some("config.json and the weights belong to different models");
    }
    let missing = |problem: &&Problem| {
        matches!(
            problem.kind,
            ProblemKind::Missing | ProblemKind::MissingLayer { .. }
        )
    };
    let mut gone = problems.iter().filter(missing).peekable();
    let has_some = |d: &Difference| matches!(d, Difference::Size { found: 1.., .. });
    if gone.peek().is_some() && differences.iter().any(has_some) {
        return Some("set mtp_num_hidden_layers to the depth that the weights have");
    }
    if gone.peek().is_some() && gone.all(|problem| problem.tensor.contains("mtp.")) {
        return Some(
            "config.json promises MTP; with mtp_num_hidden_layers = 0 the weights are taken without it. transformers drops mtp.* when it saves",
        );
    }
    let is_quantised = |problem: &Problem| match problem.kind {
        ProblemKind::DType(dtype) => dtype.size() == 1,
        _ => problem.tensor.ends_with("_scale_inv"),
    };
    if problems.iter().any(is_quantised) {
        return Some("quantised weights are not converted; take the bf16 checkpoint of the model");
    }
    let is_extra = |problem: &Problem| problem.kind == ProblemKind::Extra;
    if problems
        .iter()
        .all(|problem| is_extra(problem) && problem.tensor.contains("mtp."))
    {
        return Some("config.json says nothing of MTP; set mtp_num_hidden_layers to its depth");
    }
    if problems.iter().all(is_extra) {
        return Some("the weights hold more than config.json describes");
    }
    None
}
