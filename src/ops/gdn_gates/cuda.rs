//! Launches of `kernels/gdn_gates.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor};

use crate::ops::cuda::Argument::{Int, Typed, View};
use crate::ops::cuda::{add_rows, launch, output, row_stride};

/// Threads of a block.
const THREADS: usize = 256;
/// Tokens of a run, so of a row of partial sums, unless that makes more than [`BLOCKS`].
const RUN: usize = 64;
/// Most blocks.
const BLOCKS: usize = 4096;

/// Blocks of runs of tokens; a run takes as many heads at once as there are, up to a warp.
fn cut(n: usize, heads: usize) -> (LaunchConfig, usize) {
    let run = RUN.max(n.div_ceil(BLOCKS));
    let width = heads.next_power_of_two().clamp(1, 32);
    let config = LaunchConfig {
        grid_dim: (n.div_ceil(run) as u32, 1, 1),
        block_dim: (width as u32, (THREADS / width) as u32, 1),
        shared_mem_bytes: 0,
    };
    (config, run)
}

pub(super) fn forward(
    a: &Tensor,
    b: &Tensor,
    a_log: &Tensor,
    dt_bias: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let heads = a_log.elem_count();
    let n = a.elem_count() / heads.max(1);
    let g = output(a, DType::F32, a.shape())?;
    let beta = output(a, DType::F32, a.shape())?;
    let (config, run) = cut(n, heads);
    launch(
        "gdn_gates",
        "gdn_gates_forward",
        a,
        config,
        &[
            View(a),
            View(b),
            Typed(DType::F32, a_log),
            Typed(DType::F32, dt_bias),
            Typed(DType::F32, &g),
            Typed(DType::F32, &beta),
            Int(n),
            Int(heads),
            Int(row_stride(a)?),
            Int(row_stride(b)?),
            Int(run),
        ],
    )?;
    Ok((g, beta))
}

pub(super) fn backward(
    dg: &Tensor,
    dbeta: &Tensor,
    a: &Tensor,
    b: &Tensor,
    a_log: &Tensor,
    dt_bias: &Tensor,
    da_log: &Tensor,
    ddt_bias: &Tensor,
    da: &Tensor,
    db: &Tensor,
) -> Result<()> {
    let heads = a_log.elem_count();
    let n = a.elem_count() / heads.max(1);
    let (config, run) = cut(n, heads);
    let blocks = config.grid_dim.0 as usize;
    let partial = output(a, DType::F32, (2, blocks, heads))?;
    launch(
        "gdn_gates",
        "gdn_gates_backward",
        a,
        config,
        &[
            Typed(DType::F32, dg),
            Typed(DType::F32, dbeta),
            View(a),
            View(b),
            Typed(DType::F32, a_log),
            Typed(DType::F32, dt_bias),
            View(da),
            View(db),
            Typed(DType::F32, &partial),
            Int(n),
            Int(heads),
            Int(row_stride(a)?),
            Int(row_stride(b)?),
            Int(row_stride(da)?),
            Int(row_stride(db)?),
            Int(run),
        ],
    )?;
    add_rows(&partial.get(0)?, da_log)?;
    add_rows(&partial.get(1)?, ddt_bias)
}
