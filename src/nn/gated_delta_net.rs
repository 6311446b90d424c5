//! The gated delta net: short convolution, gated delta rule, gated norm.
//!
//! `N` tokens, `Kl` key heads of width `dk`, `Hv` value heads of width `dv`, `C = 2 Kl dk + Hv dv` channels of the
//! convolution: queries, keys, values. The four input projections lie one behind the other in the arena and are one matrix product
//! with columns `[qkv C | z Hv dv | b Hv | a Hv]`.

use candle_core::Tensor;

use crate::ops::{self, CuSeqlens, conv1d, gated_delta, gated_norm, gdn_gates, linear};
use crate::spec::TextConfig;

use super::NnError;
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// The gated delta net of a layer.
#[derive(Debug)]
pub(super) struct GatedDeltaNet {
    /// `[C + Hv dv + 2 Hv, h]`.
    in_proj: Parameter,
    /// `[C, W]`.
    conv1d: Parameter,
    a_log: Parameter,
    dt_bias: Parameter,
    norm: Parameter,
    out_proj: Parameter,
    key_heads: usize,
    value_heads: usize,
    key_dim: usize,
    value_dim: usize,
    eps: f64,
    keeps_core: bool,
    keeps_inputs: bool,
}

/// What the backward needs besides the layer's input.
#[derive(Debug)]
pub(super) struct Saved {
    /// The output of the input projections.
    projected: Tensor,
    core: Option<Core>,
}

impl Saved {
    pub(super) fn bytes(&self) -> usize {
        let core = self.core.as_ref();
        bytes([&self.projected]) + core.map_or(0, |core| bytes([&core.o]) + core.rule.bytes())
    }
}

/// What the delta rule computes: output `[N, Hv, dv]`, and what its own backward needs.
#[derive(Debug)]
struct Core {
    o: Tensor,
    rule: Rule,
}

/// The delta rule's own saved tensors, with or without its inputs.
#[derive(Debug)]
enum Rule {
    Whole(gated_delta::Saved),
    WithoutInputs(gated_delta::Kept),
}

impl Rule {
    fn bytes(&self) -> usize {
        match self {
            Self::Whole(saved) => saved.bytes(),
            Self::WithoutInputs(kept) => kept.bytes(),
        }
    }
}

/// Inputs of the delta rule.
struct Inputs {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
}

/// Columns of the joint projection, or of its gradient.
struct Columns {
    qkv: Tensor,
    z: Tensor,
    b: Tensor,
    a: Tensor,
}

impl GatedDeltaNet {
    /// The gated delta net whose names start with `prefix`, such as `model.layers.0.linear_attn.`.
    pub(super) fn new(
        config: &TextConfig,
        parameters: &Parameters,
        prefix: &str,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let get = |name: &str| parameters.get(&format!("{prefix}{name}"));
        let projections = ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"];
        let conv1d = get("conv1d.weight")?;
        let taps = (config.linear_conv_dim(), config.linear_conv_kernel_dim);
        Ok(Self {
            in_proj: parameters
                .joined(&projections.map(|name| format!("{prefix}{name}.weight")))?,
            conv1d: Parameter {
                weight: conv1d.weight.reshape(taps)?,
                grad: conv1d.grad.reshape(taps)?,
            },
            a_log: get("A_log")?,
            dt_bias: get("dt_bias")?,
            norm: get("norm.weight")?,
            out_proj: get("out_proj.weight")?,
            key_heads: config.linear_num_key_heads,
            value_heads: config.linear_num_value_heads,
            key_dim: config.linear_key_head_dim,
            value_dim: config.linear_value_head_dim,
            eps: config.rms_norm_eps,
            keeps_core: recompute.keeps(Part::GatedDelta),
            keeps_inputs: parameters.keeps_cheap(),
        })
    }

