//! Arguments of `watch`.

use std::path::PathBuf;

use clap::Args;

/// Watch a run that another program trains
///
/// Reads what a job of Megatron-Bridge or Megatron-LM printed, or `TensorBoard` event files, and shows it as one of our own runs: a log, a folder of
/// Slurm outputs, torchrun's log folder, or the folder of an experiment. Output of several tasks and of restarts is joined into one run. Opens
/// the workbench, or prints where standard output is not a terminal; follows until the run ends.
///
/// A run directory with the run's events is made in the user's cache; deleting it loses nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle watch qwen35-sft_4711.out
  trestle watch logs/ --seq-length 4096 --peak-tflops 989
  trestle watch logs/ --json | jq .loss.main
  trestle watch runs/a/tensorboard --once")]
pub(in crate::cli) struct WatchArguments {
    /// A log, an event file, or a folder with either
    #[arg(value_name = "PATH")]
    pub(in crate::cli) path: PathBuf,
    /// Print what the run says instead of opening the workbench
    #[arg(long)]
    pub(in crate::cli) print: bool,
    /// Print JSON: an event a line
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Print what is there and do not wait for more
    #[arg(long)]
    pub(in crate::cli) once: bool,
    /// Tokens of a sample, where the log does not say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) seq_length: Option<u64>,
    /// How far the trainer's clock is ahead of UTC; a log does not say
    #[arg(long, value_name = "+HH:MM", allow_hyphen_values = true, value_parser = utc_offset, default_value = "+00:00")]
    pub(in crate::cli) utc_offset: i64,
    /// Dense peak of one GPU in TFLOP/s, for MFU where the log has the throughput
    #[arg(long, value_name = "X", value_parser = peak)]
    pub(in crate::cli) peak_tflops: Option<f64>,
}

/// Minutes of `+HH:MM` or `-HH:MM`.
fn utc_offset(text: &str) -> Result<i64, String> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.trim_start_matches(['+', '-']);
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    match (hours.parse::<i64>(), minutes.parse::<i64>()) {
        (Ok(h), Ok(m)) if (0..=14).contains(&h) && (0..60).contains(&m) => Ok(sign * (h * 60 + m)),
        _ => Err("an offset looks like +08:00 or -05:30".to_owned()),
    }
}

fn peak(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("a peak is a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn offsets_have_hours_and_minutes() {
        assert_eq!(super::utc_offset("+08:00"), Ok(480));
        assert_eq!(super::utc_offset("-05:30"), Ok(-330));
        assert_eq!(super::utc_offset("2"), Ok(120));
        assert!(super::utc_offset("+25:00").is_err() && super::utc_offset("x").is_err());
    }
}
