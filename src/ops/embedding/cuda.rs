//! Launches of `kernels/embedding.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor};

use crate::ops::cuda::Argument::{Int, Typed, Values};
use crate::ops::cuda::{grid, launch, output};
use crate::ops::transfer::upload_u32;

/// Most tokens of a run: one after the other, while all runs go side by side.
const RUN: usize = 32;

pub(super) fn forward(ids: &[u32], w: &Tensor) -> Result<Tensor> {
    let (n, h) = (ids.len(), w.dim(1)?);
    let y = output(w, w.dtype(), (n, h))?;
    if n == 0 {
        return Ok(y);
    }
    let ids = upload_u32(ids, w.device())?;
    let arguments = [
        Typed(DType::U32, &ids),
        Values(w),
        Values(&y),
        Int(n),
        Int(h),
    ];
    let config = grid(n.div_ceil(8), 0);
    launch("embedding", "embedding_forward", w, config, &arguments)?;
    Ok(y)
}

pub(super) fn backward(dy: &Tensor, ids: &[u32], dw: &Tensor) -> Result<()> {
    let (v, h) = dw.dims2()?;
    if ids.is_empty() {
        return Ok(());
    }
    let plan = Plan::new(ids, v as u32);
    let device = dy.device();
    let (order, runs) = (
        upload_u32(&plan.order, device)?,
        upload_u32(&plan.runs, device)?,
    );
    // never empty, so that its address is one
    let partial = output(dy, DType::F32, (plan.partials.max(1), h))?;
    launch(
        "embedding",
        "embedding_runs",
        dy,
        blocks(plan.runs.len() / 3),
        &[
            Values(dy),
            Typed(DType::U32, &order),
            Typed(DType::U32, &runs),
            Typed(DType::F32, dw),
            Typed(DType::F32, &partial),
            Int(v),
            Int(h),
        ],
    )?;
    if plan.several.is_empty() {
        return Ok(());
    }
    let several = upload_u32(&plan.several, device)?;
    launch(
        "embedding",
        "embedding_several",
        &partial,
        blocks(plan.several.len() / 3),
        &[
            Values(&partial),
            Typed(DType::U32, &several),
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

/// Which tokens add up to which row; the tables of the kernel file.
#[derive(Debug, PartialEq)]
struct Plan {
    order: Vec<u32>,
    runs: Vec<u32>,
    several: Vec<u32>,
    partials: usize,
}

impl Plan {
    fn new(ids: &[u32], vocabulary: u32) -> Self {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&n| ids[n as usize]); // stable: equal ids stay in the order of the tokens
        let mut plan = Self {
            order: Vec::new(),
            runs: Vec::new(),
            several: Vec::new(),
            partials: 0,
        };
        let mut first = 0;
        for group in order.chunk_by(|&a, &b| ids[a as usize] == ids[b as usize]) {
            let id = ids[group[0] as usize];
            let count = group.len().div_ceil(RUN);
            if count > 1 {
                plan.several
                    .extend([id, plan.partials as u32, count as u32]);
            }
            for places in group.chunks(RUN) {
                let target = if count > 1 {
                    plan.partials += 1;
                    vocabulary + plan.partials as u32 - 1
                } else {
                    id
                };
                plan.runs.extend([first, places.len() as u32, target]);
                first += places.len() as u32;
            }
        }
        plan.order = order;
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_in_one_run_of_its_id() {
        let mut ids = vec![7; 70];
        ids.extend([3, 9, 3]);
        let plan = Plan::new(&ids, 10);
        assert_eq!(plan.order[..3], [70, 72, 0]);
        assert_eq!(
            plan.runs,
            [0, 2, 3, 2, 32, 10, 34, 32, 11, 66, 6, 12, 72, 1, 9]
        );
        assert_eq!((plan.several, plan.partials), (vec![7, 0, 3], 3));
    }
}
