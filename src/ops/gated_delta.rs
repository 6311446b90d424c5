//! The gated delta rule of the gated delta net, recurrent and in chunks.
//!
//! Per value head, with state `S [dk, dv]`, `k` and `q` of unit length (epsilon 1e-6 under the root) and `q` times `dk^-1/2`:
//!
//! ```text
//! S <- exp(g_t) S      d = beta_t (v_t - S^T k_t)      S <- S + k_t d^T      o_t = S^T q_t
//! ```
//!
//! Value head `j` reads key head `j Kl / Hv`. Every sequence begins with its own initial state, or 0.
//!
//! In chunks of [`CHUNK`] tokens, with `G` the running sum of `g` within the chunk and `D_ij = exp(G_i - G_j)` for `j <= i`, else 0:
//!
//! ```text
//! A_ij = beta_i (k_i . k_j) D_ij  for j < i            P = (Q K^T) o D
//! (I + A) N = beta (V - exp(G) K S)                    O = exp(G) Q S + P N
//! S <- exp(G_last) S + (exp(G_last - G) K)^T N
//! ```
//!
//! On the CPU the forward saves the state at the begin of every chunk and `N`; the backward computes the rest again, chunk by chunk from
//! the end. On CUDA it saves nothing but its inputs, as the views that they are: `4 Kl dk + 2 Hv dv + 8 Hv` bytes a token in bf16, of
//! which all but `8 Hv` are one output of the convolution. Its backward computes states and `N` again.

mod backward;
mod chunk;
#[cfg(feature = "cuda")]
mod cuda;
mod forward;
mod reference;

use candle_core::{Result, Tensor, bail};
use chunk::Geometry;

use super::{CuSeqlens, columns, host};

/// Tokens of a chunk.
pub const CHUNK: usize = 64;

/// What the forward gives.
#[derive(Debug)]
pub struct Output {
    /// `[N, Hv, dv]`.
    pub o: Tensor,
    /// The state after each sequence, `[B, Hv, dk, dv]` for `B` sequences.
    pub final_state: Tensor,
    /// What the backward needs.
    pub saved: Saved,
}

/// What the backward reads: the inputs (shared, not copied); on the CPU also the state at each chunk's begin and end and the corrected values `N`.
#[derive(Debug)]
pub struct Saved {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    kept: Kept,
}

impl Saved {
    /// Bytes that are kept until the backward, the inputs included.
    pub fn bytes(&self) -> usize {
        let inputs = [&self.q, &self.k, &self.v, &self.g, &self.beta];
        let inputs: usize = inputs
            .iter()
            .map(|input| input.elem_count() * input.dtype().size_in_bytes())
            .sum();
        inputs + self.kept.bytes()
    }

    /// Lets go of the inputs, for a caller that computes them again before the backward.
    pub fn without_inputs(self) -> Kept {
        self.kept
    }
}

/// What the backward reads besides the inputs: nothing on CUDA but a given initial state, states and `N` on the CPU.
#[derive(Debug)]
pub struct Kept {
    cu_seqlens: CuSeqlens,
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "the CPU keeps states instead")
    )]
    initial: Option<Tensor>,
    tasks: Vec<forward::TaskSaved>,
}

impl Kept {
    /// Bytes, the initial state not counted, which belongs to the caller.
    pub fn bytes(&self) -> usize {
        let tasks = self.tasks.iter();
        let numbers: usize = tasks.map(|t| t.states.len() + t.corrected.len()).sum();
        numbers * size_of::<f32>()
    }

