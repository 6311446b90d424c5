//! Where a conversion's tensors go: files, places, and what else belongs into the output.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;

use super::companions::companions;
use super::{Item, Output};
use crate::base::{DType, Shape};
use crate::checkpoint::weights::stages;
use crate::checkpoint::{CheckpointError, safetensors, torch_dist};
use crate::mapping::{Layout, Spelling, Table, View};

/// What is to be written.
#[derive(Debug)]
pub enum Target {
    /// A Hugging Face directory.
    HuggingFace(HuggingFaceTarget),
    /// Megatron's `torch_dist`, with the trackers that its loader looks for.
    TorchDist {
        /// Rows of embedding and head, padding included.
        vocab_rows: usize,
        /// How the inner layer of MTP is spelled.
        spelling: Spelling,
        /// The step that the checkpoint is of.
        iteration: u64,
        /// `config.json` of the model, kept beside it; none where only shapes tell the model.
        config: Option<Value>,
    },
    /// One file a rank.
    Shards {
        /// The layout.
        layout: Layout,
        /// `config.json` of the model, kept beside it; none where only shapes tell the model.
        config: Option<Value>,
    },
}

/// A Hugging Face directory to be written.
#[derive(Debug)]
pub struct HuggingFaceTarget {
    /// The text of its `config.json`.
    pub config: Vec<u8>,
    /// Types by name, where a directory says them; others follow the input.
    pub dtypes: HashMap<String, DType>,
    /// Whether `A_log` and the gated delta net's norm are f32 whatever the input is, as Qwen3.5 is published and Qwen3.6 is not.
    pub keeps_f32: bool,
    /// Most bytes of a file, unless a tensor alone is larger.
    pub max_shard_bytes: Option<u64>,
    /// A directory whose tokenizer and other files go along.
    pub companions: Option<PathBuf>,
}

/// A file to be filled.
#[derive(Debug)]
pub(super) struct PlannedFile {
    /// Path below the output.
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// Where tensors go.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) files: Vec<PlannedFile>,
    pub(super) items: Vec<Item>,
    /// Bytes that are known beforehand: file, offset, content.
    pub(super) fixed: Vec<(usize, u64, Vec<u8>)>,
    /// Whole small files: path below the output, content.
    pub(super) texts: Vec<(String, Vec<u8>)>,
    /// Files to copy: from, path below the output.
    pub(super) copies: Vec<(PathBuf, String)>,
    /// What is written once the sums of all items are known.
    pub(super) torch_dist: Option<Box<torch_dist::Plan>>,
    /// Folder of the files below the output, with a slash; empty if they lie in it.
    pub(super) folder: String,
}

impl Target {
    /// What the output's tensors hold.
    pub(super) fn view(&self, table: &Table) -> View {
        match self {
            Self::HuggingFace(_) => View::huggingface(table),
            Self::TorchDist {
                vocab_rows,
                spelling,
                ..
            } => View::torch_dist(table, *vocab_rows, *spelling),
            Self::Shards { layout, .. } => View::shards(table, layout),
        }
    }

    /// The type of a tensor whose input has the type `input`.
    pub(super) fn dtype(&self, name: &str, input: DType) -> DType {
        let Self::HuggingFace(target) = self else {
            return input;
        };
        if let Some(dtype) = target.dtypes.get(name) {
            return *dtype;
        }
        let is_f32 =
            name.ends_with(".linear_attn.A_log") || name.ends_with(".linear_attn.norm.weight");
        if is_f32 && target.keeps_f32 {
            DType::F32
        } else {
            input
        }
    }

    /// Files and places.
    pub(super) fn plan(&self, view: &View, outputs: &[Output]) -> Result<Planned, CheckpointError> {
        match self {
            Self::HuggingFace(target) => target.plan(outputs),
            Self::TorchDist {
                iteration, config, ..
            } => plan_torch_dist(outputs, *iteration, config.as_ref()),
            Self::Shards { layout, config } => {
                Ok(plan_shards(view, outputs, layout, config.as_ref()))
            }
        }
    }
}

/// A `config.json` as text.
pub fn config_text(config: &Value) -> Vec<u8> {
    let mut text = serde_json::to_string_pretty(config).unwrap_or_default();
    text.push('\n');
    text.into_bytes()
}

/// `config.json` as a file.
fn config_file(config: &Value) -> (String, Vec<u8>) {
    ("config.json".to_owned(), config_text(config))
}

