//! The vocabulary head and its loss in one: logits `x W^T`, cross entropy with the labels, and the gradients of both factors.
//!
//! `ce_i = lse_i - logit_i[label_i]`; the objective is `scale sum_i weight_i ce_i`, so `dlogits_i = scale weight_i (softmax_i - onehot)`,
//! `dx = dlogits W`, `dW += dlogits^T x`. Tokens go through in chunks: logits exist for one chunk, and its gradient takes their place.
//! A position of weight 0 is ignored: its `ce` is 0, it is not counted, its label may be anything.

mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;

/// What the loss says about a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `sum_i weight_i ce_i`, without the factor `scale`.
    pub loss_sum: f64,
    /// Cross entropy of each token; 0 where the weight is 0.
    pub ce: Vec<f32>,
    /// `ln sum exp` of each token's logits.
    pub lse: Vec<f32>,
    /// The likeliest id of each token, the lowest of equals.
    pub argmax: Vec<u32>,
    /// Tokens of nonzero weight whose label is the likeliest id.
    pub correct: u64,
    /// Tokens of nonzero weight.
    pub total: u64,
}

/// The loss alone.
///
/// # Shapes
/// `x [N, h]`, `w [V, h]`, `labels`, `weights` `[N]`; `chunk` tokens at a time
///
/// # Errors
/// When shapes disagree, `chunk` is 0, or a label of nonzero weight is `V` or more.
pub fn forward(
    x: &Tensor,
    w: &Tensor,
    labels: &[u32],
    weights: &[f32],
    chunk: usize,
) -> Result<Output> {
    check(x, w, labels, weights, chunk)?;
    let head = reference::Head {
        x: &host::read("cross_entropy", x)?,
        w: &host::read("cross_entropy", w)?,
        hidden: x.dim(1)?,
        labels,
        weights,
        chunk,
    };
    Ok(reference::forward(&head))
}

/// The loss and the gradient of `x` of the objective `scale sum_i weights_i ce_i`; adds that of `w` to `dw`.
///
/// # Shapes
/// `x`, `dx` `[N, h]`, `w`, `dw` `[V, h]`, `labels`, `weights` `[N]`; `chunk` tokens at a time
///
/// # Errors
/// When shapes disagree, `chunk` is 0, or a label of nonzero weight is `V` or more.
pub fn forward_backward(
    x: &Tensor,
    w: &Tensor,
    labels: &[u32],
    weights: &[f32],
    scale: f32,
    chunk: usize,
    dw: &Tensor,
) -> Result<(Output, Tensor)> {
    check(x, w, labels, weights, chunk)?;
    host::check("cross_entropy", "dw", dw, w.dims())?;
    let head = reference::Head {
        x: &host::read("cross_entropy", x)?,
        w: &host::read("cross_entropy", w)?,
        hidden: x.dim(1)?,
        labels,
        weights,
        chunk,
    };
    let (output, dx) = host::update("cross_entropy", dw, |dw| {
        reference::forward_backward(&head, scale, dw)
    })?;
    Ok((output, host::tensor(dx, x.shape())?))
}

fn check(x: &Tensor, w: &Tensor, labels: &[u32], weights: &[f32], chunk: usize) -> Result<()> {
    let (n, hidden) = x.dims2()?;
    let vocabulary = w.dim(0)?;
    host::check("cross_entropy", "w", w, &[vocabulary, hidden])?;
    if labels.len() != n || weights.len() != n {
        bail!(
            "cross_entropy: {n} tokens, {} labels, {} weights",
            labels.len(),
            weights.len()
        );
    }
    if chunk == 0 {
        bail!("cross_entropy: chunks of 0 tokens");
    }
    for (label, weight) in labels.iter().zip(weights) {
        if *weight != 0.0 && *label as usize >= vocabulary {
            bail!("cross_entropy: label {label}, but the vocabulary has {vocabulary}");
        }
    }
    Ok(())
}
