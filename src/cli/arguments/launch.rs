//! Arguments of `launch` and `job`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::SetOptions;

/// Where a recipe runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Place {
    /// On this machine, by our own trainer
    Local,
    /// On this machine, by Megatron-Bridge: a process a GPU
    Torchrun,
    /// In a Slurm cluster, by Megatron-Bridge
    Slurm,
}

/// Run a recipe here, with torchrun, or in a Slurm cluster
///
/// Beyond our own trainer the recipe is handed to Megatron-Bridge. What would keep it from starting is said first, then a script is
/// written into a new run directory and started or submitted. It goes on without this program; `trestle job RUN` says how it fares.
/// Profiles of clusters are tables of `~/.config/trestle/profiles.toml`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle launch recipes/demo.toml --on local
  trestle launch recipes/megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml --on torchrun --pretrained megatron/9b
  trestle launch recipes/megatron/qwen35_vl_27b_sft_16gpu_h100_bf16.toml --on slurm --profile h100 --dry-run
  trestle launch recipes/qwen3_5-9b.toml --on slurm --set parallel.tp=4 --upstream qwen35_vl_9b_sft_4gpu_h100_bf16_config")]
pub(in crate::cli) struct LaunchArguments {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    pub(in crate::cli) recipe: PathBuf,
    /// Where it runs
    #[arg(long, value_enum, default_value = "local", value_name = "PLACE")]
    pub(in crate::cli) on: Place,
    /// The cluster's profile [default: the only one of the file]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) profile: Option<String>,
    /// Print what was found and the script; start nothing, write nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) sets: SetOptions,
    /// Name of the run [default: the recipe's name and a number]
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,
    /// Upstream's name of the recipe [default: the recipe's megatron.recipe]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) upstream: Option<String>,
    /// Weights to start from: a Megatron checkpoint or a Hugging Face folder [default: the recipe's]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) pretrained: Option<PathBuf>,
    /// An option of Bridge's configuration beside those that the recipe sets
    #[arg(long = "option", value_name = "KEY=VALUE")]
    pub(in crate::cli) options: Vec<String>,
    /// Launch in spite of the problem with this code
    #[arg(long, value_name = "CODE")]
    pub(in crate::cli) accept: Vec<String>,
    /// Stay and say how it fares until it ends
    #[arg(long)]
    pub(in crate::cli) follow: bool,
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Say how a launched run fares, stop it, cancel it, or submit it again
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle job last --follow
  trestle job qwen3_5-9b-3 --stop        a last checkpoint, then the end
  trestle job qwen3_5-9b-3 --resubmit    go on from the last checkpoint")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(in crate::cli) struct JobArguments {
    /// The run: its id, an unambiguous beginning of it, or its folder
    #[arg(value_name = "RUN")]
    pub(in crate::cli) run: String,
    /// Stay until it ends
    #[arg(long)]
    pub(in crate::cli) follow: bool,
    /// Ask for a last checkpoint and the end
    #[arg(long, conflicts_with_all = ["cancel", "resubmit"])]
    pub(in crate::cli) stop: bool,
    /// End it now; what it did since its last checkpoint is lost
    #[arg(long, conflicts_with = "resubmit")]
    pub(in crate::cli) cancel: bool,
    /// Start a job that ended again, from its last checkpoint
    #[arg(long)]
    pub(in crate::cli) resubmit: bool,
    /// Print JSON, an object a line with `--follow`
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