    /// `residual` plus the mixer of `x`, `[N, h]` each.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        residual: &Tensor,
        cu_seqlens: &CuSeqlens,
    ) -> Result<(Tensor, Saved), NnError> {
        let projected = linear::forward(x, &self.in_proj.weight)?;
        let columns = self.columns(&projected)?;
        let (o, rule) = self.core(&columns, cu_seqlens)?;
        let normed = gated_norm::forward(&o, &columns.z, &self.norm.weight, self.eps)?;
        let y = linear::forward_add(&normed, &self.out_proj.weight, residual)?;
        let core = self.keeps_core.then(|| Core {
            o,
            rule: if self.keeps_inputs {
                Rule::Whole(rule)
            } else {
                Rule::WithoutInputs(rule.without_inputs())
            },
        });
        Ok((y, Saved { projected, core }))
    }

    /// The gradient of the input `x`.
    pub(super) fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        saved: Saved,
        cu_seqlens: &CuSeqlens,
    ) -> Result<Tensor, NnError> {
        let columns = self.columns(&saved.projected)?;
        let (o, rule) = match saved.core {
            None => self.core(&columns, cu_seqlens)?,
            Some(Core {
                o,
                rule: Rule::Whole(rule),
            }) => (o, rule),
            Some(Core {
                o,
                rule: Rule::WithoutInputs(kept),
            }) => {
                let Inputs { q, k, v, g, beta } = self.inputs(&columns, cu_seqlens)?;
                (o, kept.with_inputs(q, k, v, g, beta))
            }
        };
        let d_projected = ops::buffer(&saved.projected, saved.projected.dims())?;
        let into = self.columns(&d_projected)?;

        let d_normed = linear::backward_input(dy, &self.out_proj.weight)?;
        let (d_o, normed) = gated_norm::backward_into(
            &d_normed,
            &o,
            &columns.z,
            &self.norm.weight,
            self.eps,
            &self.norm.grad,
            &into.z,
        )?;
        drop((d_normed, o));
        linear::backward_weight(dy, &normed, &self.out_proj.grad)?;
        drop(normed);
        let delta = gated_delta::backward(&d_o, None, &rule)?;
        drop((d_o, rule));
        gdn_gates::backward_into(
            &delta.dg,
            &delta.dbeta,
            &columns.a,
            &columns.b,
            &self.a_log.weight,
            &self.dt_bias.weight,
            &self.a_log.grad,
            &self.dt_bias.grad,
            &into.a,
            &into.b,
        )?;
        conv1d::backward_into(
            &delta.joined()?,
            &columns.qkv,
            &self.conv1d.weight,
            cu_seqlens,
            &self.conv1d.grad,
            &into.qkv,
        )?;
        drop(delta);
        linear::backward_weight(&d_projected, x, &self.in_proj.grad)?;
        Ok(linear::backward_input(&d_projected, &self.in_proj.weight)?)
    }

    fn columns(&self, projected: &Tensor) -> Result<Columns, NnError> {
        let mut start = 0;
        let mut next = |width: usize| -> Result<Tensor, NnError> {
            start += width;
            Ok(projected.narrow(1, start - width, width)?)
        };
        let value = self.value_heads * self.value_dim;
        Ok(Columns {
            qkv: next(2 * self.key_heads * self.key_dim + value)?,
            z: next(value)?,
            b: next(self.value_heads)?,
            a: next(self.value_heads)?,
        })
    }

    /// Convolution and gates.
    fn inputs(&self, columns: &Columns, cu_seqlens: &CuSeqlens) -> Result<Inputs, NnError> {
        let mixed = conv1d::forward(&columns.qkv, &self.conv1d.weight, cu_seqlens)?;
        let (g, beta) = gdn_gates::forward(
            &columns.a,
            &columns.b,
            &self.a_log.weight,
            &self.dt_bias.weight,
        )?;
        let (keys, values) = (self.key_heads, self.value_heads);
        let width = keys * self.key_dim;
        Ok(Inputs {
            q: gated_delta::heads(&mixed, 0, keys, self.key_dim)?,
            k: gated_delta::heads(&mixed, width, keys, self.key_dim)?,
            v: gated_delta::heads(&mixed, 2 * width, values, self.value_dim)?,
            g,
            beta,
        })
    }

    /// Convolution, gates and delta rule.
    fn core(
        &self,
        columns: &Columns,
        cu_seqlens: &CuSeqlens,
    ) -> Result<(Tensor, gated_delta::Saved), NnError> {
        let Inputs { q, k, v, g, beta } = self.inputs(columns, cu_seqlens)?;
        let output = gated_delta::forward(&q, &k, &v, &g, &beta, cu_seqlens, None)?;
        Ok((output.o, output.saved))
    }
}
