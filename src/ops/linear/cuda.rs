//! The products by cuBLASLt.

use candle_core::{Result, Tensor};

use crate::ops::cuda::{Factor, output, product};

pub(super) fn forward(x: &Tensor, w: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
    let y = output(x, x.dtype(), (x.dim(0)?, w.dim(0)?))?;
    let (x, w) = (Factor::new(x), Factor::new(w).t());
    product("linear_forward", x, w, residual, &y)?;
    Ok(y)
}

pub(super) fn backward_input(dy: &Tensor, w: &Tensor, other: Option<&Tensor>) -> Result<Tensor> {
    let dx = output(dy, dy.dtype(), (dy.dim(0)?, w.dim(1)?))?;
    let (dy, w) = (Factor::new(dy), Factor::new(w));
    product("linear_backward_input", dy, w, other, &dx)?;
    Ok(dx)
}

pub(super) fn backward_input_into(dy: &Tensor, w: &Tensor, dx: &Tensor) -> Result<()> {
    let (dy, w) = (Factor::new(dy), Factor::new(w));
    product("linear_backward_input", dy, w, Some(dx), dx)
}

pub(super) fn backward_weight(dy: &Tensor, x: &Tensor, dw: &Tensor) -> Result<()> {
    if dy.dim(0)? == 0 {
        return Ok(());
    }
    let (dy, x) = (Factor::new(dy).t(), Factor::new(x));
    product("linear_backward_weight", dy, x, Some(dw), dw)
}
