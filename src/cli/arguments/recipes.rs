//! Arguments of `recipes`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SetOptions;

/// Bring recipes for Megatron-Bridge in and out
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle recipes import ConfigContainer.yaml -o mine.toml
  trestle recipes export recipes/megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml --yaml
  trestle recipes export mine.toml --base recipes/megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml")]
pub(in crate::cli) struct RecipesArguments {
    #[command(subcommand)]
    pub(in crate::cli) action: RecipesAction,
}

/// Which way.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RecipesAction {
    Import(ImportRecipe),
    Export(ExportRecipe),
}

/// Read the YAML that Megatron-Bridge's --dry-run prints, as a recipe
///
/// The recipe extends the published one that it is a change of, and says only what differs; options without a key here stand in
/// megatron.overrides. What could not be taken is said on standard error, with its line and column.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportRecipe {
    /// The YAML; - reads it from standard input
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Write the recipe here instead of to standard output; a file that is there is left alone
    #[arg(long, short, value_name = "RECIPE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Upstream's name of the recipe, which a dump does not say
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) recipe: Option<String>,
    /// GPUs of the job, which a dump does not say [default: as many as the published recipe has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) gpus: Option<u32>,
    /// Folder of the recipes that it may extend [default: `recipes/megatron`, else the bundled ones]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) published: Option<PathBuf>,
    /// Extend no recipe: say every value
    #[arg(long)]
    pub(in crate::cli) alone: bool,
}

/// Write a recipe as overrides for Megatron-Bridge, or as YAML
///
/// Overrides are words of a command line, one a line, before the shell's own quoting.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportRecipe {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    pub(in crate::cli) recipe: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) sets: SetOptions,
    /// Write overrides in Hydra's grammar (the default)
    #[arg(long)]
    pub(in crate::cli) overrides: bool,
    /// Write YAML, which `import` reads back as the same recipe
    #[arg(long, conflicts_with = "overrides")]
    pub(in crate::cli) yaml: bool,
    /// Only overrides that this recipe does not say, such as the published one that it extends
    #[arg(long, value_name = "RECIPE", conflicts_with = "yaml")]
    pub(in crate::cli) base: Option<PathBuf>,
    /// Only overrides that the published recipe of its name does not say, which is where Megatron-Bridge starts
    #[arg(long, conflicts_with_all = ["yaml", "base"])]
    pub(in crate::cli) changed: bool,
}
