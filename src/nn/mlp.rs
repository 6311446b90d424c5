//! SwiGLU: `down(silu(gate(x)) * up(x))`.

use candle_core::Tensor;

use crate::ops::{linear, silu_mul};

use super::NnError;
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// The dense MLP of a layer.
#[derive(Debug)]
pub(super) struct Mlp {
    gate_proj: Parameter,
    up_proj: Parameter,
    down_proj: Parameter,
    keeps_activation: bool,
}

/// What the MLP's backward needs besides its input.
#[derive(Debug)]
pub(super) struct Saved {
    gate: Tensor,
    up: Tensor,
    activation: Option<Tensor>,
}

impl Saved {
    pub(super) fn bytes(&self) -> usize {
        bytes([&self.gate, &self.up].into_iter().chain(&self.activation))
    }
}

impl Mlp {
    /// The MLP whose names start with `prefix`, such as `model.layers.0.mlp.`.
    pub(super) fn new(
        parameters: &Parameters,
        prefix: &str,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let get = |name: &str| parameters.get(&format!("{prefix}{name}.weight"));
        Ok(Self {
            gate_proj: get("gate_proj")?,
            up_proj: get("up_proj")?,
            down_proj: get("down_proj")?,
            keeps_activation: recompute.keeps(Part::MlpAct),
        })
    }

    /// `[N, h]` to `[N, h]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<(Tensor, Saved), NnError> {
        let gate = linear::forward(x, &self.gate_proj.weight)?;
        let up = linear::forward(x, &self.up_proj.weight)?;
        let activation = silu_mul::forward(&gate, &up)?;
        let y = linear::forward(&activation, &self.down_proj.weight)?;
        let activation = self.keeps_activation.then_some(activation);
        Ok((
            y,
            Saved {
                gate,
                up,
                activation,
            },
        ))
    }

    /// The gradient of the input `x`.
    pub(super) fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        saved: Saved,
    ) -> Result<Tensor, NnError> {
        let activation = match saved.activation {
            Some(activation) => activation,
            None => silu_mul::forward(&saved.gate, &saved.up)?,
        };
        linear::backward_weight(dy, &activation, &self.down_proj.grad)?;
        let d_activation = linear::backward_input(dy, &self.down_proj.weight)?;
        let (d_gate, d_up) = silu_mul::backward(&d_activation, &saved.gate, &saved.up)?;
        linear::backward_weight(&d_gate, x, &self.gate_proj.grad)?;
        linear::backward_weight(&d_up, x, &self.up_proj.grad)?;
        let dx = linear::backward_input(&d_gate, &self.gate_proj.weight)?;
        linear::backward_input_into(&d_up, &self.up_proj.weight, &dx)?;
        Ok(dx)
    }
}
