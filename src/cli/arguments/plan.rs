//! Arguments of `plan`.

use std::path::PathBuf;

use clap::Args;

use super::SetOptions;

/// Say what a layout costs before a GPU is asked for
///
/// Takes a recipe, or a model with degrees. Says why the job cannot start and what mends it, what every stage holds term by term, what moves
/// over which link, how long a step takes at a guess. With `--fit` it tries every layout on so many GPUs and lists those that no other beats in
/// both memory and time, with the reasons why the others fall.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle plan 35b-a3b --gpus 16 --pp 2 --ep 8
  trestle plan recipes/qwen3_5-27b.toml --rank 3
  trestle plan 397b-a17b --gpus 512 --fit --global-batch 1024
  trestle plan 9b --gpus 4 --tp 4 --machine h200 --json")]
pub(in crate::cli) struct PlanArguments {
    /// Recipe, size, Hub id or folder of a model
    #[arg(value_name = "RECIPE|MODEL")]
    pub(in crate::cli) subject: String,
    #[command(flatten)]
    pub(in crate::cli) sets: SetOptions,
    /// GPUs in all [default: as many as the degrees take]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) gpus: Option<usize>,
    /// Kind of GPU: h100, h200, gb200, or one of `--hardware` [default: the recipe's, or h100]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) machine: Option<String>,
    /// Hardware file with machines of your own
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) hardware: Option<PathBuf>,
    /// Tensor parallel; the sequence is cut with it
    #[arg(long, value_name = "N")]
    pub(in crate::cli) tp: Option<usize>,
    /// Pipeline parallel
    #[arg(long, value_name = "N")]
    pub(in crate::cli) pp: Option<usize>,
    /// Virtual stages of a pipeline stage
    #[arg(long, value_name = "N")]
    pub(in crate::cli) vpp: Option<usize>,
    /// Context parallel
    #[arg(long, value_name = "N")]
    pub(in crate::cli) cp: Option<usize>,
    /// Expert parallel
    #[arg(long, value_name = "N")]
    pub(in crate::cli) ep: Option<usize>,
    /// Tensor parallel of experts
    #[arg(long, value_name = "N")]
    pub(in crate::cli) etp: Option<usize>,
    /// Tokens of a sequence [default: the recipe's, or 4096]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) sequence: Option<usize>,
    /// Sequences of a micro-batch [default: the recipe's, or 1]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) micro_batch: Option<usize>,
    /// Sequences of a step [default: the recipe's, or 8 micro-batches a data-parallel rank]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) global_batch: Option<usize>,
    /// Compute whole layers again in the backward
    #[arg(long)]
    pub(in crate::cli) full_recompute: bool,
    /// Search for the best layouts instead
    #[arg(long, requires = "gpus")]
    pub(in crate::cli) fit: bool,
    /// Show this rank's place, groups and memory
    #[arg(long, value_name = "RANK", conflicts_with = "fit")]
    pub(in crate::cli) rank: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
