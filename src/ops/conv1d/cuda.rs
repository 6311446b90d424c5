//! Launches of `kernels/conv1d.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor, bail};

use super::reference::Activation;
use crate::ops::CuSeqlens;
use crate::ops::cuda::Argument::{Int, Typed, Values, View};
use crate::ops::cuda::{add_rows, launch, output, row_stride};

/// Threads of a block.
const THREADS: usize = 256;
/// Channels that a thread takes: in the forward of width 4, and otherwise.
const FORWARD_CHANNELS: usize = 4;
const CHANNELS: usize = 2;
/// Most blocks, with runs as long as they become by that: the backward has two on each multiprocessor of an H100, as many as run together
/// there; the forward, which pays nothing for a run but its first tokens, many more.
const FORWARD_BLOCKS: usize = 1536;
const BACKWARD_BLOCKS: usize = 264;
/// Tokens of the shortest run, and what a run is a multiple of.
const SHORTEST: usize = 16;
const STEP: usize = 8;
/// Widest convolution.
const WIDEST: usize = 8;

/// How the tokens are cut into runs.
struct Cut {
    config: LaunchConfig,
    run: usize,
    runs: usize,
}

fn cut(n: usize, channels: usize, each: usize, blocks: usize) -> Result<Cut> {
    let columns = channels.div_ceil(THREADS * each).max(1);
    // 65,535 is the most that a grid takes in its second dimension
    let run = n
        .div_ceil((blocks / columns).max(1))
        .max(n.div_ceil(65_535))
        .max(SHORTEST)
        .next_multiple_of(STEP);
    let runs = n.div_ceil(run);
    if i32::try_from(n + run).is_err() {
        bail!("conv1d: {n} tokens, the CUDA kernel counts in 31 bits");
    }
    Ok(Cut {
        config: LaunchConfig {
            grid_dim: (columns as u32, runs as u32, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: 0,
        },
        run,
        runs,
    })
}

/// Whether the kernel for width 4 with `SiLU` does it.
fn is_usual(taps: usize, activation: Activation) -> Result<bool> {
    if !(1..=WIDEST).contains(&taps) {
        bail!("conv1d: {taps} taps, the CUDA kernel takes 1 to {WIDEST}");
    }
    Ok(taps == 4 && activation == Activation::Silu)
}

pub(super) fn forward(
    x: &Tensor,
    w: &Tensor,
    cu_seqlens: &CuSeqlens,
    activation: Activation,
) -> Result<Tensor> {
    let (n, channels) = x.dims2()?;
    let taps = w.dim(1)?;
    let usual = is_usual(taps, activation)?;
    let y = output(x, x.dtype(), (n, channels))?;
    let each = if usual { FORWARD_CHANNELS } else { CHANNELS };
    let cut = cut(n, channels, each, FORWARD_BLOCKS)?;
    let boundaries = cu_seqlens.on(x.device())?;
    let mut arguments = vec![
        View(x),
        Int(row_stride(x)?),
        Values(w),
        Typed(DType::U32, &boundaries),
        Int(cu_seqlens.len()),
        Values(&y),
        Int(n),
        Int(channels),
        Int(cut.run),
    ];
    let name = if usual {
        "conv1d_forward_4"
    } else {
        arguments.extend(generic(taps, activation));
        "conv1d_forward_any"
    };
    launch("conv1d", name, x, cut.config, &arguments)?;
    Ok(y)
}

pub(super) fn backward(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    cu_seqlens: &CuSeqlens,
    dw: &Tensor,
    dx: &Tensor,
    activation: Activation,
) -> Result<()> {
    let (n, channels) = x.dims2()?;
    let taps = w.dim(1)?;
    let usual = is_usual(taps, activation)?;
    let cut = cut(n, channels, CHANNELS, BACKWARD_BLOCKS)?;
    let boundaries = cu_seqlens.on(x.device())?;
    let partial = output(x, DType::F32, (cut.runs, channels, taps))?;
    let mut arguments = vec![
        Values(dy),
        View(x),
        Int(row_stride(x)?),
        Values(w),
        Typed(DType::U32, &boundaries),
        Int(cu_seqlens.len()),
        View(dx),
        Int(row_stride(dx)?),
        Typed(DType::F32, &partial),
        Int(n),
        Int(channels),
        Int(cut.run),
    ];
    let name = if usual {
        "conv1d_backward_4"
    } else {
        arguments.extend(generic(taps, activation));
        "conv1d_backward_any"
    };
    launch("conv1d", name, x, cut.config, &arguments)?;
    add_rows(&partial, dw)
}

fn generic<'a>(taps: usize, activation: Activation) -> [crate::ops::cuda::Argument<'a>; 2] {
    [Int(taps), Int(usize::from(activation == Activation::Silu))]
}
