//! The gated RMSNorm: outputs and gradients on odd, real and long shapes, gates in a joint projection; then its speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::gated_norm;

use crate::{
    check_untouched, compare, gpu, joint, many, place, sets, speed, tolerance, tolerance_of_sum,
    values,
};

const EPS: f64 = 1e-6;

#[test]
fn gated_norm_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, d) in [(1, 8), (3, 63), (17, 128), (32_769, 128), (513, 1024)] {
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
fn gated_norm_takes_gates_of_a_joint_projection() -> Result<()> {
    let gpu = gpu();
    for (n, h, d, start, width) in [
        (1, 1, 8, 0, 8),
        (7, 3, 21, 5, 80),
        (515, 16, 128, 6144, 8224),
        (33, 2, 256, 64, 640),
    ] {
        let (whole, o, dy) = (
            values(&[n, width], 1)?,
            values(&[n, h, d], 2)?,
            values(&[n, h * d], 3)?,
        );
        let w = values(&[d], 4)?;
        let z = whole.narrow(1, start, h * d)?;
        let dw = Tensor::ones(d, DType::F32, &Device::Cpu)?;
        let y = gated_norm::forward(&o, &z, &w, EPS)?;
        let (d_o, dz) = gated_norm::backward(&dy, &o, &z, &w, EPS, &dw)?;
        for (dtype, gain) in [
            (DType::F32, DType::F32),
            (DType::BF16, DType::BF16),
            (DType::BF16, DType::F32),
        ] {
            let z = place(&whole, &gpu, dtype)?.narrow(1, start, h * d)?;
            let (o, dy) = (place(&o, &gpu, dtype)?, place(&dy, &gpu, dtype)?);
            let w = place(&w, &gpu, gain)?;
            let found_dw = Tensor::ones(d, DType::F32, &gpu)?;
            let joint = joint(&gpu, dtype, n, width)?;
            let found_dz = joint.narrow(1, start, h * d)?;
            let forward = gated_norm::forward(&o, &z, &w, EPS)?;
            let (found, again) =
                gated_norm::backward_into(&dy, &o, &z, &w, EPS, &found_dw, &found_dz)?;
            let what = |name| format!("gated_norm [{n}, {h}, {d}] {} {name}", dtype.as_str());
            compare(&what("y"), &forward, &y, tolerance(dtype))?;
            compare(&what("y again"), &again, &y, tolerance(dtype))?;
            compare(&what("do"), &found, &d_o, tolerance(dtype))?;
            compare(&what("dz"), &found_dz, &dz, tolerance(dtype))?;
            compare(&what("dw"), &found_dw, &dw, tolerance_of_sum(n * h))?;
            let written = start..start + h * d;
            check_untouched(&what("dz"), &joint, |column| written.contains(&column))?;
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
    )?;
    let joint = joint(&gpu, DType::BF16, 8192, 8224)?;
    let dz = joint.narrow(1, 6144, 2048)?;
    let whole = many(&gpu, 3, &[8192, 8224], 5)?;
    speed(
        &gpu,
        "gated_norm backward_into [8192, 16, 128] of 8224",
        6 * bytes,
        |run| {
            let z = whole[run % 3].narrow(1, 6144, 2048)?;
            let dy = dy[run % count].reshape((8192, 2048))?;
            gated_norm::backward_into(&dy, &x[run % count], &z, &w, EPS, &dw, &dz).map(drop)
        },
    )
}
