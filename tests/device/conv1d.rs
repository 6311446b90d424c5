//! The causal convolution: outputs and gradients on odd, real and packed shapes, columns of a joint projection; then its speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::{CuSeqlens, conv1d};

use crate::{
    check_untouched, compare, gpu, joint, many, place, sets, speed, tolerance, tolerance_of_sum,
    values,
};

/// Boundaries with documents of one token, of fewer than the width, at and across the ends of runs.
fn packed(n: usize) -> CuSeqlens {
    let mut boundaries = vec![0];
    for cut in [1, 3, 7, 16, 17, 192, 197, 1000, 1024] {
        if cut < n {
            boundaries.push(cut);
        }
    }
    boundaries.push(n);
    CuSeqlens::new(boundaries).expect("they rise")
}

#[test]
fn conv1d_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, channels, taps) in [
        (1, 1, 4),
        (5, 12, 4),
        (67, 40, 4),
        (1031, 23, 4),
        (2049, 6144, 4),
        (300, 40, 2),
        (129, 17, 3),
        (300, 24, 8),
        (40, 8, 1),
    ] {
        let (x, dy) = (values(&[n, channels], 1)?, values(&[n, channels], 2)?);
        let (w, cu) = (values(&[channels, taps], 3)?, packed(n));
        let dw = Tensor::ones((channels, taps), DType::F32, &Device::Cpu)?;
        let y = conv1d::forward(&x, &w, &cu)?;
        let dx = conv1d::backward(&dy, &x, &w, &cu, &dw)?;
        for dtype in [DType::F32, DType::BF16] {
            let place = |t: &Tensor| place(t, &gpu, dtype);
            let (gx, gdy, gw) = (place(&x)?, place(&dy)?, place(&w)?);
            let gdw = Tensor::ones((channels, taps), DType::F32, &gpu)?;
            let gy = conv1d::forward(&gx, &gw, &cu)?;
            let gdx = conv1d::backward(&gdy, &gx, &gw, &cu, &gdw)?;
            let what = |name| {
                format!(
                    "conv1d [{n}, {channels}] x {taps} {} {name}",
                    dtype.as_str()
                )
            };
            compare(&what("y"), &gy, &y, tolerance(dtype))?;
            compare(&what("dx"), &gdx, &dx, tolerance(dtype))?;
            compare(&what("dw"), &gdw, &dw, tolerance_of_sum(n))?;
        }
    }
    Ok(())
}

#[test]
fn conv1d_without_silu_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    let (n, channels, taps) = (333, 40, 4);
    let (x, dy) = (values(&[n, channels], 1)?, values(&[n, channels], 2)?);
    let (w, cu) = (values(&[channels, taps], 3)?, packed(n));
    let dw = Tensor::ones((channels, taps), DType::F32, &Device::Cpu)?;
    let y = conv1d::linear_forward(&x, &w, &cu)?;
    let dx = conv1d::linear_backward(&dy, &x, &w, &cu, &dw)?;
    let place = |t: &Tensor| place(t, &gpu, DType::F32);
    let (x, dy, w) = (place(&x)?, place(&dy)?, place(&w)?);
    let gdw = Tensor::ones((channels, taps), DType::F32, &gpu)?;
    let bound = tolerance(DType::F32);
    compare(
        "conv1d linear y",
        &conv1d::linear_forward(&x, &w, &cu)?,
        &y,
        bound,
    )?;
    let found = conv1d::linear_backward(&dy, &x, &w, &cu, &gdw)?;
    compare("conv1d linear dx", &found, &dx, bound)?;
    compare("conv1d linear dw", &gdw, &dw, tolerance_of_sum(n))
}

#[test]
fn conv1d_takes_columns_of_a_joint_projection() -> Result<()> {
    let gpu = gpu();
    for (n, channels, width) in [(131, 6144, 8224), (300, 24, 37)] {
        let whole = values(&[n, width], 1)?;
        let (dy, w, cu) = (
            values(&[n, channels], 2)?,
            values(&[channels, 4], 3)?,
            packed(n),
        );
        let x = whole.narrow(1, 0, channels)?;
        let dw = Tensor::zeros((channels, 4), DType::F32, &Device::Cpu)?;
        let y = conv1d::forward(&x, &w, &cu)?;
        let dx = conv1d::backward(&dy, &x, &w, &cu, &dw)?;
        for dtype in [DType::F32, DType::BF16] {
            let gx = place(&whole, &gpu, dtype)?.narrow(1, 0, channels)?;
            let (gdy, gw) = (place(&dy, &gpu, dtype)?, place(&w, &gpu, dtype)?);
            let gdw = Tensor::zeros((channels, 4), DType::F32, &gpu)?;
            let joint = joint(&gpu, dtype, n, width)?;
            let gdx = joint.narrow(1, 0, channels)?;
            let gy = conv1d::forward(&gx, &gw, &cu)?;
            conv1d::backward_into(&gdy, &gx, &gw, &cu, &gdw, &gdx)?;
            let what = |name| format!("conv1d of {channels} in {width} {} {name}", dtype.as_str());
            compare(&what("y"), &gy, &y, tolerance(dtype))?;
            compare(&what("dx"), &gdx, &dx, tolerance(dtype))?;
            compare(&what("dw"), &gdw, &dw, tolerance_of_sum(n))?;
            check_untouched(&what("dx"), &joint, |column| column < channels)?;
        }
    }
    Ok(())
}

#[test]
fn the_gradient_of_the_taps_is_the_same_every_time() -> Result<()> {
    let gpu = gpu();
    let (x, w) = (values(&[3000, 512], 1)?, values(&[512, 4], 2)?);
    let (x, w) = (place(&x, &gpu, DType::BF16)?, place(&w, &gpu, DType::BF16)?);
    let run = || {
        let dw = Tensor::zeros((512, 4), DType::F32, &gpu)?;
        conv1d::backward(&x, &x, &w, &packed(3000), &dw)?;
        dw.to_device(&Device::Cpu)?.to_vec2::<f32>()
    };
    assert_eq!(run()?, run()?);
    Ok(())
}

#[test]
fn conv1d_speed() -> Result<()> {
    let gpu = gpu();
    let (n, channels, width) = (8192, 6144, 8224);
    let bytes = n * channels * 2;
    let count = sets(3 * bytes).max(2);
    let (x, dy) = (
        many(&gpu, count, &[n, width], 1)?,
        many(&gpu, count, &[n, channels], 2)?,
    );
    let x: Vec<Tensor> = x
        .iter()
        .map(|x| x.narrow(1, 0, channels))
        .collect::<Result<_>>()?;
    let w = place(&values(&[channels, 4], 3)?, &gpu, DType::BF16)?;
    let dw = Tensor::zeros((channels, 4), DType::F32, &gpu)?;
    let dx = joint(&gpu, DType::BF16, n, width)?.narrow(1, 0, channels)?;
    let cu = CuSeqlens::uniform(2, n / 2);
    speed(&gpu, "conv1d forward [8192, 6144]", 2 * bytes, |run| {
        conv1d::forward(&x[run % count], &w, &cu).map(drop)
    })?;
    speed(&gpu, "conv1d backward [8192, 6144]", 3 * bytes, |run| {
        conv1d::backward_into(&dy[run % count], &x[run % count], &w, &cu, &dw, &dx)
    })
}