    /// Takes the inputs that [`forward`] had; others make the gradients those of another function.
    pub fn with_inputs(self, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Saved {
        Saved {
            q,
            k,
            v,
            g,
            beta,
            kept: self,
        }
    }
}

/// The gradients of the inputs, of the same shapes.
#[derive(Debug)]
pub struct Grads {
    /// `[N, Kl, dk]`.
    pub dq: Tensor,
    /// `[N, Kl, dk]`.
    pub dk: Tensor,
    /// `[N, Hv, dv]`.
    pub dv: Tensor,
    /// `[N, Hv]`.
    pub dg: Tensor,
    /// `[N, Hv]`.
    pub dbeta: Tensor,
    /// Of the initial state, `[B, Hv, dk, dv]`.
    pub dstate: Tensor,
    /// What `dq`, `dk` and `dv` are columns of, where they are.
    joined: Option<Tensor>,
}

impl Grads {
    /// `dq`, `dk` and `dv` side by side, as the convolution's gradient is read: `[N, 2 Kl dk + Hv dv]`. No copy on CUDA.
    pub fn joined(&self) -> Result<Tensor> {
        if let Some(joined) = &self.joined {
            return Ok(joined.clone());
        }
        let flat = |t: &Tensor| t.flatten_from(1);
        columns::join(&[&flat(&self.dq)?, &flat(&self.dk)?, &flat(&self.dv)?])
    }
}

/// Columns `[from, from + heads width)` of `joined` as heads, a view that [`forward`] takes as it is.
///
/// # Shapes
/// `joined [N, C]`, result `[N, heads, width]`
pub fn heads(joined: &Tensor, from: usize, heads: usize, width: usize) -> Result<Tensor> {
    joined
        .narrow(1, from, heads * width)?
        .unfold(1, width, width)
}

/// The chunked rule.
///
/// # Shapes
/// `q`, `k` `[N, Kl, dk]` as the convolution gives them, `v [N, Hv, dv]`: views of its columns, packed from their second dimension on;
/// `g` (log decay, at most 0) and `beta` `[N, Hv]`, `initial_state [B, Hv, dk, dv]` for `B` sequences, f32
///
/// On CUDA `dk = dv = 128` in bf16 runs on tensor cores; other widths and f32 go token by token.
pub fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    g: &Tensor,
    beta: &Tensor,
    cu_seqlens: &CuSeqlens,
    initial_state: Option<&Tensor>,
) -> Result<Output> {
    let geometry = geometry(q, k, v, g, beta, cu_seqlens)?;
    let shape = state_shape(cu_seqlens, geometry);
    let saved = |tasks| Saved {
        q: q.clone(),
        k: k.clone(),
        v: v.clone(),
        g: g.clone(),
        beta: beta.clone(),
        kept: Kept {
            cu_seqlens: cu_seqlens.clone(),
            initial: initial_state.cloned(),
            tasks,
        },
    };
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() {
        if let Some(state) = initial_state {
            host::check("gated_delta", "state", state, &shape)?;
        }
        let saved = saved(Vec::new());
        let (o, final_state) = cuda::forward(&saved, geometry, &shape)?;
        return Ok(Output {
            o,
            final_state,
            saved,
        });
    }
    let (o, final_state, tasks) = {
        let state = initial_state
            .map(|state| read_state(state, &shape))
            .transpose()?;
        let inputs = chunk::Inputs {
            q: &host::read("gated_delta", q)?,
            k: &host::read("gated_delta", k)?,
            v: &host::read("gated_delta", v)?,
            g: &host::read("gated_delta", g)?,
            beta: &host::read("gated_delta", beta)?,
            geometry,
        };
        forward::forward(&inputs, cu_seqlens, state.as_deref())
    };
    Ok(Output {
        o: host::tensor(o, v.shape())?,
        final_state: host::tensor(final_state, &shape[..])?,
        saved: saved(tasks),
    })
}

