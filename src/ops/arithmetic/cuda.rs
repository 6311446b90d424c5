//! Launches of `kernels/arithmetic.cu`.

use candle_core::{Result, Tensor};

use crate::ops::cuda::Argument::{Float, Int, Values};
use crate::ops::cuda::{each, launch, output, zero};

pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let y = output(a, a.dtype(), a.shape())?;
    add_into(a, b, &y)?;
    Ok(y)
}

pub(super) fn add_assign(a: &Tensor, b: &Tensor) -> Result<()> {
    add_into(a, b, a)
}

fn add_into(a: &Tensor, b: &Tensor, y: &Tensor) -> Result<()> {
    let n = a.elem_count();
    let arguments = [Values(a), Values(b), Values(y), Int(n)];
    launch("arithmetic", "add", a, each(a, n), &arguments)
}

pub(super) fn scale(a: &Tensor, factor: f32) -> Result<()> {
    let n = a.elem_count();
    let arguments = [Values(a), Int(n), Float(factor)];
    launch("arithmetic", "scale", a, each(a, n), &arguments)
}

pub(super) fn fill_zero(a: &Tensor) -> Result<()> {
    zero(a)
}
