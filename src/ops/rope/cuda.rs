//! The launch of `kernels/rope.cu`.

use std::sync::OnceLock;

use candle_core::{DType, Result, Tensor};

use super::Table;
use crate::ops::cuda::Argument::{Float, Int, Typed, Values};
use crate::ops::cuda::{each, launch, output};

/// Cosines and sines on the device that first asked for them.
pub(super) type Resident = OnceLock<(Tensor, Tensor)>;

pub(super) fn rotate(x: &Tensor, table: &Table, sign: f32, h: usize, d: usize) -> Result<Tensor> {
    let half = table.rotary_dim() / 2;
    let upload = |values: &[f32]| Tensor::from_slice(values, (table.tokens, half), x.device());
    let fresh;
    let (cos, sin) = match table.resident.get() {
        Some((cos, sin)) if cos.device().same_device(x.device()) => (cos, sin),
        _ => {
            fresh = (upload(&table.cos)?, upload(&table.sin)?);
            let _another_device_was_first = table.resident.set(fresh.clone());
            (&fresh.0, &fresh.1)
        }
    };
    let y = output(x, x.dtype(), x.shape())?;
    let n = x.elem_count();
    launch(
        "rope",
        "rope_rotate",
        x,
        each(x, n),
        &[
            Values(x),
            Typed(DType::F32, cos),
            Typed(DType::F32, sin),
            Values(&y),
            Int(n),
            Int(h),
            Int(d),
            Int(half),
            Float(sign),
        ],
    )?;
    Ok(y)
}
