//! Kernels on a GPU against their CPU references; needs a CUDA device, so CI only builds it.
//!
//! `cargo test --features cuda --test device --no-run` makes the binary, which is carried to a machine with a GPU and run there.
//! Outputs start as NaN. Lines that begin with `error` or `speed` hold the figures.
#![allow(missing_docs, reason = "tests are read, not linked against")]
#![allow(clippy::print_stdout, reason = "the lines hold the figures")]

mod adamw;
mod arithmetic;
mod attention;
mod columns;
mod conv1d;
mod cross_entropy;
mod embedding;
mod gated_delta;
mod gated_norm;
mod gates;
mod gdn_gates;
mod golden;
mod graph;
mod linear;
mod nn;
mod qk_norm_rope;
mod reduce;
mod rms_norm;
mod rope;
mod transfer;
mod truth;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::{device, kernel_times, poison_outputs};

/// Peak of the H100 SXM's memory, bytes a second, by its datasheet.
const PEAK: f64 = 3.35e12;

/// RMS of the difference over RMS of the reference that a kernel in `dtype` may show.
///
/// The test values are exact in bf16 and each output is rounded once. That moves a value by at most 2^-8 of itself, which no mean of such
/// roundings passes; values spread over a binade show about 1.7e-3. In f32 the orders of the sums differ and `exp` has an ulp or
/// two of its own: 32 times 2^-24.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1.0 / 256.0,
        _ => 32.0 / f64::from(1u32 << 24),
    }
}

/// As [`tolerance`], for f32 sums over `n` rows: roundings of a running sum walk by the root of their number.
fn tolerance_of_sum(n: usize) -> f64 {
    (n as f64).sqrt().max(32.0) / f64::from(1u32 << 24)
}

/// The first GPU, whose kernels' outputs start as NaN, or a test that says it ran on none.
fn gpu() -> Device {
    poison_outputs(true);
    device::open(0).expect("this test runs on a machine with a GPU")
}

/// Values in -2..2, different for each `salt`, that are exact in bf16.
fn values(shape: &[usize], salt: u64) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            half::bf16::from_f32((state >> 40) as f32 / (1u64 << 22) as f32 - 2.0).to_f32()
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Fails unless `found` is `reference` within the tolerance of its type; says what the difference is.
fn compare(what: &str, found: &Tensor, reference: &Tensor, tolerance: f64) -> Result<()> {
    let error = relative_error(found, reference)?;
    println!("error {what}: {error:.2e} of {tolerance:.1e}");
    assert!(error <= tolerance, "{what}: {error:e} above {tolerance:e}");
    Ok(())
}

/// Root mean square of the difference over that of the reference; NaN anywhere is infinite.
fn relative_error(found: &Tensor, reference: &Tensor) -> Result<f64> {
    let found = numbers(found)?;
    let reference = numbers(reference)?;
    let (mut difference, mut size) = (0.0, 0.0);
    for (f, r) in found.iter().zip(&reference) {
        difference += (f - r) * (f - r);
        size += r * r;
    }
    let error = if difference == 0.0 {
        0.0
    } else {
        (difference / size).sqrt()
    };
    Ok(if error.is_nan() || found.len() != reference.len() {
        f64::INFINITY
    } else {
        error
    })
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1()
}

/// Says how long the kernels of `work` take and what share of the peak bandwidth `bytes` of traffic are: median of 21 after a warm-up.
///
/// `work` gets the number of the run, so that it can go round among inputs that together do not fit in the cache.
fn speed(
    gpu: &Device,
    what: &str,
    bytes: usize,
    mut work: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    // NaN written before a kernel would leave its outputs' lines in the cache.
    poison_outputs(false);
    for run in 0..3 {
        work(run)?;
    }
    let mut totals = Vec::new();
    let mut kernels: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for run in 0..21 {
        let ((), times) = kernel_times(gpu, || work(run))?;
        totals.push(times.iter().map(|time| time.seconds).sum::<f64>());
        for time in times {
            kernels.entry(time.name).or_default().push(time.seconds);
        }
    }
    poison_outputs(true);
    totals.sort_by(f64::total_cmp);
    let (median, low, high) = (totals[10], totals[2], totals[18]);
    let rate = bytes as f64 / median;
    print!(
        "speed {what}: {:.1} us ({:.1} to {:.1}), {:.0} GB/s, {:.0} % of {:.2} TB/s",
        median * 1e6,
        low * 1e6,
        high * 1e6,
        rate / 1e9,
        100.0 * rate / PEAK,
        PEAK / 1e12
    );
    for (name, mut times) in kernels {
        times.sort_by(f64::total_cmp);
        print!("; {name} {:.1}", times[times.len() / 2] * 1e6);
    }
    println!();
    assert!(rate < 1.05 * PEAK, "{what}: faster than the memory is");
    Ok(())
}

/// How many inputs of `bytes` to go round among so that none is left in the cache of 50 MB.
fn sets(bytes: usize) -> usize {
    (256_000_000usize).div_ceil(bytes).clamp(1, 20)
}

/// `tensor` on the GPU, in `dtype`.
fn place(tensor: &Tensor, gpu: &Device, dtype: DType) -> Result<Tensor> {
    tensor.to_device(gpu)?.to_dtype(dtype)
}

/// A joint buffer `[n, width]` on the GPU, for views of its columns: all [`UNTOUCHED`].
fn joint(gpu: &Device, dtype: DType, n: usize, width: usize) -> Result<Tensor> {
    Tensor::full(UNTOUCHED, (n, width), gpu)?.to_dtype(dtype)
}

/// What a joint buffer holds before anything is written.
const UNTOUCHED: f32 = 7.0;

/// Fails unless the columns of a joint buffer that were not to be written are as they were.
fn check_untouched(what: &str, joint: &Tensor, written: impl Fn(usize) -> bool) -> Result<()> {
    let rows = joint.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    for row in rows.to_vec2::<f32>()? {
        for (column, value) in row.iter().enumerate() {
            assert!(
                written(column) || *value == UNTOUCHED,
                "{what}: column {column} is {value}"
            );
        }
    }
    Ok(())
}

/// `count` tensors of `shape` on the GPU in bf16, of different values.
fn many(gpu: &Device, count: usize, shape: &[usize], salt: u64) -> Result<Vec<Tensor>> {
    // a part is made here and repeated there, since tests are built without optimisation
    let rows = shape[0].min(256);
    let part = place(
        &values(&[&[rows], &shape[1..]].concat(), salt)?,
        gpu,
        DType::BF16,
    )?;
    let mut times = vec![1; shape.len()];
    times[0] = shape[0].div_ceil(rows);
    let first = part.repeat(times)?.narrow(0, 0, shape[0])?;
    (0..count)
        .map(|index| first.affine(1.0 - index as f64 / 64.0, 0.0))
        .collect()
}
