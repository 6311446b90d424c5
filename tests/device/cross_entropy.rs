//! The fused head: goldens, odd and real vocabularies with both kernels, ties, ignored tokens, numbers that are not finite, then its
//! speed.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::cross_entropy::{self, Output};
use trestle::ops::kernel_times;

use crate::{PEAK, compare, gpu, place, tolerance_of_sum, truth, values};

#[test]
fn cross_entropy_matches_its_goldens() -> Result<()> {
    let gpu = gpu();
    let file = include_bytes!("../golden/kernels/cross_entropy.safetensors");
    for (name, case) in truth::cases(file)? {
        let labels = case["in.labels"].to_vec1::<i64>()?;
        let (labels, weights): (Vec<u32>, Vec<f32>) = labels
            .iter()
            .map(|label| match u32::try_from(*label) {
                Ok(label) => (label, 1.0),
                Err(_) => (u32::MAX, 0.0),
            })
            .unzip();
        let total = weights.iter().sum::<f32>().max(1.0);
        for (dtype, chunk) in [
            (DType::F32, 1),
            (DType::F32, 4),
            (DType::F32, 1000),
            (DType::BF16, 4),
            (DType::BF16, 1000),
        ] {
            let allowed = match (dtype, name.as_str()) {
                (DType::F32, "ce_sharp") => 2e-5,
                (DType::F32, _) => 1e-5,
                (_, "ce_sharp") => 6e-2,
                _ => 1.2e-2,
            };
            let x = place(&case["in.x"], &gpu, dtype)?;
            let w = place(&case["in.w"], &gpu, dtype)?;
            let dw = Tensor::zeros(w.shape(), DType::F32, &gpu)?;
            let scale = 1.0 / total;
            let (output, dx) =
                cross_entropy::forward_backward(&x, &w, &labels, &weights, scale, chunk, &dw)?;
            let alone = cross_entropy::forward(&x, &w, &labels, &weights, chunk)?;
            let sums = output.sums.to_vec1::<f64>()?;
            assert_eq!(sums, alone.sums.to_vec1::<f64>()?);
            let what = |of| format!("{name} {} chunk {chunk} {of}", dtype.as_str());
            let loss = Tensor::new(sums[0] / f64::from(total), &Device::Cpu)?;
            truth::compare(&what("loss"), &loss, &case["out.loss"], allowed)?;
            truth::compare(&what("ce"), &output.ce, &case["out.ce"], allowed)?;
            truth::compare(&what("dx"), &dx, &case["grad.x"], allowed)?;
            truth::compare(&what("dw"), &dw, &case["grad.w"], allowed)?;
            let total = case["out.total"].to_scalar::<i64>()? as u64;
            assert_eq!(output.total, total, "{name}");
            if dtype == DType::F32 {
                let counted = |tensor: &Tensor| counted(tensor, &weights);
                let lse = (counted(&output.lse)?, counted(&case["out.lse"])?);
                truth::compare(&what("lse"), &lse.0, &lse.1, allowed)?;
                let argmax = (counted(&output.argmax)?, counted(&case["out.argmax"])?);
                truth::compare(&what("argmax"), &argmax.0, &argmax.1, 0.0)?;
                let correct = case["out.correct"].to_scalar::<i64>()?;
                assert_eq!(sums[1], correct as f64, "{name}");
            }
        }
    }
    Ok(())
}

/// The values of the tokens that count.
fn counted(tensor: &Tensor, weights: &[f32]) -> Result<Tensor> {
    let weights = Tensor::new(weights, &Device::Cpu)?.to_dtype(DType::F64)?;
    tensor
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .mul(&weights)
}

