//! Measures kernels and steps.

mod step;

use std::fmt::Write;

use serde::Serialize;

use super::arguments::{BenchArguments, BenchDevice};
use super::output::{Output, Tone};
use super::{Context, Exit, Failure, OrExit, Outcome};
use crate::bench::{self, Bench, Measured, Peaks, Place, Sizes};
use crate::ops::cross_entropy;
use crate::spec;

/// What `--json` says of kernels.
#[derive(Serialize)]
struct Kernels<'a> {
    peaks: &'a Peaks,
    size: &'a str,
    dtype: &'static str,
    micro_batch: usize,
    sequence: usize,
    loss_chunk: usize,
    ops: &'a [Measured],
}

pub(super) fn run(arguments: &BenchArguments, context: &Context) -> Outcome {
    match &arguments.step {
        Some(recipe) if arguments.trainer => step::trainer(recipe, arguments, context),
        Some(recipe) => step::profile(recipe, arguments, context),
        None => kernels(arguments, context),
    }
}

fn place(device: Option<BenchDevice>) -> Place {
    match device {
        None | Some(BenchDevice::Auto) => Place::Auto,
        Some(BenchDevice::Cpu) => Place::Cpu,
        Some(BenchDevice::Cuda) => Place::Cuda,
    }
}

fn kernels(arguments: &BenchArguments, context: &Context) -> Outcome {
    if let Some(op) = &arguments.op
        && !bench::FAMILIES
            .iter()
            .any(|family| family.contains(op.as_str()))
    {
        return Err(Exit::Usage
            .because(format!("no family is called \"{op}\""))
            .hint(format!("known: {}", bench::FAMILIES.join(", "))));
    }
    let device = bench::open(place(arguments.device)).or_exit(Exit::Device)?;
    let gpu = device.is_cuda();
    let size = arguments
        .size
        .as_deref()
        .unwrap_or(if gpu { "0.8b" } else { "toy" });
    let config = config(size)?;
    let loss_chunk = arguments
        .loss_chunk
        .unwrap_or_else(|| cross_entropy::default_chunk(&device, config.vocab_size))
        .max(1);
    let sizes = Sizes {
        config,
        micro_batch_size: arguments.micro_batch.unwrap_or(2).max(1),
        seq_length: arguments
            .sequence
            .unwrap_or(if gpu { 4096 } else { 256 })
            .max(1),
        loss_chunk,
    };
    let (micro_batch, sequence) = (sizes.micro_batch_size, sizes.seq_length);
    let op = arguments.op.as_deref();
    let bench = Bench::new(&device, sizes, op, arguments.repeat).or_exit(Exit::Failure)?;
    let (peaks, ops) = bench.run().or_exit(Exit::Failure)?;
    let kernels = Kernels {
        peaks: &peaks,
        size,
        dtype: if gpu { "bf16" } else { "f32" },
        micro_batch,
        sequence,
        loss_chunk,
        ops: &ops,
    };
    if arguments.json {
        return Ok(context.out.json(&kernels)?);
    }
    context.out.write(table(&kernels, &context.out))?;
    Ok(())
}

fn config(size: &str) -> Result<spec::TextConfig, Failure> {
    let entry = spec::find(size).ok_or_else(|| {
        let known: Vec<&str> = spec::registry()
            .iter()
            .filter(|entry| entry.dense().is_some())
            .map(|entry| entry.name)
            .collect();
        Exit::Usage
            .because(format!("no published size is called \"{size}\""))
            .hint(format!("known: {}", known.join(", ")))
    })?;
    entry.dense().cloned().ok_or_else(|| {
        Exit::Usage.because(format!(
            "{} is not dense: its kernels are not all here",
            entry.display
        ))
    })
}

/// What the device can do, in a line.
fn peaks_line(peaks: &Peaks) -> String {
    format!(
        "{}: {:.0} GB/s, {:.1} TFLOP/s ({})",
        peaks.device,
        peaks.bytes_per_second * 1e-9,
        peaks.flops_per_second * 1e-12,
        peaks.measured_by
    )
}

fn table(kernels: &Kernels, out: &Output) -> String {
    let mut text = peaks_line(kernels.peaks);
    let _ = writeln!(
        text,
        "\n{} in {}, {} x {} tokens",
        kernels.size, kernels.dtype, kernels.micro_batch, kernels.sequence
    );
    let width = kernels
        .ops
        .iter()
        .map(|op| op.shape.len())
        .max()
        .unwrap_or(0);
    let heading = format!(
        "{:<14} {:<17} {:<width$} {:>10} {:>17} {:>9} {:>9} {:>6}",
        "op", "pass", "shape", "median", "min - max", "GB/s", "TFLOP/s", "peak"
    );
    let _ = writeln!(text, "{}", out.paint(Tone::Heading, heading));
    for measured in kernels.ops {
        let _ = writeln!(text, "{}", row(measured, width, out));
    }
    text
}

fn row(measured: &Measured, width: usize, out: &Output) -> String {
    let Measured {
        op, pass, shape, ..
    } = measured;
    let name = format!("{op:<14} {pass:<17} {shape:<width$}");
    let (Some(seconds), None) = (measured.seconds, &measured.error) else {
        let error = measured.error.as_deref().unwrap_or("not measured");
        return format!("{name} {}", out.paint(Tone::Error, error));
    };
    let rate = |amount: f64, unit: f64| match amount / seconds.median * unit {
        rate if rate > 0.0 => format!("{rate:.1}"),
        _ => "-".to_owned(),
    };
    format!(
        "{name} {:>7.3} ms {:>17} {:>9} {:>9} {:>4.0} %",
        seconds.median * 1e3,
        format!("{:.3} - {:.3}", seconds.min * 1e3, seconds.max * 1e3),
        rate(measured.work.bytes, 1e-9),
        rate(measured.work.flops, 1e-12),
        measured.share_of_peak * 100.0,
    )
}
