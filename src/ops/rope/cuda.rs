//! Launches of `kernels/rope.cu`.

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Result, Tensor, bail};

use super::Table;
use crate::ops::cuda::Argument::{Float, Int, Typed, Values};
use crate::ops::cuda::{each, grid, launch, output};
use crate::ops::transfer;

/// Cosines and sines on the device that first asked for them.
pub(super) type Resident = Arc<OnceLock<(Tensor, Tensor)>>;

/// Cosines and sines on the device of `like`: only the positions are uploaded, once.
pub(super) fn resident(table: &Table, like: &Tensor) -> Result<(Tensor, Tensor)> {
    match table.resident.get() {
        Some(pair) if pair.0.device().same_device(like.device()) => Ok(pair.clone()),
        _ => {
            let fresh = angles(table, like)?;
            let _another_device_was_first = table.resident.set(fresh.clone());
            Ok(fresh)
        }
    }
}

fn angles(table: &Table, like: &Tensor) -> Result<(Tensor, Tensor)> {
    let half = table.inverse_frequencies.len();
    let mut positions = Vec::with_capacity(3 * table.tokens);
    for position in table.positions.iter().flatten() {
        let Ok(position) = u32::try_from(*position) else {
            bail!("rope: position {position}, the CUDA kernel takes 0 to 2^32 - 1");
        };
        positions.push(position);
    }
    let positions = transfer::upload_u32(&positions, like.device())?;
    let frequencies = transfer::upload_f32(&table.inverse_frequencies, like.device())?;
    let shape = (table.tokens, half);
    let cos = output(like, DType::F32, shape)?;
    let sin = output(like, DType::F32, shape)?;
    launch(
        "rope",
        "rope_angles",
        &cos,
        grid((table.tokens * half).div_ceil(256), 0),
        &[
            Typed(DType::U32, &positions),
            Values(&frequencies),
            Values(&cos),
            Values(&sin),
            Int(table.tokens),
            Int(half),
            Int(table.sections[1]),
            Int(table.sections[2]),
        ],
    )?;
    Ok((cos, sin))
}

pub(super) fn rotate(x: &Tensor, table: &Table, sign: f32, h: usize, d: usize) -> Result<Tensor> {
    let (cos, sin) = resident(table, x)?;
    let y = output(x, x.dtype(), x.shape())?;
    let n = x.elem_count();
    launch(
        "rope",
        "rope_rotate",
        x,
        each(x, n),
        &[
            Values(x),
            Typed(DType::F32, &cos),
            Typed(DType::F32, &sin),
            Values(&y),
            Int(n),
            Int(h),
            Int(d),
            Int(table.rotary_dim() / 2),
            Float(sign),
        ],
    )?;
    Ok(y)
}