/// Logits of a few units. In bf16 each moves by at most 2^-9 of itself, so a probability by about 2^-8 of itself, and is rounded once:
/// 2^-7 holds both.
#[test]
fn cross_entropy_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, vocabulary, h, chunk) in [
        (1, 2, 1, 1),
        (65, 37, 9, 64),
        (130, 257, 33, 63),
        (40, 20_011, 64, 16),
        (9, 16_384, 32, 100),
        (24, 248_320, 24, 7),
    ] {
        let (x, w) = (values(&[n, h], 1)?, values(&[vocabulary, h], 2)?);
        let w = w.affine(0.125, 0.0)?;
        let labels: Vec<u32> = (0..n).map(|i| (i * 7919 % vocabulary) as u32).collect();
        let mut weights: Vec<f32> = (0..n).map(|i| [1.0, 0.0, 0.25, 2.0][i % 4]).collect();
        if n > 2 * chunk {
            weights[chunk..2 * chunk].fill(0.0); // a chunk without weight
        }
        let dw = Tensor::ones((vocabulary, h), DType::F32, &Device::Cpu)?;
        let (expected, dx) =
            cross_entropy::forward_backward(&x, &w, &labels, &weights, 0.5, chunk, &dw)?;
        for dtype in [DType::F32, DType::BF16] {
            let (gx, gw) = (place(&x, &gpu, dtype)?, place(&w, &gpu, dtype)?);
            let gdw = Tensor::ones((vocabulary, h), DType::F32, &gpu)?;
            let (found, gdx) =
                cross_entropy::forward_backward(&gx, &gw, &labels, &weights, 0.5, chunk, &gdw)?;
            let limit = match dtype {
                DType::BF16 => 1.0 / 128.0,
                _ => tolerance_of_sum(vocabulary),
            };
            let what = |name| {
                format!(
                    "cross_entropy [{n}, {vocabulary}, {h}] {} {name}",
                    dtype.as_str()
                )
            };
            compare(&what("ce"), &found.ce, &expected.ce, limit)?;
            let lse = (
                counted(&found.lse, &weights)?,
                counted(&expected.lse, &weights)?,
            );
            compare(&what("lse"), &lse.0, &lse.1, limit)?;
            compare(&what("dx"), &gdx, &dx, limit)?;
            let ones = gdw.ones_like()?;
            compare(
                &what("dw"),
                &gdw.sub(&ones)?,
                &dw.sub(&dw.ones_like()?)?,
                limit,
            )?;
            let (sums, expected_sums) = (
                found.sums.to_vec1::<f64>()?,
                expected.sums.to_vec1::<f64>()?,
            );
            assert!((sums[0] / expected_sums[0] - 1.0).abs() < limit, "{sums:?}");
            if dtype == DType::F32 {
                assert_eq!(sums[1], expected_sums[1]);
                let ids = (
                    counted(&found.argmax, &weights)?,
                    counted(&expected.argmax, &weights)?,
                );
                compare(&what("argmax"), &ids.0, &ids.1, 0.0)?;
            }
            assert_eq!(found.total, expected.total);
            assert_eq!(found.weight_sum, expected.weight_sum);
        }
    }
    Ok(())
}

#[test]
fn the_lowest_of_equal_ids_is_the_likeliest() -> Result<()> {
    let gpu = gpu();
    for vocabulary in [3, 1000, 248_320] {
        let mut w = vec![1f32; vocabulary];
        let ids = [vocabulary / 2, vocabulary - 1];
        for (x, expected) in [(1f32, 0), (2.0, ids[0])] {
            if expected > 0 {
                for id in ids {
                    w[id] = 3.0;
                }
            }
            for dtype in [DType::F32, DType::BF16] {
                let w = Tensor::from_slice(&w, (vocabulary, 1), &gpu)?.to_dtype(dtype)?;
                let x = Tensor::full(x, (2, 1), &gpu)?.to_dtype(dtype)?;
                let labels = [expected as u32, ids[1] as u32];
                let output = cross_entropy::forward(&x, &w, &labels, &[1.0, 1.0], 8)?;
                assert_eq!(output.argmax.to_vec1::<u32>()?, [expected as u32; 2]);
                assert_eq!(output.sums.to_vec1::<f64>()?[1], 1.0);
            }
        }
    }
    Ok(())
}

