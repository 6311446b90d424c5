//! The gated RMSNorm: outputs and gradients on odd, real and long shapes, then its speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::gated_norm;

use crate::{compare, gpu, many, place, sets, speed, tolerance, tolerance_of_sum, values};

const EPS: f64 = 1e-6;

#[test]
fn gated_norm_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, d) in [(1, 8), (3, 63), (17, 128), (131_073, 128), (513, 1024)] {
        let [x, z, dy] = [1, 2, 3].map(|salt| values(&[n, d], salt));
        let (x, z, dy, w) = (x?, z?, dy?, values(&[d], 4)?);
        let y = gated_norm::forward(&x, &z, &w, EPS)?;
        let dw = Tensor::ones(d, DType::F32, &Device::Cpu)?;
        let (dx, dz) = gated_norm::backward(&dy, &x, &z, &w, EPS, &dw)?;
        for dtype in [DType::F32, DType::BF16] {
            let place = |t: &Tensor| place(t, &gpu, dtype);
            let (gx, gz, gdy, gw) = (place(&x)?, place(&z)?, place(&dy)?, place(&w)?);
            let gdw = Tensor::ones(d, DType::F32, &gpu)?;
            let gy = gated_norm::forward(&gx, &gz, &gw, EPS)?;
            let (gdx, gdz) = gated_norm::backward(&gdy, &gx, &gz, &gw, EPS, &gdw)?;
            let what = |name| format!("gated_norm [{n}, {d}] {} {name}", dtype.as_str());
            compare(&what("y"), &gy, &y, tolerance(dtype))?;
            compare(&what("dx"), &gdx, &dx, tolerance(dtype))?;
            compare(&what("dz"), &gdz, &dz, tolerance(dtype))?;
            compare(&what("dw"), &gdw, &dw, tolerance_of_sum(n))?;
        }
    }
    Ok(())
}

#[test]
fn gated_norm_speed() -> Result<()> {
    let gpu = gpu();
    let (n, d) = (16 * 8192, 128);
    let bytes = n * d * 2;
    let count = sets(3 * bytes);
    let [x, z, dy] = [1, 2, 3].map(|salt| many(&gpu, count, &[n, d], salt));
    let (x, z, dy) = (x?, z?, dy?);
    let w = place(&values(&[d], 4)?, &gpu, DType::BF16)?;
    let dw = Tensor::zeros(d, DType::F32, &gpu)?;
    speed(
        &gpu,
        "gated_norm forward [8192 x 16, 128]",
        3 * bytes,
        |run| gated_norm::forward(&x[run % count], &z[run % count], &w, EPS).map(drop),
    )?;
    speed(
        &gpu,
        "gated_norm backward [8192 x 16, 128]",
        5 * bytes,
        |run| {
            let run = run % count;
            gated_norm::backward(&dy[run], &x[run], &z[run], &w, EPS, &dw).map(drop)
        },
    )
}