/// The gradients of [`forward`].
///
/// # Shapes
/// `d_o [N, Hv, dv]`, `d_state` (of the final state) `[B, Hv, dk, dv]`, 0 when absent
pub fn backward(d_o: &Tensor, d_state: Option<&Tensor>, saved: &Saved) -> Result<Grads> {
    let Saved {
        q,
        k,
        v,
        g,
        beta,
        kept,
    } = saved;
    let Kept {
        cu_seqlens, tasks, ..
    } = kept;
    let geometry = geometry(q, k, v, g, beta, cu_seqlens)?;
    let shape = state_shape(cu_seqlens, geometry);
    host::check("gated_delta", "do", d_o, v.dims())?;
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() {
        if let Some(state) = d_state {
            host::check("gated_delta", "d_state", state, &shape)?;
        }
        return cuda::backward(d_o, d_state, saved, geometry, &shape);
    }
    let d_state = d_state.map(|state| read_state(state, &shape)).transpose()?;
    let inputs = chunk::Inputs {
        q: &host::read("gated_delta", q)?,
        k: &host::read("gated_delta", k)?,
        v: &host::read("gated_delta", v)?,
        g: &host::read("gated_delta", g)?,
        beta: &host::read("gated_delta", beta)?,
        geometry,
    };
    let d_o = host::read("gated_delta", d_o)?;
    let gradients = backward::backward(&inputs, cu_seqlens, tasks, &d_o, d_state.as_deref());
    Ok(Grads {
        dq: host::tensor(gradients.dq, q.shape())?,
        dk: host::tensor(gradients.dk, k.shape())?,
        dv: host::tensor(gradients.dv, v.shape())?,
        dg: host::tensor(gradients.dg, g.shape())?,
        dbeta: host::tensor(gradients.dbeta, beta.shape())?,
        dstate: host::tensor(gradients.dstate, &shape[..])?,
        joined: None,
    })
}

/// The rule token by token, `(o, final_state)`: the plain statement that the chunked form is compared with.
///
/// # Shapes
/// as [`forward`]
pub fn recurrent(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    g: &Tensor,
    beta: &Tensor,
    cu_seqlens: &CuSeqlens,
    initial_state: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let geometry = geometry(q, k, v, g, beta, cu_seqlens)?;
    let shape = state_shape(cu_seqlens, geometry);
    let state = initial_state
        .map(|state| read_state(state, &shape))
        .transpose()?;
    let inputs = chunk::Inputs {
        q: &host::read("gated_delta", q)?,
        k: &host::read("gated_delta", k)?,
        v: &host::read("gated_delta", v)?,
        g: &host::read("gated_delta", g)?,
        beta: &host::read("gated_delta", beta)?,
        geometry,
    };
    let (o, state) = reference::recurrent(&inputs, cu_seqlens, state.as_deref());
    Ok((
        host::tensor(o, v.shape())?,
        host::tensor(state, &shape[..])?,
    ))
}

fn read_state<'a>(
    state: &'a Tensor,
    shape: &[usize],
) -> Result<impl std::ops::Deref<Target = [f32]> + use<'a>> {
    host::check("gated_delta", "state", state, shape)?;
    host::read("gated_delta", state)
}

fn state_shape(cu_seqlens: &CuSeqlens, geometry: Geometry) -> [usize; 4] {
    [
        cu_seqlens.len(),
        geometry.value_heads,
        geometry.dk,
        geometry.dv,
    ]
}

fn geometry(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    g: &Tensor,
    beta: &Tensor,
    cu_seqlens: &CuSeqlens,
) -> Result<Geometry> {
    let (n, key_heads, dk) = q.dims3()?;
    let (_, value_heads, dv) = v.dims3()?;
    host::check("gated_delta", "k", k, &[n, key_heads, dk])?;
    host::check("gated_delta", "v", v, &[n, value_heads, dv])?;
    host::check("gated_delta", "g", g, &[n, value_heads])?;
    host::check("gated_delta", "beta", beta, &[n, value_heads])?;
    if key_heads == 0 || value_heads % key_heads != 0 {
        bail!("gated_delta: {value_heads} value heads over {key_heads} key heads");
    }
    cu_seqlens.check("gated_delta", n)?;
    Ok(Geometry {
        key_heads,
        value_heads,
        dk,
        dv,
    })
}
