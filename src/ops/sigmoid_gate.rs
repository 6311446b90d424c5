//! The output gate of full attention, `y = o sigmoid(gate)`.
//!
//! `do = dy s` and `dgate = dy o s (1 - s)` with `s = sigmoid(gate)`.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// `o sigmoid(gate)`, elementwise.
///
/// # Shapes
/// `o`, `gate`, `y` equal
pub fn forward(o: &Tensor, gate: &Tensor) -> Result<Tensor> {
    host::check("sigmoid_gate", "gate", gate, o.dims())?;
    #[cfg(feature = "cuda")]
    if o.device().is_cuda() {
        return cuda::forward(o, gate);
    }
    host::tensor(
        reference::forward(
            &host::read("sigmoid_gate", o)?,
            &host::read("sigmoid_gate", gate)?,
        ),
        o.shape(),
    )
}

/// The gradients `(do, dgate)`.
///
/// # Shapes
/// all equal
pub fn backward(dy: &Tensor, o: &Tensor, gate: &Tensor) -> Result<(Tensor, Tensor)> {
    host::check("sigmoid_gate", "gate", gate, o.dims())?;
    host::check("sigmoid_gate", "dy", dy, o.dims())?;
    #[cfg(feature = "cuda")]
    if o.device().is_cuda() {
        return cuda::backward(dy, o, gate);
    }
    let (dy, values) = (
        host::read("sigmoid_gate", dy)?,
        host::read("sigmoid_gate", o)?,
    );
    let (d_o, d_gate) = reference::backward(&dy, &values, &host::read("sigmoid_gate", gate)?);
    Ok((
        host::tensor(d_o, o.shape())?,
        host::tensor(d_gate, o.shape())?,
    ))
}
