//! Launches of `kernels/silu_mul.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{Result, Tensor};

use crate::ops::cuda::Argument::{Int, Values};
use crate::ops::cuda::{each, launch, output};

pub(super) fn forward(g: &Tensor, u: &Tensor) -> Result<Tensor> {
    let n = g.elem_count();
    let y = output(g, g.dtype(), g.shape())?;
    let arguments = [Values(g), Values(u), Values(&y), Int(n)];
    launch("silu_mul", "silu_mul_forward", g, each(g, n), &arguments)?;
    Ok(y)
}

pub(super) fn backward(dy: &Tensor, g: &Tensor, u: &Tensor) -> Result<(Tensor, Tensor)> {
    let n = g.elem_count();
    let dg = output(g, g.dtype(), g.shape())?;
    let du = output(g, g.dtype(), g.shape())?;
    launch(
        "silu_mul",
        "silu_mul_backward",
        g,
        each(g, n),
        &[
            Values(dy),
            Values(g),
            Values(u),
            Values(&dg),
            Values(&du),
            Int(n),
        ],
    )?;
    Ok((dg, du))
}

pub(super) fn joined_forward(gate_up: &Tensor, n: usize, i: usize) -> Result<Tensor> {
    let y = output(gate_up, gate_up.dtype(), (n, i))?;
    launch(
        "silu_mul",
        "silu_mul_joined_forward",
        gate_up,
        each_row(gate_up, n, i),
        &[Values(gate_up), Values(&y), Int(n), Int(i)],
    )?;
    Ok(y)
}

pub(super) fn joined_backward(
    dy: &Tensor,
    gate_up: &Tensor,
    n: usize,
    i: usize,
) -> Result<(Tensor, Tensor)> {
    let d_gate_up = output(gate_up, gate_up.dtype(), (n, 2 * i))?;
    let y = output(gate_up, gate_up.dtype(), (n, i))?;
    launch(
        "silu_mul",
        "silu_mul_joined_backward",
        gate_up,
        each_row(gate_up, n, i),
        &[
            Values(dy),
            Values(gate_up),
            Values(&d_gate_up),
            Values(&y),
            Int(n),
            Int(i),
        ],
    )?;
    Ok((d_gate_up, y))
}

/// Blocks for a kernel that takes 16 bytes of a row a thread.
fn each_row(like: &Tensor, rows: usize, columns: usize) -> LaunchConfig {
    let width = 16 / like.dtype().size_in_bytes();
    each(like, rows * columns.next_multiple_of(width))
}
