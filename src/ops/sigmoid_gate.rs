//! The output gate of full attention, `y = o sigmoid(gate)`.
//!
//! `do = dy s` and `dgate = dy o s (1 - s)` with `s = sigmoid(gate)`. The gate may be a view, as each head's query and gate alternate in
//! a joint projection.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// `o sigmoid(gate)`, elementwise.
///
/// # Shapes
/// `o`, `gate` `[N, H, D]` or `[N, W]`, `o` contiguous, the gate's last dimension contiguous; `y [N, H D]` or `[N, W]`
pub fn forward(o: &Tensor, gate: &Tensor) -> Result<Tensor> {
    host::check("sigmoid_gate", "gate", gate, o.dims())?;
    #[cfg(feature = "cuda")]
    if o.device().is_cuda() {
        return cuda::forward(o, gate);
    }
    let y = reference::forward(
        &host::read("sigmoid_gate", o)?,
        &host::read("sigmoid_gate", gate)?,
    );
    host::tensor(y, flat(o))
}

/// The gradients `(do, dgate)`.
///
/// # Shapes
/// `o`, `gate`, `do`, `dgate` equal; `dy` as they are or as `y` of [`forward`]
pub fn backward(dy: &Tensor, o: &Tensor, gate: &Tensor) -> Result<(Tensor, Tensor)> {
    check(dy, o, gate)?;
    #[cfg(feature = "cuda")]
    if o.device().is_cuda() {
        return cuda::backward(dy, o, gate);
    }
    let (d_o, d_gate) = reference_backward(dy, o, gate)?;
    Ok((
        host::tensor(d_o, o.shape())?,
        host::tensor(d_gate, o.shape())?,
    ))
}

/// As [`backward`], with the gradient of the gate written into `d_gate`; returns `(do, y)`, `y` being the output of [`forward`] again.
///
/// # Shapes
/// `d_gate` as `gate`, with strides of its own
pub fn backward_into(
    dy: &Tensor,
    o: &Tensor,
    gate: &Tensor,
    d_gate: &Tensor,
) -> Result<(Tensor, Tensor)> {
    check(dy, o, gate)?;
    host::check("sigmoid_gate", "d_gate", d_gate, o.dims())?;
    #[cfg(feature = "cuda")]
    if o.device().is_cuda() {
        return cuda::backward_into(dy, o, gate, d_gate);
    }
    let (d_o, d_gate_values) = reference_backward(dy, o, gate)?;
    host::write_view("sigmoid_gate", d_gate, &d_gate_values)?;
    Ok((host::tensor(d_o, o.shape())?, forward(o, gate)?))
}

fn reference_backward(dy: &Tensor, o: &Tensor, gate: &Tensor) -> Result<(Vec<f32>, Vec<f32>)> {
    Ok(reference::backward(
        &host::read("sigmoid_gate", dy)?,
        &host::read("sigmoid_gate", o)?,
        &host::read("sigmoid_gate", gate)?,
    ))
}

fn check(dy: &Tensor, o: &Tensor, gate: &Tensor) -> Result<()> {
    host::check("sigmoid_gate", "gate", gate, o.dims())?;
    if dy.dims() == o.dims() {
        return Ok(());
    }
    host::check("sigmoid_gate", "dy", dy, &flat(o))
}

/// The shape of `o` with its heads joined.
fn flat(o: &Tensor) -> Vec<usize> {
    match o.dims() {
        [n, heads, width] => vec![*n, heads * width],
        dims => dims.to_vec(),
    }
}
