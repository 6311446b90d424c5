//! Linear layers without bias, `y = x W^T`, and the two products of their backward.

mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;

/// `y = x W^T`.
///
/// # Shapes
/// `x [N, I]`, `w [O, I]`, `y [N, O]`
pub fn forward(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (n, i) = x.dims2()?;
    let (o, width) = w.dims2()?;
    if i != width {
        bail!("linear: x is [{n}, {i}] and w is [{o}, {width}]");
    }
    let y = reference::forward(
        &host::read("linear", x)?,
        &host::read("linear", w)?,
        n,
        i,
        o,
    );
    host::tensor(y, (n, o))
}

/// `dx = dy W`.
///
/// # Shapes
/// `dy [N, O]`, `w [O, I]`, `dx [N, I]`
pub fn backward_input(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (n, o, i) = input_shape(dy, w)?;
    let dx = reference::backward_input(
        &host::read("linear", dy)?,
        &host::read("linear", w)?,
        n,
        i,
        o,
    );
    host::tensor(dx, (n, i))
}

/// `dx += dy W` in place, for an input that several layers read.
///
/// # Shapes
/// `dy [N, O]`, `w [O, I]`, `dx [N, I]`
pub fn backward_input_into(dy: &Tensor, w: &Tensor, dx: &Tensor) -> Result<()> {
    let (n, o, i) = input_shape(dy, w)?;
    host::check("linear", "dx", dx, &[n, i])?;
    let (dy, w) = (host::read("linear", dy)?, host::read("linear", w)?);
    host::update("linear", dx, |dx| {
        reference::backward_input_into(&dy, &w, n, i, o, dx);
    })
}

/// `dW += dy^T x`, in place.
///
/// # Shapes
/// `dy [N, O]`, `x [N, I]`, `dw [O, I]`
pub fn backward_weight(dy: &Tensor, x: &Tensor, dw: &Tensor) -> Result<()> {
    let (n, o) = dy.dims2()?;
    let i = x.dim(1)?;
    host::check("linear", "x", x, &[n, i])?;
    host::check("linear", "dw", dw, &[o, i])?;
    let (dy, x) = (host::read("linear", dy)?, host::read("linear", x)?);
    host::update("linear", dw, |dw| {
        reference::backward_weight(&dy, &x, n, i, o, dw);
    })
}

fn input_shape(dy: &Tensor, w: &Tensor) -> Result<(usize, usize, usize)> {
    let (n, o) = dy.dims2()?;
    let (rows, i) = w.dims2()?;
    if o != rows {
        bail!("linear: dy is [{n}, {o}] and w is [{rows}, {i}]");
    }
    Ok((n, o, i))
}
