//! The norm of the query and key heads, then the rotary embedding, in one pass: `y = turn(x r (1 + w))`, `r = (mean(x^2) + eps)^-1/2`.
//!
//! With `g` the gradient turned back: `dx = r (g (1 + w) - x r^2 mean(g (1 + w) x))`, `dw += sum g x r`. `x` and `dx` may be heads of a
//! joint projection. Between norm and rotation nothing is rounded. The CPU form is [`rms_norm`] and [`rope`] one after the other.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Tensor};

use super::rope::Table;
use super::{host, rms_norm, rope};

/// Norm and rotation of every head.
///
/// # Shapes
/// `x [N, H, D]`, its last dimension contiguous, `w [D]`, `y [N, H, D]` contiguous
pub fn forward(x: &Tensor, w: &Tensor, eps: f64, table: &Table) -> Result<Tensor> {
    check(x, w, table)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::forward(x, w, eps, table);
    }
    rope::forward(&rms_norm::forward(x, w, eps)?, table)
}

/// Writes the gradient of the input into `dx`; adds that of the gain to `dw`.
///
/// # Shapes
/// `dy [N, H, D]` contiguous, `x`, `dx` `[N, H, D]`, each with strides of its own, `w`, `dw` `[D]`
pub fn backward_into(
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    eps: f64,
    table: &Table,
    dw: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    check(x, w, table)?;
    host::check("qk_norm_rope", "dy", dy, x.dims())?;
    host::check("qk_norm_rope", "dx", dx, x.dims())?;
    host::check("qk_norm_rope", "dw", dw, w.dims())?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::backward(dy, x, w, eps, table, dw, dx);
    }
    let turned = rope::backward(dy, table)?;
    let values = rms_norm::backward(&turned, x, w, eps, dw)?;
    host::write_view("qk_norm_rope", dx, &host::read("qk_norm_rope", &values)?)
}

fn check(x: &Tensor, w: &Tensor, table: &Table) -> Result<()> {
    let (_, _, d) = table.check("qk_norm_rope", x)?;
    host::check("qk_norm_rope", "w", w, &[d])
}
