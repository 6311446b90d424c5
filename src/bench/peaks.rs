//! What a device can do at most: measured by a copy and a matrix product.

use candle_core::{DType, Device, Result, Tensor};
use serde::Serialize;

use super::clock::Clock;
use crate::ops::{self, linear};

/// Measured ceilings of a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peaks {
    /// The device's name.
    pub device: String,
    /// Read and written by an addition in place of large `f32` tensors.
    pub bytes_per_second: f64,
    /// Of a matrix product in the type that the model computes in.
    pub flops_per_second: f64,
    /// How both were measured.
    pub measured_by: String,
}

impl Peaks {
    /// Measures the medians of a few large calls.
    pub(super) fn measure(device: &Device, dtype: DType, clock: &Clock) -> Result<Self> {
        let cuda = device.is_cuda();
        // Far more than the caches, and a product that fills the device.
        let (elements, side) = if cuda {
            (256 << 20, 8192)
        } else {
            (8 << 20, 768)
        };
        let bandwidth = {
            let a = Tensor::zeros(elements, DType::F32, device)?;
            let b = Tensor::ones(elements, DType::F32, device)?;
            let spread = clock.time(|| ops::add_assign(&a, &b))?;
            3.0 * 4.0 * elements as f64 / spread.median
        };
        let x = Tensor::rand(-1f32, 1f32, (side, side), device)?.to_dtype(dtype)?;
        let w = Tensor::rand(-1f32, 1f32, (side, side), device)?.to_dtype(dtype)?;
        let spread = clock.time(|| linear::forward(&x, &w))?;
        Ok(Self {
            device: super::name(device)?,
            bytes_per_second: bandwidth,
            flops_per_second: 2.0 * (side as f64).powi(3) / spread.median,
            measured_by: format!(
                "a += b over {elements} f32; product of {side} x {side} in {dtype:?}; medians"
            ),
        })
    }
}
