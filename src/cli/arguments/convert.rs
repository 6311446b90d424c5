//! Arguments of the commands that convert checkpoints and compare them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::LayoutArguments;
use crate::base::DType;
use crate::checkpoint::Format;
use crate::spec::ExpertStyle;

/// Convert weights between Hugging Face and Megatron
///
/// Weights are streamed: memory stays at some tens of MiB whatever the size of the model. The output grows beside its place, under the name
/// OUT.partial, and takes the name OUT when it is complete. A conversion that was interrupted is gone on with by the same command.
#[derive(Debug, Args)]
pub(in crate::cli) struct ConvertArguments {
    #[command(subcommand)]
    pub(in crate::cli) direction: Direction,
}

/// From where to where.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Direction {
    Import(ImportArguments),
    Export(ExportArguments),
    Reshard(ReshardArguments),
}

/// Hugging Face to Megatron
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle convert import Qwen/Qwen3.5-0.8B megatron/
  trestle convert import model/ ranks/ --format shards --tp 2 --pp 2
  trestle convert import runs/demo-1/checkpoints/step-200 megatron/ --dtype bfloat16")]
pub(in crate::cli) struct ImportArguments {
    /// A directory with config.json and safetensors, a run's checkpoint, or a Hub id
    #[arg(value_name = "HF_DIR")]
    pub(in crate::cli) input: String,
    /// The directory to write
    #[arg(value_name = "OUT")]
    pub(in crate::cli) output: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) megatron: MegatronArguments,
    #[command(flatten)]
    pub(in crate::cli) writing: WritingArguments,
    #[command(flatten)]
    pub(in crate::cli) layout: LayoutArguments,
}

/// Megatron to Hugging Face
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle convert export megatron/ model/ --hf Qwen/Qwen3.5-0.8B
  trestle convert export ranks/ model/ --hf config.json --max-shard-size 2GB")]
pub(in crate::cli) struct ExportArguments {
    /// A `torch_dist` checkpoint (the folder of a step, or the one above with its tracker), or a directory of rank files
    #[arg(value_name = "MEGATRON_DIR")]
    pub(in crate::cli) input: PathBuf,
    /// The directory to write
    #[arg(value_name = "OUT")]
    pub(in crate::cli) output: PathBuf,
    /// The model: a directory whose config.json, types, expert style, tokenizer and other files are taken, or a config.json, or a size
    #[arg(long, value_name = "HF")]
    pub(in crate::cli) hf: String,
    /// How experts are stored [default: as in HF, else as Qwen3.5 is published]
    #[arg(long, value_enum, value_name = "STYLE")]
    pub(in crate::cli) experts: Option<Experts>,
    /// Most bytes of a file; one tensor alone may be larger
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    pub(in crate::cli) max_shard_size: u64,
    #[command(flatten)]
    pub(in crate::cli) writing: WritingArguments,
}

/// Megatron to Megatron: another layout or format
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle convert reshard ranks/ again/ --format shards --tp 4
  trestle convert reshard megatron/ ranks/ --format shards --tp 2 --ep 4")]
pub(in crate::cli) struct ReshardArguments {
    /// A `torch_dist` checkpoint, or a directory of rank files
    #[arg(value_name = "MEGATRON_DIR")]
    pub(in crate::cli) input: PathBuf,
    /// The directory to write
    #[arg(value_name = "OUT")]
    pub(in crate::cli) output: PathBuf,
    /// The model, where the checkpoint has no config.json: a directory, a config.json, or a size
    #[arg(long, value_name = "HF")]
    pub(in crate::cli) hf: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) megatron: MegatronArguments,
    #[command(flatten)]
    pub(in crate::cli) writing: WritingArguments,
    #[command(flatten)]
    pub(in crate::cli) layout: LayoutArguments,
}

/// What Megatron's side is to be.
#[derive(Debug, Args)]
pub(in crate::cli) struct MegatronArguments {
    /// One checkpoint for any layout, or a file for each rank
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(in crate::cli) format: MegatronFormat,
    /// Step that a `torch_dist` checkpoint is of
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) iteration: u64,
}

