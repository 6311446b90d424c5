//! Launches of `kernels/sigmoid_gate.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{Result, Tensor};

use super::flat;
use crate::ops::cuda::Argument::{Absent, Int, Values, View};
use crate::ops::cuda::{each, head_strides, launch, output, row_stride};

/// `N`, `H`, `D` and the strides of tokens and heads.
struct Heads {
    dims: (usize, usize, usize),
    row: usize,
    head: usize,
}

impl Heads {
    fn of(gate: &Tensor) -> Result<Self> {
        Ok(match gate.dims() {
            [n, h, d] => {
                let (row, head) = head_strides(gate)?;
                Self {
                    dims: (*n, *h, *d),
                    row,
                    head,
                }
            }
            [n, rest @ ..] => {
                let d = rest.iter().product();
                Self {
                    dims: (*n, 1, d),
                    row: row_stride(gate)?,
                    head: d,
                }
            }
            [] => Self {
                dims: (1, 1, 1),
                row: 1,
                head: 1,
            },
        })
    }

    /// Blocks for 16 bytes of a head a thread.
    fn grid(&self, like: &Tensor) -> LaunchConfig {
        let (n, h, d) = self.dims;
        let width = 16 / like.dtype().size_in_bytes();
        each(like, n * h * d.next_multiple_of(width))
    }
}

pub(super) fn forward(o: &Tensor, gate: &Tensor) -> Result<Tensor> {
    let y = output(o, o.dtype(), flat(o))?;
    let heads = Heads::of(gate)?;
    let (n, h, d) = heads.dims;
    launch(
        "sigmoid_gate",
        "sigmoid_gate_forward",
        o,
        heads.grid(o),
        &[
            Values(o),
            View(gate),
            Values(&y),
            Int(n),
            Int(h),
            Int(d),
            Int(heads.row),
            Int(heads.head),
        ],
    )?;
    Ok(y)
}

pub(super) fn backward(dy: &Tensor, o: &Tensor, gate: &Tensor) -> Result<(Tensor, Tensor)> {
    let d_gate = output(o, o.dtype(), o.shape())?;
    let d_o = run_backward(dy, o, gate, &d_gate, None)?;
    Ok((d_o, d_gate))
}

pub(super) fn backward_into(
    dy: &Tensor,
    o: &Tensor,
    gate: &Tensor,
    d_gate: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let y = output(o, o.dtype(), flat(o))?;
    let d_o = run_backward(dy, o, gate, d_gate, Some(&y))?;
    Ok((d_o, y))
}

fn run_backward(
    dy: &Tensor,
    o: &Tensor,
    gate: &Tensor,
    d_gate: &Tensor,
    y: Option<&Tensor>,
) -> Result<Tensor> {
    let d_o = output(o, o.dtype(), o.shape())?;
    let (heads, d_heads) = (Heads::of(gate)?, Heads::of(d_gate)?);
    let (n, h, d) = heads.dims;
    launch(
        "sigmoid_gate",
        "sigmoid_gate_backward",
        o,
        heads.grid(o),
        &[
            Values(dy),
            Values(o),
            View(gate),
            Values(&d_o),
            View(d_gate),
            y.map_or(Absent, Values),
            Int(n),
            Int(h),
            Int(d),
            Int(heads.row),
            Int(heads.head),
            Int(d_heads.row),
            Int(d_heads.head),
        ],
    )?;
    Ok(d_o)
}
