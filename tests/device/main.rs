//! Kernels on a GPU against their CPU references; needs a CUDA device, so CI only builds it.
//!
//! `cargo test --features cuda --test device --no-run` makes the binary, which is carried to a machine with a GPU and run there.
#![allow(missing_docs, reason = "tests are read, not linked against")]

mod rms_norm;

use candle_core::{DType, Device, Result, Tensor};

/// The first GPU, or a test that says it ran on none.
fn gpu() -> Device {
    Device::new_cuda(0).expect("this test runs on a machine with a GPU")
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

/// Root mean square of the difference over that of the reference; NaN anywhere is infinite.
fn relative_error(found: &Tensor, reference: &Tensor) -> Result<f64> {
    let found = found
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?;
    let reference = reference
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?;
    let (mut difference, mut size) = (0.0, 0.0);
    for (f, r) in found.iter().zip(&reference) {
        difference += (f - r) * (f - r);
        size += r * r;
    }
    let error = (difference / size).sqrt();
    Ok(if error.is_nan() || found.len() != reference.len() {
        f64::INFINITY
    } else {
        error
    })
}
