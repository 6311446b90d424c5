//! What a run is: the contents of `run.json`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a run is, written when its directory is made; only its tags change later.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// Name of the run's folder.
    pub id: String,
    /// What its creator called it; several runs may share a name.
    pub name: String,
    /// Milliseconds since the Unix epoch by the creator's clock.
    pub created_ms: i64,
    /// The recipe file it was made from, absolute; relative paths of the recipe start at this file's folder.
    pub source: Option<PathBuf>,
    /// The changes given beside the recipe, as the text after `--set`.
    pub overrides: Vec<String>,
    /// The run that it continues with changes.
    pub parent: Option<Parent>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Program version.
    pub program: String,
    /// Where another program writes what this run says; `None` for a run that trains here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched: Option<Watched>,
}

/// Where another program writes what a run says, and what those files do not say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// The log, the event file, or the folder with either; absolute.
    pub path: PathBuf,
    /// The files that are read; of very many those written to last.
    pub files: Vec<PathBuf>,
    /// Tokens of a sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_length: Option<u64>,
    /// Minutes that the trainer's clock is ahead of UTC.
    pub utc_offset_minutes: i64,
    /// Peak of one GPU in GFLOP/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_gflops: Option<u64>,
}

/// Where a fork comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Id of the parent run.
    pub run: String,
    /// Checkpoint folder to start from, absolute.
    pub checkpoint: PathBuf,
    /// Updates that the checkpoint has behind it.
    pub step: u64,
}
