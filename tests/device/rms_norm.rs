//! RMSNorm: outputs and gradients on odd, real and long shapes, then its speed.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::rms_norm;

use crate::{gpu, relative_error, values};

const EPS: f64 = 1e-6;

#[test]
fn rms_norm_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, d) in [(1, 1), (3, 63), (7, 2560), (4097, 5120)] {
        let (x, dy, w) = (values(&[n, d], 1)?, values(&[n, d], 2)?, values(&[d], 3)?);
        let y = rms_norm::forward(&x, &w, EPS)?;
        let dw = Tensor::ones(d, DType::F32, &Device::Cpu)?;
        let dx = rms_norm::backward(&dy, &x, &w, EPS, &dw)?;
        for (dtype, tolerance) in [(DType::F32, 3e-6), (DType::BF16, 1.2e-2)] {
            let place = |t: &Tensor| t.to_device(&gpu)?.to_dtype(dtype);
            let (gx, gdy, gw) = (place(&x)?, place(&dy)?, place(&w)?);
            let gdw = Tensor::ones(d, DType::F32, &gpu)?;
            let gy = rms_norm::forward(&gx, &gw, EPS)?;
            let gdx = rms_norm::backward(&gdy, &gx, &gw, EPS, &gdw)?;
            for (name, found, reference) in [("y", &gy, &y), ("dx", &gdx, &dx), ("dw", &gdw, &dw)] {
                let error = relative_error(found, reference)?;
                println!(
                    "rms_norm [{n}, {d}] {} {name}: {error:.2e} of {tolerance:.0e}",
                    dtype.as_str()
                );
                // One number a row: x / |x| has no gradient, so dx is rounding around zero.
                if !(d == 1 && name == "dx") {
                    assert!(
                        error <= tolerance,
                        "{name} of [{n}, {d}] {dtype:?}: {error:e} above {tolerance:e}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn rms_norm_forward_speed() -> Result<()> {
    let gpu = gpu();
    let (n, d) = (16_384, 4096);
    let x = values(&[n, d], 1)?.to_device(&gpu)?.to_dtype(DType::BF16)?;
    let w = values(&[d], 3)?.to_device(&gpu)?.to_dtype(DType::BF16)?;
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..20 {
        gpu.synchronize()?;
        let start = Instant::now();
        for _ in 0..10 {
            rms_norm::forward(&x, &w, EPS)?;
        }
        gpu.synchronize()?;
        seconds.push(start.elapsed().as_secs_f64() / 10.0);
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let bytes = (2 * n * d * 2) as f64;
    println!(
        "rms_norm forward [{n}, {d}] bf16: {:.1} us, {:.0} GB/s",
        median * 1e6,
        bytes / median / 1e9
    );
    assert!(
        bytes / median > 1e11,
        "slower than a tenth of a terabyte a second: the kernel did not run on a GPU"
    );
    Ok(())
}
