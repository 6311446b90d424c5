//! Launches of `kernels/embedding.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor, bail};

use super::{Ids, Plan};
use crate::ops::cuda::Argument::{Int, Typed, Values};
use crate::ops::cuda::{grid, launch, output};

pub(super) fn forward(ids: &Ids, w: &Tensor) -> Result<Tensor> {
    let (n, h) = (ids.ids.len(), w.dim(1)?);
    let y = output(w, w.dtype(), (n, h))?;
    if n == 0 {
        return Ok(y);
    }
    let Some(placed) = &ids.placed else {
        bail!("embedding: the ids are not on the device");
    };
    let arguments = [
        Typed(DType::U32, &placed.ids),
        Values(w),
        Values(&y),
        Int(n),
        Int(h),
    ];
    let config = grid(n.div_ceil(8), 0);
    launch("embedding", "embedding_forward", w, config, &arguments)?;
    Ok(y)
}

pub(super) fn backward(dy: &Tensor, ids: &Ids, dw: &Tensor) -> Result<()> {
    let (v, h) = dw.dims2()?;
    let n = ids.ids.len();
    if n == 0 {
        return Ok(());
    }
    let Some(plan) = ids.placed.as_ref().and_then(|placed| placed.plan.as_ref()) else {
        bail!("embedding: the plan of the gradient is not on the device");
    };
    // never empty, so that its address is one
    let partial = output(dy, DType::F32, (Plan::partials(n).max(1), h))?;
    launch(
        "embedding",
        "embedding_runs",
        dy,
        blocks(n),
        &[
            Values(dy),
            Typed(DType::U32, &plan.order),
            Typed(DType::U32, &plan.runs),
            Typed(DType::F32, dw),
            Typed(DType::F32, &partial),
            Int(v),
            Int(h),
        ],
    )?;
    launch(
        "embedding",
        "embedding_several",
        &partial,
        blocks(Plan::several(n)),
        &[
            Values(&partial),
            Typed(DType::U32, &plan.several),
            Values(dw),
            Int(h),
        ],
    )
}

fn blocks(count: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (count as u32, 1, 1),
        block_dim: (128, 1, 1),
        shared_mem_bytes: 0,
    }
}