fn described(outputs: &[Output]) -> Vec<(&str, Shape, DType)> {
    outputs
        .iter()
        .map(|o| (o.name.as_str(), o.shape.clone(), o.dtype))
        .collect()
}

/// Adds a plan's files and the places of the outputs in `members`.
fn add_safetensors(
    planned: &mut Planned,
    plan: safetensors::Plan,
    members: &[usize],
    outputs: &[Output],
) {
    let first = planned.files.len();
    for (place, &tensor) in plan.tensors.iter().zip(members) {
        planned.items.push(Item {
            tensor,
            rows: 0..outputs[tensor].shape.matrix().0,
            file: first + place.file,
            offset: place.offset,
        });
    }
    for file in plan.files {
        let index = planned.files.len();
        planned.files.push(PlannedFile {
            name: file.name,
            bytes: file.bytes,
        });
        planned.fixed.push((index, 0, file.header));
    }
    if let Some(index) = plan.index {
        let name = safetensors::INDEX.to_owned();
        planned.texts.push((name, index.into_bytes()));
    }
}

fn empty() -> Planned {
    Planned {
        files: Vec::new(),
        items: Vec::new(),
        fixed: Vec::new(),
        texts: Vec::new(),
        copies: Vec::new(),
        torch_dist: None,
        folder: String::new(),
    }
}

impl HuggingFaceTarget {
    fn plan(&self, outputs: &[Output]) -> Result<Planned, CheckpointError> {
        let mut planned = empty();
        let plan = safetensors::Plan::new(&described(outputs), self.max_shard_bytes);
        let all: Vec<usize> = (0..outputs.len()).collect();
        add_safetensors(&mut planned, plan, &all, outputs);
        planned
            .texts
            .push(("config.json".to_owned(), self.config.clone()));
        if let Some(directory) = &self.companions {
            planned.copies = companions(directory)?;
        }
        Ok(planned)
    }
}

/// Bytes of a `.distcp` file, about.
const FILE: u64 = 4 << 30;

fn plan_torch_dist(
    outputs: &[Output],
    iteration: u64,
    config: Option<&Value>,
) -> Result<Planned, CheckpointError> {
    let tensors = described(outputs);
    let bytes: u64 = tensors
        .iter()
        .map(|(_, shape, dtype)| shape.elements() * dtype.size())
        .sum();
    let options = torch_dist::Options {
        files: bytes.div_ceil(FILE).max(1) as usize,
        iteration,
        ..torch_dist::Options::default()
    };
    let plan = torch_dist::Plan::new(&tensors, options)?;
    let mut planned = empty();
    planned.folder = format!("{}/", torch_dist::folder_name(iteration));
    planned
        .files
        .extend(plan.files.iter().map(|file| PlannedFile {
            name: file.name.clone(),
            bytes: file.bytes,
        }));
    planned.items.extend(plan.items.iter().map(|item| Item {
        tensor: item.tensor,
        rows: item.rows.clone(),
        file: item.file,
        offset: item.data_offset,
    }));
    planned.fixed.extend(
        plan.items
            .iter()
            .map(|item| (item.file, item.offset, plan.head(item))),
    );
    // Trackers and the model's config lie above the step's folder.
    let tracker = iteration.to_string().into_bytes();
    planned
        .texts
        .push((torch_dist::TRACKER.to_owned(), tracker));
    planned.texts.extend(config.map(config_file));
    planned.torch_dist = Some(Box::new(plan));
    Ok(planned)
}

fn plan_shards(
    view: &View,
    outputs: &[Output],
    layout: &Layout,
    config: Option<&Value>,
) -> Planned {
    let mut planned = empty();
    for (at, members) in view.ranks.iter().zip(view.by_rank()) {
        let tensors: Vec<(&str, Shape, DType)> = members
            .iter()
            .map(|&tensor| &outputs[tensor])
            .map(|o| (o.name.as_str(), o.shape.clone(), o.dtype))
            .collect();
        let plan = safetensors::Plan::file(&format!("{at}.safetensors"), &tensors);
        add_safetensors(&mut planned, plan, &members, outputs);
    }
    let stages = stages::describe(&layout.stages).into_bytes();
    planned.texts.push((stages::LAYOUT.to_owned(), stages));
    planned.texts.extend(config.map(config_file));
    planned
}
