//! RMSNorm: outputs and gradients on odd, real and long shapes, alone and with the residual add, then its speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::rms_norm;

use crate::{compare, gpu, many, place, sets, speed, tolerance, tolerance_of_sum, values};

const EPS: f64 = 1e-6;
/// Narrow and wide rows, both sides of where a row goes from a warp to a block and of what a thread keeps in registers.
const SHAPES: [(usize, usize); 11] = [
    (1, 1),
    (3, 63),
    (17, 256),
    (1000, 1024),
    (70, 1032),
    (515, 2048),
    (33, 4096),
    (7, 2560),
    (5, 8200),
    (16_385, 256),
    (1025, 5120),
];

#[test]
fn rms_norm_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, d) in SHAPES {
        let (x, dy, w) = (values(&[n, d], 1)?, values(&[n, d], 2)?, values(&[d], 3)?);
        let y = rms_norm::forward(&x, &w, EPS)?;
        let dw = Tensor::ones(d, DType::F32, &Device::Cpu)?;
        let dx = rms_norm::backward(&dy, &x, &w, EPS, &dw)?;
        for dtype in [DType::F32, DType::BF16] {
            let place = |t: &Tensor| place(t, &gpu, dtype);
            let (gx, gdy, gw) = (place(&x)?, place(&dy)?, place(&w)?);
            let gdw = Tensor::ones(d, DType::F32, &gpu)?;
            let gy = rms_norm::forward(&gx, &gw, EPS)?;
            let gdx = rms_norm::backward(&gdy, &gx, &gw, EPS, &gdw)?;
            let what = |name| format!("rms_norm [{n}, {d}] {} {name}", dtype.as_str());
            compare(&what("y"), &gy, &y, tolerance(dtype))?;
            // One number a row: x / |x| has no gradient, so dx is rounding around zero.
            if d > 1 {
                compare(&what("dx"), &gdx, &dx, tolerance(dtype))?;
            }
            compare(&what("dw"), &gdw, &dw, tolerance_of_sum(n))?;
        }
    }
    Ok(())
}

#[test]
fn rms_norm_with_residual_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, d) in SHAPES.into_iter().skip(1) {
        let [x, residual, dy, dh] = [1, 2, 3, 4].map(|salt| values(&[n, d], salt));
        let (x, residual, dy, dh, w) = (x?, residual?, dy?, dh?, values(&[d], 5)?);
        for dtype in [DType::F32, DType::BF16] {
            let place = |t: &Tensor| place(t, &gpu, dtype);
            // both norms are of the rounded sum
            let rounded = x.add(&residual)?.to_dtype(dtype)?.to_dtype(DType::F32)?;
            let y = rms_norm::forward(&rounded, &w, EPS)?;
            let dw = Tensor::ones(d, DType::F32, &Device::Cpu)?;
            let dx = rms_norm::add_backward(&dy, &dh, &rounded, &w, EPS, &dw)?;
            let gw = place(&w)?;
            let gdw = Tensor::ones(d, DType::F32, &gpu)?;
            let (gh, gy) = rms_norm::add_forward(&place(&x)?, &place(&residual)?, &gw, EPS)?;
            let gdx = rms_norm::add_backward(&place(&dy)?, &place(&dh)?, &gh, &gw, EPS, &gdw)?;
            let what = |name| format!("rms_norm_add [{n}, {d}] {} {name}", dtype.as_str());
            compare(&what("h"), &gh, &rounded, 0.0)?;
            compare(&what("y"), &gy, &y, tolerance(dtype))?;
            compare(&what("dx"), &gdx, &dx, tolerance(dtype))?;
            compare(&what("dw"), &gdw, &dw, tolerance_of_sum(n))?;
        }
    }
    Ok(())
}

#[test]
fn rms_norm_gives_equal_bits_twice() -> Result<()> {
    let gpu = gpu();
    let x = place(&values(&[8192, 1024], 1)?, &gpu, DType::BF16)?;
    let w = place(&values(&[1024], 2)?, &gpu, DType::BF16)?;
    let run = || {
        let dw = Tensor::zeros(1024, DType::F32, &gpu)?;
        rms_norm::backward(&x, &x, &w, EPS, &dw)?;
        dw.to_device(&Device::Cpu)?.to_vec1::<f32>()
    };
    assert_eq!(run()?, run()?);
    Ok(())
}

#[test]
fn rms_norm_speed() -> Result<()> {
    let gpu = gpu();
    for (n, d) in [(8192, 1024), (8192, 2048), (8 * 8192, 256), (16_384, 4096)] {
        let bytes = n * d * 2;
        let count = sets(2 * bytes);
        let (x, dy) = (
            many(&gpu, count, &[n, d], 1)?,
            many(&gpu, count, &[n, d], 2)?,
        );
        let w = place(&values(&[d], 3)?, &gpu, DType::BF16)?;
        let dw = Tensor::zeros(d, DType::F32, &gpu)?;
        let what = |name| format!("rms_norm {name} [{n}, {d}]");
        speed(&gpu, &what("forward"), 2 * bytes, |run| {
            rms_norm::forward(&x[run % count], &w, EPS).map(drop)
        })?;
        speed(&gpu, &what("backward"), 3 * bytes, |run| {
            rms_norm::backward(&dy[run % count], &x[run % count], &w, EPS, &dw).map(drop)
        })?;
        speed(&gpu, &what("add_forward"), 4 * bytes, |run| {
            rms_norm::add_forward(&x[run % count], &dy[run % count], &w, EPS).map(drop)
        })?;
        speed(&gpu, &what("add_backward"), 4 * bytes, |run| {
            let (dy, dh) = (&dy[run % count], &dy[(run + 1) % count]);
            rms_norm::add_backward(dy, dh, &x[run % count], &w, EPS, &dw).map(drop)
        })?;
    }
    Ok(())
}
