//! One `AdamW` update over the arenas.

use candle_core::{DType, Device, Result, Tensor};

use crate::nn::Parameters;
use crate::ops::adamw;
use crate::recipe::Optimizer;

/// Adam's running means of gradient and squared gradient, arenas like the weights.
#[derive(Debug)]
pub(super) struct Moments {
    pub(super) m: Tensor,
    pub(super) v: Tensor,
}

impl Moments {
    /// Zeros for `scalars` parameters.
    pub(super) fn zeros(scalars: usize) -> Result<Self> {
        let arena = || Tensor::zeros(scalars, DType::F32, &Device::Cpu);
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

/// Updates weights and moments by the gradients; `update` counts from 1, decay applies to tensors with two dimensions and more.
pub(super) fn update(
    parameters: &Parameters,
    moments: &Moments,
    optimizer: &Optimizer,
    lr: f64,
    update: u64,
    grad_scale: f64,
) -> Result<()> {
    for (range, decays) in parameters.decay_ranges() {
        let part = |arena: &Tensor| arena.narrow(0, range.start, range.len());
        adamw::step(
            &part(parameters.masters())?,
            &part(parameters.grads())?,
            &part(&moments.m)?,
            &part(&moments.v)?,
            adamw::AdamW {
                lr,
                beta1: optimizer.beta1,
                beta2: optimizer.beta2,
                eps: optimizer.eps,
                weight_decay: if decays { optimizer.weight_decay } else { 0.0 },
                step: update,
                grad_scale,
            },
        )?;
    }
    Ok(())
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
