//! Arguments of `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::SetOptions;

/// Measure kernels or a training step
///
/// Runs every kernel family forward and backward at the sizes of a model and says time, spread, bytes or operations, and the share of
/// what the device can do, which is measured first by a copy and a matrix product. With `--step` a recipe's whole step on random
/// tokens: tokens a second, time by phase and by kernel, memory beside its plan. With `--trainer` too, the recipe's own trainer does
/// the steps, text, events and all.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle bench                          every kernel, on the GPU if there is one
  trestle bench --op attention --sequence 32768 --micro-batch 1
  trestle bench --step recipes/qwen3_5-0_8b.toml --set train.micro_batch_size=8
  trestle bench --step recipes/demo.toml --trainer --repeat 30 --json")]
pub(in crate::cli) struct BenchArguments {
    /// Only families with this in their name, such as `norm` or `gated_delta`
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) op: Option<String>,
    /// A whole step of this recipe instead
    #[arg(long, value_name = "RECIPE", conflicts_with = "op")]
    pub(in crate::cli) step: Option<PathBuf>,
    /// Let the recipe's trainer do the steps
    #[arg(long, requires = "step")]
    pub(in crate::cli) trainer: bool,
    #[command(flatten)]
    pub(in crate::cli) sets: SetOptions,
    /// Where to compute [default: the recipe's device; a GPU if build and machine have one]
    #[arg(long, value_enum, value_name = "DEVICE")]
    pub(in crate::cli) device: Option<BenchDevice>,
    /// Published size whose kernels are measured [default: 0.8b on a GPU, toy on the CPU]
    #[arg(long, value_name = "SIZE", conflicts_with = "step")]
    pub(in crate::cli) size: Option<String>,
    /// Rows of the micro-batch [default: 2]
    #[arg(long, value_name = "N", conflicts_with = "step")]
    pub(in crate::cli) micro_batch: Option<usize>,
    /// Tokens of a row [default: 4096 on a GPU, 256 on the CPU]
    #[arg(long, value_name = "N", conflicts_with = "step")]
    pub(in crate::cli) sequence: Option<usize>,
    /// Tokens of a cross-entropy chunk [default: what suits the device]
    #[arg(long, value_name = "N", conflicts_with = "step")]
    pub(in crate::cli) loss_chunk: Option<usize>,
    /// Timed runs of a kernel, or timed steps
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(in crate::cli) repeat: usize,
    /// Steps before the first timed one
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(in crate::cli) warm_up: usize,
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Where a bench computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum BenchDevice {
    /// A GPU if build and machine have one, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// The first GPU
    Cuda,
}
