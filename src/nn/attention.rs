//! Gated full attention: grouped queries, normed queries and keys, partial rotary embedding, sigmoid gate.
//!
//! `N` tokens, `H` query heads, `K` key-value heads, `d` head width, `h` hidden size. The rows of `q_proj` are, head by
//! head, `d` of the query and `d` of its gate.

use candle_core::Tensor;

use crate::ops::{CuSeqlens, attention, columns, linear, rms_norm, rope, sigmoid_gate};
use crate::spec::TextConfig;

use super::NnError;
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// Full attention of a layer; the decoder's and MTP's are this same one.
#[derive(Debug)]
pub(super) struct Attention {
    q_proj: Parameter,
    k_proj: Parameter,
    v_proj: Parameter,
    o_proj: Parameter,
    q_norm: Parameter,
    k_norm: Parameter,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f64,
    keeps_core: bool,
    keeps_norm: bool,
}

/// What the backward needs besides the layer's input.
#[derive(Debug)]
pub(super) struct Saved {
    /// Before norm, `[N * H, d]` and `[N * K, d]`.
    q: Tensor,
    k: Tensor,
    /// `[N, K, d]`.
    v: Tensor,
    /// Before the sigmoid, `[N, H * d]`.
    gate: Tensor,
    rotated: Option<Rotated>,
    core: Option<Core>,
}

impl Saved {
    pub(super) fn bytes(&self) -> usize {
        bytes([&self.q, &self.k, &self.v, &self.gate])
            + bytes(self.rotated.iter().flat_map(|r| [&r.q, &r.k]))
            + bytes(self.core.iter().flat_map(|c| [&c.o, &c.lse, &c.gated]))
    }
}

/// Queries `[N, H, d]` and keys `[N, K, d]` after norm and rotary embedding.
#[derive(Debug)]
struct Rotated {
    q: Tensor,
    k: Tensor,
}

/// What softmax attention computes: output `[N, H, d]`, log-sum-exp `[N, H]`, and the output times its gate `[N, H * d]`.
#[derive(Debug)]
struct Core {
    o: Tensor,
    lse: Tensor,
    gated: Tensor,
}

impl Attention {
    /// The attention whose names start with `prefix`, such as `model.layers.3.self_attn.`.
    pub(super) fn new(
        config: &TextConfig,
        parameters: &Parameters,
        prefix: &str,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let get = |name: &str| parameters.get(&format!("{prefix}{name}.weight"));
        Ok(Self {
            q_proj: get("q_proj")?,
            k_proj: get("k_proj")?,
            v_proj: get("v_proj")?,
            o_proj: get("o_proj")?,
            q_norm: get("q_norm")?,
            k_norm: get("k_norm")?,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            eps: config.rms_norm_eps,
            keeps_core: recompute.keeps(Part::CoreAttn),
            keeps_norm: recompute.keeps(Part::Norm),
        })
    }

    /// `[N, h]` to `[N, h]`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        table: &rope::Table,
        cu_seqlens: &CuSeqlens,
    ) -> Result<(Tensor, Saved), NnError> {
        let (n, d) = (x.dim(0)?, self.head_dim);
        let heads = linear::forward(x, &self.q_proj.weight)?.reshape((n * self.heads, 2 * d))?;
        let [q, gate] = columns::split(&heads, &[d, d])?;
        let gate = gate.reshape((n, self.heads * d))?;
        let k = linear::forward(x, &self.k_proj.weight)?.reshape((n * self.kv_heads, d))?;
        let v = linear::forward(x, &self.v_proj.weight)?.reshape((n, self.kv_heads, d))?;
        let rotated = self.rotate(&q, &k, table)?;
        let core = self.core(&rotated, &v, &gate, cu_seqlens)?;
        let y = linear::forward(&core.gated, &self.o_proj.weight)?;
        Ok((
            y,
            Saved {
                q,
                k,
                v,
                gate,
                rotated: self.keeps_norm.then_some(rotated),
                core: self.keeps_core.then_some(core),
            },
        ))
    }

    /// The gradient of the input `x`.
    pub(super) fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        saved: Saved,
        table: &rope::Table,
        cu_seqlens: &CuSeqlens,
    ) -> Result<Tensor, NnError> {
        let (n, d) = (x.dim(0)?, self.head_dim);
        let Saved { q, k, v, gate, .. } = saved;
        let rotated = match saved.rotated {
            Some(rotated) => rotated,
            None => self.rotate(&q, &k, table)?,
        };
        let core = match saved.core {
            Some(core) => core,
            None => self.core(&rotated, &v, &gate, cu_seqlens)?,
        };

        linear::backward_weight(dy, &core.gated, &self.o_proj.grad)?;
        let d_gated = linear::backward_input(dy, &self.o_proj.weight)?;
        let o_flat = core.o.reshape((n, self.heads * d))?;
        let (d_o, d_gate) = sigmoid_gate::backward(&d_gated, &o_flat, &gate)?;
        let (d_q, d_k, d_v) = attention::backward(
            &d_o.reshape((n, self.heads, d))?,
            &rotated.q,
            &rotated.k,
            &v,
            &core.o,
            &core.lse,
            cu_seqlens,
            self.scale(),
        )?;
        let d_q = rms_norm::backward(
            &rope::backward(&d_q, table)?.reshape((n * self.heads, d))?,
            &q,
            &self.q_norm.weight,
            self.eps,
            &self.q_norm.grad,
        )?;
        let d_k = rms_norm::backward(
            &rope::backward(&d_k, table)?.reshape((n * self.kv_heads, d))?,
            &k,
            &self.k_norm.weight,
            self.eps,
            &self.k_norm.grad,
        )?;

        let d_gate = d_gate.reshape(d_q.shape())?;
        let d_q_and_gate = columns::join(&[&d_q, &d_gate])?.reshape((n, self.heads * 2 * d))?;
        let d_k = d_k.reshape((n, self.kv_heads * d))?;
        let d_v = d_v.reshape((n, self.kv_heads * d))?;
        linear::backward_weight(&d_q_and_gate, x, &self.q_proj.grad)?;
        linear::backward_weight(&d_k, x, &self.k_proj.grad)?;
        linear::backward_weight(&d_v, x, &self.v_proj.grad)?;
        let dx = linear::backward_input(&d_q_and_gate, &self.q_proj.weight)?;
        linear::backward_input_into(&d_k, &self.k_proj.weight, &dx)?;
        linear::backward_input_into(&d_v, &self.v_proj.weight, &dx)?;
        Ok(dx)
    }

    fn rotate(&self, q: &Tensor, k: &Tensor, table: &rope::Table) -> Result<Rotated, NnError> {
        let normed = |x: &Tensor, norm: &Parameter, heads: usize| -> Result<Tensor, NnError> {
            let y = rms_norm::forward(x, &norm.weight, self.eps)?;
            let n = x.dim(0)? / heads;
            Ok(rope::forward(
                &y.reshape((n, heads, self.head_dim))?,
                table,
            )?)
        };
        Ok(Rotated {
            q: normed(q, &self.q_norm, self.heads)?,
            k: normed(k, &self.k_norm, self.kv_heads)?,
        })
    }

    fn core(
        &self,
        rotated: &Rotated,
        v: &Tensor,
        gate: &Tensor,
        cu_seqlens: &CuSeqlens,
    ) -> Result<Core, NnError> {
        let (o, lse) = attention::forward(&rotated.q, &rotated.k, v, cu_seqlens, self.scale())?;
        let gated = sigmoid_gate::forward(&o.reshape(gate.shape())?, gate)?;
        Ok(Core { o, lse, gated })
    }

    fn scale(&self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }
}
