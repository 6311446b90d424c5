//! The gated delta net: short convolution, gated delta rule, gated norm.
//!
//! `N` tokens, `Kl` key heads of width `dk`, `Hv` value heads of width `dv`, `C = 2 Kl dk + Hv dv` channels of the
//! convolution: queries, keys, values.

use candle_core::Tensor;

use crate::ops::{CuSeqlens, columns, conv1d, gated_delta, gated_norm, gdn_gates, linear};
use crate::spec::TextConfig;

use super::NnError;
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// The gated delta net of a layer.
#[derive(Debug)]
pub(super) struct GatedDeltaNet {
    in_proj_qkv: Parameter,
    in_proj_z: Parameter,
    in_proj_b: Parameter,
    in_proj_a: Parameter,
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
    keeps_norm: bool,
}

/// What the backward needs besides the layer's input.
#[derive(Debug)]
pub(super) struct Saved {
    /// Before the convolution, `[N, C]`.
    qkv: Tensor,
    /// `[N, Hv * dv]`.
    z: Tensor,
    /// `[N, Hv]`.
    b: Tensor,
    a: Tensor,
    core: Option<Core>,
    /// The normed output `[N, Hv * dv]`.
    normed: Option<Tensor>,
}

impl Saved {
    pub(super) fn bytes(&self) -> usize {
        bytes(
            [&self.qkv, &self.z, &self.b, &self.a]
                .into_iter()
                .chain(&self.normed),
        ) + self
            .core
            .as_ref()
            .map_or(0, |core| bytes([&core.o]) + core.delta.bytes())
    }
}

/// What the delta rule computes: output `[N, Hv, dv]`, and what its own backward needs.
#[derive(Debug)]
struct Core {
    o: Tensor,
    delta: gated_delta::Saved,
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
        let conv1d = get("conv1d.weight")?;
        let taps = (config.linear_conv_dim(), config.linear_conv_kernel_dim);
        Ok(Self {
            in_proj_qkv: get("in_proj_qkv.weight")?,
            in_proj_z: get("in_proj_z.weight")?,
            in_proj_b: get("in_proj_b.weight")?,
            in_proj_a: get("in_proj_a.weight")?,
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
            keeps_norm: recompute.keeps(Part::Norm) && recompute.keeps(Part::GatedDelta),
        })
    }

    /// `[N, h]` to `[N, h]`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        cu_seqlens: &CuSeqlens,
    ) -> Result<(Tensor, Saved), NnError> {
        let qkv = linear::forward(x, &self.in_proj_qkv.weight)?;
        let z = linear::forward(x, &self.in_proj_z.weight)?;
        let b = linear::forward(x, &self.in_proj_b.weight)?;
        let a = linear::forward(x, &self.in_proj_a.weight)?;
        let core = self.core(&qkv, &a, &b, cu_seqlens)?;
        let normed = self.normed(&core.o, &z)?;
        let y = linear::forward(&normed, &self.out_proj.weight)?;
        Ok((
            y,
            Saved {
                qkv,
                z,
                b,
                a,
                core: self.keeps_core.then_some(core),
                normed: self.keeps_norm.then_some(normed),
            },
        ))
    }

    /// The gradient of the input `x`.
    pub(super) fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        saved: Saved,
        cu_seqlens: &CuSeqlens,
    ) -> Result<Tensor, NnError> {
        let n = x.dim(0)?;
        let Saved { qkv, z, b, a, .. } = saved;
        let core = match saved.core {
            Some(core) => core,
            None => self.core(&qkv, &a, &b, cu_seqlens)?,
        };
        let normed = match saved.normed {
            Some(normed) => normed,
            None => self.normed(&core.o, &z)?,
        };

        linear::backward_weight(dy, &normed, &self.out_proj.grad)?;
        let d_normed = linear::backward_input(dy, &self.out_proj.weight)?;
        let rows = (n * self.value_heads, self.value_dim);
        let (d_o, d_z) = gated_norm::backward(
            &d_normed.reshape(rows)?,
            &core.o.reshape(rows)?,
            &z.reshape(rows)?,
            &self.norm.weight,
            self.eps,
            &self.norm.grad,
        )?;
        let d_z = d_z.reshape((n, self.value_heads * self.value_dim))?;
        let d_o = d_o.reshape((n, self.value_heads, self.value_dim))?;
        let delta = gated_delta::backward(&d_o, None, &core.delta)?;
        let (d_a, d_b) = gdn_gates::backward(
            &delta.dg,
            &delta.dbeta,
            &a,
            &b,
            &self.a_log.weight,
            &self.dt_bias.weight,
            &self.a_log.grad,
            &self.dt_bias.grad,
        )?;
        let flat = |t: &Tensor| t.reshape((n, t.elem_count() / n));
        let d_conv = columns::join(&[&flat(&delta.dq)?, &flat(&delta.dk)?, &flat(&delta.dv)?])?;
        let d_qkv = conv1d::backward(
            &d_conv,
            &qkv,
            &self.conv1d.weight,
            cu_seqlens,
            &self.conv1d.grad,
        )?;

        let projections = [
            (&d_qkv, &self.in_proj_qkv),
            (&d_z, &self.in_proj_z),
            (&d_b, &self.in_proj_b),
            (&d_a, &self.in_proj_a),
        ];
        for (d_out, projection) in projections {
            linear::backward_weight(d_out, x, &projection.grad)?;
        }
        let dx = linear::backward_input(&d_qkv, &self.in_proj_qkv.weight)?;
        for (d_out, projection) in &projections[1..] {
            linear::backward_input_into(d_out, &projection.weight, &dx)?;
        }
        Ok(dx)
    }

    /// Convolution, gates and delta rule.
    fn core(
        &self,
        qkv: &Tensor,
        a: &Tensor,
        b: &Tensor,
        cu_seqlens: &CuSeqlens,
    ) -> Result<Core, NnError> {
        let n = qkv.dim(0)?;
        let mixed = conv1d::forward(qkv, &self.conv1d.weight, cu_seqlens)?;
        let keys = self.key_heads * self.key_dim;
        let widths = [keys, keys, self.value_heads * self.value_dim];
        let [q, k, v] = columns::split(&mixed, &widths)?;
        let q = q.reshape((n, self.key_heads, self.key_dim))?;
        let k = k.reshape((n, self.key_heads, self.key_dim))?;
        let v = v.reshape((n, self.value_heads, self.value_dim))?;
        let (g, beta) = gdn_gates::forward(a, b, &self.a_log.weight, &self.dt_bias.weight)?;
        let output = gated_delta::forward(&q, &k, &v, &g, &beta, cu_seqlens, None)?;
        Ok(Core {
            o: output.o,
            delta: output.saved,
        })
    }

    fn normed(&self, o: &Tensor, z: &Tensor) -> Result<Tensor, NnError> {
        let rows = (o.dim(0)? * self.value_heads, self.value_dim);
        let y = gated_norm::forward(
            &o.reshape(rows)?,
            &z.reshape(rows)?,
            &self.norm.weight,
            self.eps,
        )?;
        Ok(y.reshape(z.shape())?)
    }
}
