//! One `AdamW` update over the arenas.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::nn::Parameters;
use crate::ops::adamw::{self, Guard};
use crate::recipe::Optimizer;

/// Adam's running means of gradient and squared gradient, arenas like the weights.
#[derive(Debug)]
pub(super) struct Moments {
    pub(super) m: Tensor,
    pub(super) v: Tensor,
}

impl Moments {
    /// Zeros for `scalars` parameters.
    pub(super) fn zeros(scalars: usize, device: &Device) -> Result<Self> {
        let arena = || Tensor::zeros(scalars, DType::F32, device);
        Ok(Self {
            m: arena()?,
            v: arena()?,
        })
    }
}

/// What a gradient of norm `norm` is multiplied with: `min(1, clip / (norm + 1e-6))`, as Megatron and PyTorch do; a `clip` of 0 is no clipping.
pub(super) fn clip_factor(clip: f64, norm: f64) -> f64 {
    if clip > 0.0 {
        (clip / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    }
}

/// The numbers of one update before clipping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates<'a> {
    pub(super) optimizer: &'a Optimizer,
    /// Learning rate.
    pub(super) lr: f64,
    /// Number of the update, from 1.
    pub(super) update: u64,
}

impl Rates<'_> {
    fn adamw(&self, decays: bool, grad_scale: f64) -> adamw::AdamW {
        let optimizer = self.optimizer;
        adamw::AdamW {
            lr: self.lr,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            eps: optimizer.eps,
            weight_decay: if decays { optimizer.weight_decay } else { 0.0 },
            step: self.update,
            grad_scale,
        }
    }
}

/// Updates weights and moments by `grad_scale` times the gradients; decay applies to tensors with two dimensions and more.
pub(super) fn update(
    parameters: &Parameters,
    moments: &Moments,
    rates: Rates<'_>,
    grad_scale: f64,
) -> Result<()> {
    for (range, decays) in parameters.decay_ranges() {
        let [master, grad, m, v] = parts(parameters, moments, &range)?;
        adamw::step(&master, &grad, &m, &v, rates.adamw(decays, grad_scale))?;
    }
    Ok(())
}

/// [`update`] by as much of the gradients as `guard` has found, without waiting for it; nothing changes if it says to skip.
pub(super) fn update_guarded(
    parameters: &Parameters,
    moments: &Moments,
    rates: Rates<'_>,
    guard: &Guard,
) -> Result<()> {
    let has_copy = parameters.weights().dtype() != DType::F32;
    for (range, decays) in parameters.decay_ranges() {
        let [master, grad, m, v] = parts(parameters, moments, &range)?;
        let weights = has_copy
            .then(|| parameters.weights().narrow(0, range.start, range.len()))
            .transpose()?;
        let numbers = rates.adamw(decays, 1.0);
        adamw::step_guarded(&master, &grad, &m, &v, weights.as_ref(), guard, numbers)?;
    }
    Ok(())
}

/// Masters, gradients and moments of a range of the arenas.
fn parts(parameters: &Parameters, moments: &Moments, range: &Range<usize>) -> Result<[Tensor; 4]> {
    let part = |arena: &Tensor| arena.narrow(0, range.start, range.len());
    Ok([
        part(parameters.masters())?,
        part(parameters.grads())?,
        part(&moments.m)?,
        part(&moments.v)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_only_shortens() {
        assert_eq!(clip_factor(0.0, 50.0), 1.0);
        assert_eq!(clip_factor(1.0, 0.5), 1.0);
        assert_eq!(clip_factor(1.0, 4.0), 1.0 / (4.0 + 1e-6));
    }
}
