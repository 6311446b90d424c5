//! Launches of `kernels/rope.cu`.

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor, bail};

use super::{Table, words};
use crate::ops::cuda::Argument::{Float, Int, Typed, Values};
use crate::ops::cuda::{each, grid, launch, output};
use crate::ops::{host, transfer};

/// What the device that first asked has.
pub(super) type Resident = Arc<OnceLock<OnDevice>>;

/// Cosines and sines, `[N, rotary_dim / 2]` each, and the frequencies that they are made of.
#[derive(Debug, Clone)]
pub(super) struct OnDevice {
    cos: Tensor,
    sin: Tensor,
    frequencies: Tensor,
}

/// Cosines and sines on the device of `like`: only the positions are uploaded, once.
pub(super) fn resident(table: &Table, like: &Tensor) -> Result<(Tensor, Tensor)> {
    let pair = |there: &OnDevice| (there.cos.clone(), there.sin.clone());
    match table.resident.get() {
        Some(there) if there.cos.device().same_device(like.device()) => Ok(pair(there)),
        _ => {
            let positions = transfer::upload_u32(&words(&table.positions)?, like.device())?;
            let fresh = OnDevice::new(table, like.device())?;
            fresh.compute(table, &positions)?;
            let made = pair(&fresh);
            let _another_device_was_first = table.resident.set(fresh);
            Ok(made)
        }
    }
}

/// Computes cosines and sines from `positions [3 N]` where those are; at the addresses of the first time.
pub(super) fn refresh(table: &Table, positions: &Tensor) -> Result<()> {
    if table.resident.get().is_none() {
        let fresh = OnDevice::new(table, positions.device())?;
        let _another_thread_was_first = table.resident.set(fresh);
    }
    let Some(there) = table.resident.get() else {
        bail!("rope: the table is on no device");
    };
    if !there.cos.device().same_device(positions.device()) {
        bail!("rope: the table lies on another device");
    }
    there.compute(table, positions)
}

impl OnDevice {
    fn new(table: &Table, device: &Device) -> Result<Self> {
        let frequencies = transfer::upload_f32(&table.inverse_frequencies, device)?;
        let shape = (table.tokens, table.inverse_frequencies.len());
        Ok(Self {
            cos: output(&frequencies, DType::F32, shape)?,
            sin: output(&frequencies, DType::F32, shape)?,
            frequencies,
        })
    }

    fn compute(&self, table: &Table, positions: &Tensor) -> Result<()> {
        let half = table.inverse_frequencies.len();
        host::check("rope", "positions", positions, &[3 * table.tokens])?;
        launch(
            "rope",
            "rope_angles",
            &self.cos,
            grid((table.tokens * half).div_ceil(256), 0),
            &[
                Typed(DType::U32, positions),
                Values(&self.frequencies),
                Values(&self.cos),
                Values(&self.sin),
                Int(table.tokens),
                Int(half),
                Int(table.sections[1]),
                Int(table.sections[2]),
            ],
        )
    }
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
