//! Launches of `kernels/silu_mul.cu`.

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
