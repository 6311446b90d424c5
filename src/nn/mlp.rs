//! SwiGLU: `down(silu(gate(x)) * up(x))`.
//!
//! `gate_proj` and `up_proj` lie one behind the other in the arena and are one matrix product.

use candle_core::Tensor;

use crate::ops::{linear, silu_mul};

use super::NnError;
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// The dense MLP of a layer.
#[derive(Debug)]
pub(super) struct Mlp {
    /// `[2I, h]`, gate first.
    gate_up_proj: Parameter,
    down_proj: Parameter,
    keeps_gate_up: bool,
}

/// What the MLP's backward needs besides its input.
#[derive(Debug)]
pub(super) struct Saved {
    /// `[N, 2I]`.
    gate_up: Option<Tensor>,
}

impl Saved {
    pub(super) fn bytes(&self) -> usize {
        bytes(&self.gate_up)
    }
}

impl Mlp {
    /// The MLP whose names start with `prefix`, such as `model.layers.0.mlp.`.
    pub(super) fn new(
        parameters: &Parameters,
        prefix: &str,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let name = |name: &str| format!("{prefix}{name}.weight");
        Ok(Self {
            gate_up_proj: parameters.joined(&[name("gate_proj"), name("up_proj")])?,
            down_proj: parameters.get(&name("down_proj"))?,
            keeps_gate_up: recompute.keeps(Part::MlpAct),
        })
    }

    /// `residual` plus the MLP of `x`, `[N, h]` each.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        residual: &Tensor,
    ) -> Result<(Tensor, Saved), NnError> {
        let gate_up = linear::forward(x, &self.gate_up_proj.weight)?;
        let activation = silu_mul::joined_forward(&gate_up)?;
        let y = linear::forward_add(&activation, &self.down_proj.weight, residual)?;
        let gate_up = self.keeps_gate_up.then_some(gate_up);
        Ok((y, Saved { gate_up }))
    }

    /// The gradient of the input `x`.
    pub(super) fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        saved: Saved,
    ) -> Result<Tensor, NnError> {
        let d_activation = linear::backward_input(dy, &self.down_proj.weight)?;
        let gate_up = match saved.gate_up {
            Some(gate_up) => gate_up,
            None => linear::forward(x, &self.gate_up_proj.weight)?,
        };
        let (d_gate_up, activation) = silu_mul::joined_backward(&d_activation, &gate_up)?;
        drop((d_activation, gate_up));
        linear::backward_weight(dy, &activation, &self.down_proj.grad)?;
        drop(activation);
        linear::backward_weight(&d_gate_up, x, &self.gate_up_proj.grad)?;
        Ok(linear::backward_input(
            &d_gate_up,
            &self.gate_up_proj.weight,
        )?)
    }
}
