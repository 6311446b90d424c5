//! Causal softmax attention with grouped key-value heads, each sequence of a packed batch on its own.
//!
//! `S = scale Q K^T` for keys up to the query, `P = softmax(S)`, `o = P V`, `lse = ln sum exp S`. Key-value head `j` serves query heads
//! `j H / K .. (j + 1) H / K`. The backward computes `P = exp(S - lse)` again: with `delta = sum_d do o`,
//! `dV = P^T do`, `dS = P (do V^T - delta)`, `dQ = scale dS K`, `dK = scale dS^T Q`.
//!
//! Scores exist for one head and one block of queries at a time, never for a whole sequence. Saved for the backward are `q`, `k`, `v`,
//! `o` and `lse`.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor, bail};
use reference::Geometry;

use super::{CuSeqlens, host};

/// The attention output and the log of the softmax denominator, `(o, lse)`.
///
/// `q` and `k` are contiguous; `v` may be columns of a joint buffer.
///
/// # Shapes
/// `q`, `o` `[N, H, D]`, `k`, `v` `[N, K, D]`, `lse [N, H]` f32
pub fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    cu_seqlens: &CuSeqlens,
    scale: f32,
) -> Result<(Tensor, Tensor)> {
    let geometry = geometry(q, k, v, cu_seqlens, scale)?;
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() {
        return cuda::forward(&cuda::Inputs {
            q,
            k,
            v,
            cu_seqlens,
            geometry,
        });
    }
    let (q_values, k, v) = (
        host::read("attention", q)?,
        host::read("attention", k)?,
        host::read("attention", v)?,
    );
    let (o, lse) = reference::forward(&q_values, &k, &v, cu_seqlens, geometry);
    Ok((
        host::tensor(o, q.shape())?,
        host::tensor(lse, (q.dim(0)?, geometry.heads))?,
    ))
}

/// The gradients `(dq, dk, dv)`; `o` and `lse` are the results of [`forward`].
///
/// # Shapes
/// `d_o`, `o`, `q`, `dq` `[N, H, D]`, `k`, `v`, `dk`, `dv` `[N, K, D]`, `lse [N, H]`
pub fn backward(
    d_o: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    cu_seqlens: &CuSeqlens,
    scale: f32,
) -> Result<(Tensor, Tensor, Tensor)> {
    let dv = Tensor::zeros(v.shape(), v.dtype(), v.device())?;
    let (dq, dk) = backward_into(d_o, q, k, v, o, lse, cu_seqlens, scale, &dv)?;
    Ok((dq, dk, dv))
}

/// As [`backward`], with the gradient of the values written into `dv`, which may be columns of a joint buffer; returns `(dq, dk)`.
///
/// `dv` is overwritten, and must not share its storage with the other tensors on the CPU.
///
/// # Shapes
/// As [`backward`]
pub fn backward_into(
    d_o: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    o: &Tensor,
    lse: &Tensor,
    cu_seqlens: &CuSeqlens,
    scale: f32,
    dv: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let geometry = geometry(q, k, v, cu_seqlens, scale)?;
    host::check("attention", "o", o, q.dims())?;
    host::check("attention", "do", d_o, q.dims())?;
    host::check("attention", "lse", lse, &[q.dim(0)?, geometry.heads])?;
    host::check("attention", "dv", dv, v.dims())?;
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() {
        let inputs = cuda::Inputs {
            q,
            k,
            v,
            cu_seqlens,
            geometry,
        };
        return cuda::backward(&inputs, d_o, o, lse, dv);
    }
    let forward = reference::Forward {
        q: &host::read("attention", q)?,
        k: &host::read("attention", k)?,
        v: &host::read("attention", v)?,
        o: &host::read("attention", o)?,
        lse: &host::read("attention", lse)?,
    };
    let (dq, dk, dv_values) = reference::backward(
        &host::read("attention", d_o)?,
        &forward,
        cu_seqlens,
        geometry,
    );
    host::write_view("attention", dv, &dv_values)?;
    Ok((host::tensor(dq, q.shape())?, host::tensor(dk, k.shape())?))
}

fn geometry(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    cu_seqlens: &CuSeqlens,
    scale: f32,
) -> Result<Geometry> {
    let (n, heads, head_dim) = q.dims3()?;
    let kv_heads = k.dim(1)?;
    host::check("attention", "k", k, &[n, kv_heads, head_dim])?;
    host::check("attention", "v", v, &[n, kv_heads, head_dim])?;
    if kv_heads == 0 || heads % kv_heads != 0 {
        bail!("attention: {heads} query heads over {kv_heads} key-value heads");
    }
    cu_seqlens.check("attention", n)?;
    Ok(Geometry {
        heads,
        kv_heads,
        head_dim,
        scale,
    })
}
