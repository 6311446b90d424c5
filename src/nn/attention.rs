//! Gated full attention: grouped queries, normed queries and keys, partial rotary embedding, sigmoid gate.
//!
//! `N` tokens, `H` query heads, `K` key-value heads, `d` head width, `h` hidden size. The three input projections lie one behind the
//! other in the arena and are one matrix product. Its columns, in pieces of `d`: for every query head the query and its gate, then keys,
//! then values.

use candle_core::Tensor;

use crate::ops::{self, CuSeqlens, attention, linear, qk_norm_rope, rope, sigmoid_gate};
use crate::spec::TextConfig;

use super::NnError;
use super::parameters::{Parameter, Parameters};
use super::recompute::{Part, Recompute, bytes};

/// Full attention of a layer; the decoder's and MTP's are this same one.
#[derive(Debug)]
pub(super) struct Attention {
    /// `[2 H d + 2 K d, h]`.
    qkv_proj: Parameter,
    o_proj: Parameter,
    q_norm: Parameter,
    k_norm: Parameter,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f64,
    keeps_core: bool,
    keeps_rotated: bool,
}

/// What the backward needs besides the layer's input.
#[derive(Debug)]
pub(super) struct Saved {
    /// The output of the input projections.
    projected: Tensor,
    rotated: Option<Rotated>,
    core: Option<Core>,
}

impl Saved {
    pub(super) fn bytes(&self) -> usize {
        bytes([&self.projected])
            + bytes(self.rotated.iter().flat_map(|r| [&r.q, &r.k]))
            + bytes(self.core.iter().flat_map(|c| [&c.o, &c.lse]))
    }
}

/// Queries `[N, H, d]` and keys `[N, K, d]` after norm and rotary embedding.
#[derive(Debug)]
struct Rotated {
    q: Tensor,
    k: Tensor,
}

/// What softmax attention computes: output `[N, H, d]`, log-sum-exp `[N, H]`.
#[derive(Debug)]
struct Core {
    o: Tensor,
    lse: Tensor,
}

/// Columns of the joint projection, or of its gradient: `q` and `gate` `[N, H, d]`, `k` and `v` `[N, K, d]`.
struct Columns {
    q: Tensor,
    gate: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Attention {
    /// The attention whose names start with `prefix`, such as `model.layers.3.self_attn.`.
    pub(super) fn new(
        config: &TextConfig,
        parameters: &Parameters,
        prefix: &str,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let name = |name: &str| format!("{prefix}{name}.weight");
        let get = |at: &str| parameters.get(&name(at));
        Ok(Self {
            qkv_proj: parameters.joined(&["q_proj", "k_proj", "v_proj"].map(name))?,
            o_proj: get("o_proj")?,
            q_norm: get("q_norm")?,
            k_norm: get("k_norm")?,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            eps: config.rms_norm_eps,
            keeps_core: recompute.keeps(Part::CoreAttn),
            keeps_rotated: recompute.keeps(Part::Norm) && parameters.keeps_cheap(),
        })
    }

    /// `residual` plus the mixer of `x`, `[N, h]` each.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        residual: &Tensor,
        table: &rope::Table,
        cu_seqlens: &CuSeqlens,
    ) -> Result<(Tensor, Saved), NnError> {
        let projected = linear::forward(x, &self.qkv_proj.weight)?;
        let columns = self.columns(&projected)?;
        let rotated = self.rotate(&columns, table)?;
        let core = self.core(&rotated, &columns, cu_seqlens)?;
        let gated = sigmoid_gate::forward(&core.o, &columns.gate)?;
        let y = linear::forward_add(&gated, &self.o_proj.weight, residual)?;
        Ok((
            y,
            Saved {
                projected,
                rotated: self.keeps_rotated.then_some(rotated),
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
        let columns = self.columns(&saved.projected)?;
        let rotated = match saved.rotated {
            Some(rotated) => rotated,
            None => self.rotate(&columns, table)?,
        };
        let core = match saved.core {
            Some(core) => core,
            None => self.core(&rotated, &columns, cu_seqlens)?,
        };
        let d_projected = ops::buffer(&saved.projected, saved.projected.dims())?;
        let into = self.columns(&d_projected)?;

        let d_gated = linear::backward_input(dy, &self.o_proj.weight)?;
        let (d_o, gated) =
            sigmoid_gate::backward_into(&d_gated, &core.o, &columns.gate, &into.gate)?;
        drop(d_gated);
        linear::backward_weight(dy, &gated, &self.o_proj.grad)?;
        drop(gated);
        let (d_q, d_k) = attention::backward_into(
            &d_o,
            &rotated.q,
            &rotated.k,
            &columns.v,
            &core.o,
            &core.lse,
            cu_seqlens,
            self.scale(),
            &into.v,
        )?;
        drop((d_o, rotated, core));
        for (dy, x, norm, dx) in [
            (&d_q, &columns.q, &self.q_norm, &into.q),
            (&d_k, &columns.k, &self.k_norm, &into.k),
        ] {
            let (w, dw) = (&norm.weight, &norm.grad);
            qk_norm_rope::backward_into(dy, x, w, self.eps, table, dw, dx)?;
        }
        linear::backward_weight(&d_projected, x, &self.qkv_proj.grad)?;
        Ok(linear::backward_input(&d_projected, &self.qkv_proj.weight)?)
    }

    fn columns(&self, projected: &Tensor) -> Result<Columns, NnError> {
        let (n, d) = (projected.dim(0)?, self.head_dim);
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let pairs = projected
            .reshape((n, heads + kv_heads, 2, d))?
            .narrow(1, 0, heads)?;
        let pieces = projected.reshape((n, 2 * (heads + kv_heads), d))?;
        Ok(Columns {
            q: pairs.narrow(2, 0, 1)?.squeeze(2)?,
            gate: pairs.narrow(2, 1, 1)?.squeeze(2)?,
            k: pieces.narrow(1, 2 * heads, kv_heads)?,
            v: pieces.narrow(1, 2 * heads + kv_heads, kv_heads)?,
        })
    }

    fn rotate(&self, columns: &Columns, table: &rope::Table) -> Result<Rotated, NnError> {
        let rotate =
            |x: &Tensor, norm: &Parameter| qk_norm_rope::forward(x, &norm.weight, self.eps, table);
        Ok(Rotated {
            q: rotate(&columns.q, &self.q_norm)?,
            k: rotate(&columns.k, &self.k_norm)?,
        })
    }

    fn core(
        &self,
        rotated: &Rotated,
        columns: &Columns,
        cu_seqlens: &CuSeqlens,
    ) -> Result<Core, NnError> {
        let (q, k) = (&rotated.q, &rotated.k);
        let (o, lse) = attention::forward(q, k, &columns.v, cu_seqlens, self.scale())?;
        Ok(Core { o, lse })
    }

    fn scale(&self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }
}