/// How the output is written.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
pub(in crate::cli) struct WritingArguments {
    /// Type of all tensors: bfloat16, float16, float32 [default: the source's, tensor by tensor]
    #[arg(long, value_name = "D", value_parser = dtype)]
    pub(in crate::cli) dtype: Option<DType>,
    /// Only say what would be written
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Replace OUT, once the new one is complete
    #[arg(long)]
    pub(in crate::cli) overwrite: bool,
    /// Throw away what an interrupted conversion left
    #[arg(long)]
    pub(in crate::cli) restart: bool,
    /// Print JSON: what was written
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Megatron's formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum MegatronFormat {
    /// Megatron Core's distributed checkpoint, which any layout loads
    #[default]
    TorchDist,
    /// A safetensors file for each rank, with the names of its own module
    Shards,
}

impl From<MegatronFormat> for Format {
    fn from(format: MegatronFormat) -> Self {
        match format {
            MegatronFormat::TorchDist => Self::TorchDist,
            MegatronFormat::Shards => Self::Shards,
        }
    }
}

/// How Hugging Face files store experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Experts {
    /// Decoder fused, MTP one by one
    #[value(name = "qwen3.5")]
    Qwen35,
    /// All fused
    #[value(name = "fused", alias = "qwen3.6")]
    Fused,
    /// All one by one
    #[value(name = "per-expert")]
    PerExpert,
}

impl From<Experts> for ExpertStyle {
    fn from(experts: Experts) -> Self {
        match experts {
            Experts::Qwen35 => Self::QWEN3_5,
            Experts::Fused => Self::QWEN3_6,
            Experts::PerExpert => Self::PER_EXPERT,
        }
    }
}

/// Compare two checkpoints of any formats, tensor by tensor
///
/// Both hold the same model if every tensor has the same bits; where the gated delta net's norm was shifted by 1 and back in 16 bits, within the
/// rounding of that. Exit code 1 if they differ.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle verify model/ megatron/
  trestle verify ranks/ model/ --json
  trestle verify --round-trip model/ --tp 2 --dtype bfloat16")]
pub(in crate::cli) struct VerifyArguments {
    /// The first checkpoint, or the one to take round
    #[arg(value_name = "A")]
    pub(in crate::cli) first: String,
    /// The second checkpoint
    #[arg(
        value_name = "B",
        required_unless_present = "round_trip",
        conflicts_with = "round_trip"
    )]
    pub(in crate::cli) second: Option<String>,
    /// Take a Hugging Face directory to Megatron and back, in memory, and compare with itself
    #[arg(long)]
    pub(in crate::cli) round_trip: bool,
    /// The model, where neither has a config.json: a directory, a config.json, or a size
    #[arg(long, value_name = "HF")]
    pub(in crate::cli) hf: Option<String>,
    /// Type on Megatron's side of a round trip [default: the source's]
    #[arg(long, value_name = "D", value_parser = dtype, requires = "round_trip")]
    pub(in crate::cli) dtype: Option<DType>,
    /// List every tensor, not only those that differ
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// Print JSON: an object for each tensor, with the hash of both sides
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) layout: LayoutArguments,
}

/// A type of weights by its name.
fn dtype(text: &str) -> Result<DType, String> {
    let name = match text {
        "bf16" => "bfloat16",
        "fp16" | "f16" => "float16",
        "fp32" | "f32" => "float32",
        name => name,
    };
    DType::from_name(name)
        .filter(|dtype| dtype.is_weight())
        .ok_or_else(|| "expected bfloat16, float16 or float32".to_owned())
}

/// A size in bytes: `5GB`, `500MB`, `2GiB`, `1048576`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KIB" => 1 << 10,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        "TIB" => 1 << 40,
        _ => return Err("expected a size such as 5GB, 500MB or 2GiB".to_owned()),
    };
    let Ok(count) = digits.parse::<f64>() else {
        return Err("expected a size such as 5GB, 500MB or 2GiB".to_owned());
    };
    let bytes = count * unit as f64;
    if (1.0..2e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err("a size is at least one byte".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("5GB"), Ok(5_000_000_000));
        assert_eq!(size("1.5MiB"), Ok(3 << 19));
        assert_eq!(size("64"), Ok(64));
        for wrong in ["", "GB", "5 parsecs", "0", "nanMB", "1e300TB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