#[test]
fn a_loss_that_is_not_finite_shows() -> Result<()> {
    let gpu = gpu();
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = vec![0.5f32; 4 * 8];
        x[9] = bad;
        let x = Tensor::from_slice(&x, (4, 8), &gpu)?.to_dtype(DType::BF16)?;
        for vocabulary in [100, 30_000] {
            let w = place(&values(&[vocabulary, 8], 1)?, &gpu, DType::BF16)?;
            let output = cross_entropy::forward(&x, &w, &[0, 1, 2, 3], &[1.0; 4], 8)?;
            let ce = output.ce.to_vec1::<f32>()?;
            assert!(!output.sums.to_vec1::<f64>()?[0].is_finite());
            assert_eq!(
                ce.iter().map(|ce| ce.is_finite()).collect::<Vec<_>>(),
                [true, false, true, true]
            );
        }
    }
    Ok(())
}

#[test]
fn cross_entropy_of_a_step_gives_equal_bits_twice_and_its_speed() -> Result<()> {
    let gpu = gpu();
    let (n, vocabulary, hidden) = (8192, 248_320, 1024);
    let block = place(&values(&[1 << 20], 1)?, &gpu, DType::BF16)?;
    let w = block.affine(1.0 / 64.0, 0.0)?.repeat(243)?;
    let w = w
        .narrow(0, 0, vocabulary * hidden)?
        .reshape((vocabulary, hidden))?;
    let x = block.repeat(8)?.reshape((n, hidden))?;
    let labels: Vec<u32> = (0..n).map(|i| (i * 7919 % vocabulary) as u32).collect();
    let weights = vec![1f32; n];
    let chunk = cross_entropy::default_chunk(&gpu, vocabulary);
    let dw = Tensor::zeros((vocabulary, hidden), DType::F32, &gpu)?;
    let run = || -> Result<(Output, Tensor)> {
        cross_entropy::forward_backward(&x, &w, &labels, &weights, 1e-4, chunk, &dw)
    };
    let ((first, dx), dw_first) = (run()?, dw.copy()?);
    trestle::ops::fill_zero(&dw)?;
    let (second, dx_again) = run()?;
    compare("cross_entropy dx twice", &dx_again, &dx, 0.0)?;
    let rows = |t: &Tensor| t.narrow(0, 0, 4096);
    compare(
        "cross_entropy dw twice",
        &rows(&dw)?,
        &rows(&dw_first)?,
        0.0,
    )?;
    assert_eq!(first.sums.to_vec1::<f64>()?, second.sums.to_vec1::<f64>()?);
    drop(dw_first);
    let mut kernels: BTreeMap<String, f64> = BTreeMap::new();
    let mut forward: BTreeMap<String, f64> = BTreeMap::new();
    for repeat in 0..4 {
        let (_, times) = kernel_times(&gpu, run)?;
        let (_, alone) = kernel_times(&gpu, || {
            cross_entropy::forward(&x, &w, &labels, &weights, chunk)
        })?;
        if repeat == 0 {
            continue;
        }
        for time in times {
            *kernels.entry(time.name).or_default() += time.seconds / 3.0;
        }
        for time in alone {
            *forward.entry(time.name).or_default() += time.seconds / 3.0;
        }
    }
    for (what, kernels, passes) in [("both", kernels, 2), ("forward", forward, 1)] {
        let bytes = (passes * n * vocabulary * 2) as f64;
        for (name, seconds) in &kernels {
            println!(
                "speed cross_entropy {what} [{n}, {vocabulary}] chunk {chunk}: {name} {:.2} ms",
                seconds * 1e3
            );
            if name == "cross_entropy_cluster" {
                let rate = bytes / seconds;
                println!(
                    "speed cross_entropy {what} rows: {:.0} GB/s, {:.0} %",
                    rate / 1e9,
                    100.0 * rate / PEAK
                );
                assert!(rate < 1.05 * PEAK);
            }
        }
        let sum: f64 = kernels.values().sum();
        println!("speed cross_entropy {what} in all: {:.2} ms", sum * 1e3);
    }
    Ok(())
}
