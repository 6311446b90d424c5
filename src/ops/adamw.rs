//! AdamW with decoupled decay, on whole arenas.
//!
//! With `g = grad_scale * grad`: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
//! `p = p (1 - lr wd) - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)`, `t` counted from 1.

#[cfg(feature = "cuda")]
mod cuda;
mod guard;
mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;
pub use guard::{Guard, Verdict};

/// The numbers of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay; a step multiplies the weights by `1 - lr * weight_decay`.
    pub weight_decay: f64,
    /// Number of the update being done, from 1.
    pub step: u64,
    /// Factor on the gradient: clipping and the division by token counts.
    pub grad_scale: f64,
}

/// Updates `master`, `m` and `v` in place.
///
/// # Shapes
/// all equal; views of four different arenas
///
/// # Errors
/// When the shapes differ or `step` is 0.
pub fn step(master: &Tensor, grad: &Tensor, m: &Tensor, v: &Tensor, update: AdamW) -> Result<()> {
    run([master, grad, m, v], None, None, update)
}

/// [`step`] that also leaves the new weights, rounded to bf16, in `weights`.
///
/// # Shapes
/// all equal; views of five different arenas, `weights` bf16, the others f32
///
/// # Errors
/// As [`step`], and when the tensors are not on a CUDA device: the CPU computes in f32 alone.
pub fn step_and_copy(
    master: &Tensor,
    grad: &Tensor,
    m: &Tensor,
    v: &Tensor,
    weights: &Tensor,
    update: AdamW,
) -> Result<()> {
    run([master, grad, m, v], Some(weights), None, update)
}

/// [`step`], or with `weights` [`step_and_copy`], as `guard` has judged: the gradient is scaled by its factor as well, and nothing at
/// all is written when the step is to be skipped. Nobody waits for the verdict.
pub fn step_guarded(
    master: &Tensor,
    grad: &Tensor,
    m: &Tensor,
    v: &Tensor,
    weights: Option<&Tensor>,
    guard: &Guard,
    update: AdamW,
) -> Result<()> {
    run([master, grad, m, v], weights, Some(guard), update)
}

fn run(
    [master, grad, m, v]: [&Tensor; 4],
    weights: Option<&Tensor>,
    guard: Option<&Guard>,
    mut update: AdamW,
) -> Result<()> {
    for (name, tensor) in [("grad", grad), ("m", m), ("v", v)] {
        host::check("adamw", name, tensor, master.dims())?;
    }
    if let Some(weights) = weights {
        host::check("adamw", "weights", weights, master.dims())?;
    }
    if update.step == 0 {
        bail!("adamw: updates are counted from 1");
    }
    #[cfg(feature = "cuda")]
    if master.device().is_cuda() {
        let verdict = guard.map(Guard::verdict);
        return cuda::step(master, grad, m, v, weights, verdict, update);
    }
    if weights.is_some() {
        bail!("adamw: the CPU keeps no weights in bf16");
    }
    if let Some(guard) = guard {
        let verdict = Verdict::of(&guard.verdict().to_vec1()?)?;
        if verdict.skip {
            return Ok(());
        }
        update.grad_scale *= verdict.factor;
    }
    let grad = host::read("adamw", grad)?;
    let grad: &[f32] = &grad;
    host::update("adamw", master, |master| {
        host::update("adamw", m, |m| {
            host::update("adamw", v, |v| reference::step(master, grad, m, v, update))
        })
    })??
}
