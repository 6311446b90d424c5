//! Launches of `kernels/sigmoid_gate.cu`.

use candle_core::{Result, Tensor};

use crate::ops::cuda::Argument::{Int, Values};
use crate::ops::cuda::{each, launch, output};

pub(super) fn forward(o: &Tensor, gate: &Tensor) -> Result<Tensor> {
    let n = o.elem_count();
    let y = output(o, o.dtype(), o.shape())?;
    let arguments = [Values(o), Values(gate), Values(&y), Int(n)];
    launch(
        "sigmoid_gate",
        "sigmoid_gate_forward",
        o,
        each(o, n),
        &arguments,
    )?;
    Ok(y)
}

pub(super) fn backward(dy: &Tensor, o: &Tensor, gate: &Tensor) -> Result<(Tensor, Tensor)> {
    let n = o.elem_count();
    let d_o = output(o, o.dtype(), o.shape())?;
    let d_gate = output(o, o.dtype(), o.shape())?;
    launch(
        "sigmoid_gate",
        "sigmoid_gate_backward",
        o,
        each(o, n),
        &[
            Values(dy),
            Values(o),
            Values(gate),
            Values(&d_o),
            Values(&d_gate),
            Int(n),
        ],
    )?;
    Ok((d_o, d_gate))
}
