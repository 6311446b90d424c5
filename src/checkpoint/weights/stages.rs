//! Which stage of a pipeline holds what, as a directory of rank files tells.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Weights;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::huggingface::read_json;
use crate::mapping::Table;
use crate::plan::Stage;

/// The file in which we say what file names and contents do not: which layers an interleaved stage holds.
pub(in crate::checkpoint) const LAYOUT: &str = "layout.json";

/// A stage in [`LAYOUT`].
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    /// First layer and the one after the last, for each chunk.
    chunks: Vec<(usize, usize)>,
    mtp: usize,
    head: bool,
}

/// The text of [`LAYOUT`].
pub(in crate::checkpoint) fn describe(stages: &[Stage]) -> String {
    let stages: Vec<Held> = stages
        .iter()
        .map(|stage| Held {
            chunks: stage.chunks.iter().map(|c| (c.start, c.end)).collect(),
            mtp: stage.mtp,
            head: stage.head,
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&json!({ "stages": stages })).unwrap_or_default();
    text.push('\n');
    text
}

/// The stages: as [`LAYOUT`] says, else one after another as many layers as each stage's files have.
pub(super) fn of(weights: &Weights, table: &Table) -> Result<Vec<Stage>, CheckpointError> {
    let file = weights.path.join(LAYOUT);
    let held = if file.exists() {
        read(&file)?
    } else {
        counted(weights, table)
    };
    let text = &table.config().text;
    let last = text.num_hidden_layers.saturating_sub(1);
    Ok(held
        .into_iter()
        .enumerate()
        .map(|(pp, held)| Stage {
            pp,
            embedding: pp == 0 || held.mtp > 0,
            final_norm: held.chunks.iter().any(|&(a, b)| (a..b).contains(&last)),
            chunks: held.chunks.iter().map(|&(a, b)| a..b).collect(),
            head: held.head,
            tied_head: held.head && pp > 0 && text.tie_word_embeddings,
            mtp: held.mtp,
        })
        .collect())
}

fn read(file: &Path) -> Result<Vec<Held>, CheckpointError> {
    #[derive(Deserialize)]
    struct File {
        stages: Vec<Held>,
    }
    let wrong = |problem: String| CheckpointError::Json {
        path: file.to_owned(),
        line: 1,
        column: 1,
        problem,
    };
    let content: File =
        serde_json::from_value(read_json(file)?).map_err(|error| wrong(error.to_string()))?;
    let sane = |&(start, end): &(usize, usize)| start <= end && end <= 1 << 16;
    if !content.stages.iter().all(|s| s.chunks.iter().all(sane)) {
        return Err(wrong("a stage's layers run backwards or too far".into()));
    }
    Ok(content.stages)
}

/// The stages by what the files of each have.
fn counted(weights: &Weights, table: &Table) -> Vec<Held> {
    let decoder = format!("{}decoder.layers.", table.megatron_prefix());
    let mtp = format!("{}mtp.layers.", table.megatron_prefix());
    let stages = weights.ranks.iter().map(|at| at.pp).max().unwrap_or(0) + 1;
    let mut layers: Vec<HashSet<&str>> = vec![HashSet::new(); stages];
    let mut depths: Vec<HashSet<&str>> = vec![HashSet::new(); stages];
    for tensor in &weights.tensors {
        let Some(file) = tensor.extents.first().map(|extent| extent.file) else {
            continue;
        };
        let stage = weights.ranks[file].pp;
        let number = |start: &str| {
            let rest = tensor.name.strip_prefix(start)?;
            rest.split_once('.').map(|(number, _)| number)
        };
        if let Some(layer) = number(&decoder) {
            layers[stage].insert(layer);
        }
        if let Some(depth) = number(&mtp) {
            depths[stage].insert(depth);
        }
    }
    let mut start = 0;
    layers
        .iter()
        .zip(&depths)
        .enumerate()
        .map(|(stage, (layers, depths))| {
            let chunk = (start, start + layers.len());
            start = chunk.1;
            Held {
                chunks: vec![chunk],
                mtp: depths.len(),
                head: stage + 1 == stages,
            }
        })
        .collect()
}
