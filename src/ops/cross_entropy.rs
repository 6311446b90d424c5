//! The vocabulary head and its loss in one: logits `x W^T`, cross entropy with the labels, and the gradients of both factors.
//!
//! `ce_i = lse_i - logit_i[label_i]`; the objective is `scale sum_i weight_i ce_i`, so `dlogits_i = scale weight_i (softmax_i - onehot)`,
//! `dx = dlogits W`, `dW += dlogits^T x`. Tokens go through in chunks: logits exist for one chunk, and its gradient takes their place.
//! A position of weight 0 is ignored: its `ce` is 0, it is not counted, its label may be anything.

#[cfg(feature = "cuda")]
mod cuda;
mod objective;
mod reference;

pub use objective::{Objective, Placed};

use candle_core::{Device, Result, Tensor};

use super::host;

/// What the loss says about a batch; the tensors lie where `x` lies.
#[derive(Debug, Clone)]
pub struct Output {
    /// `[2]` f64: `sum_i weight_i ce_i` without the factor `scale`, and how many tokens of nonzero weight have their label as the
    /// likeliest id.
    pub sums: Tensor,
    /// Cross entropy of each token, `[N]` f32; 0 where the weight is 0.
    pub ce: Tensor,
    /// `ln sum exp` of each token's logits, `[N]` f32. Tokens of weight 0 need not be computed, and it is 0 then.
    pub lse: Tensor,
    /// The likeliest id of each token, the lowest of equals, `[N]` u32. Tokens of weight 0 need not be computed, and it is 0 then.
    pub argmax: Tensor,
    /// Tokens of nonzero weight.
    pub total: u64,
    /// `sum_i weight_i`.
    pub weight_sum: f64,
}

impl Output {
    fn new(sums: Tensor, ce: Tensor, lse: Tensor, argmax: Tensor, objective: &Objective) -> Self {
        Self {
            sums,
            ce,
            lse,
            argmax,
            total: objective.total(),
            weight_sum: objective.weight_sum(),
        }
    }

    fn of(losses: reference::Losses, objective: &Objective) -> Result<Self> {
        let sums = Tensor::new(&[losses.loss_sum, losses.correct], &Device::Cpu)?;
        let (n, cpu) = (losses.ce.len(), &Device::Cpu);
        let ce = Tensor::from_vec(losses.ce, n, cpu)?;
        let lse = Tensor::from_vec(losses.lse, n, cpu)?;
        let argmax = Tensor::from_vec(losses.argmax, n, cpu)?;
        Ok(Self::new(sums, ce, lse, argmax, objective))
    }
}

/// How many tokens at a time suit `device`, logits of `vocabulary` each.
///
/// The gradient of the head is read and written once a chunk, which large chunks make up for; on CUDA a chunk is about 1 GB of bf16.
pub fn default_chunk(device: &Device, vocabulary: usize) -> usize {
    if device.is_cpu() {
        return 256;
    }
    let tokens = (1 << 30) / (2 * vocabulary.max(1));
    (tokens / 256 * 256).clamp(256, 8192)
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
    let objective = Objective::new(labels.to_vec(), weights.to_vec(), 0.0);
    objective.check(x, w, chunk)?;
    forward_of(x, w, &objective.on(x.device())?, chunk)
}

/// As [`forward`], of an objective that is placed already on the device of `x`.
///
/// # Errors
/// As there, and when it is not placed.
pub fn forward_of(x: &Tensor, w: &Tensor, objective: &Objective, chunk: usize) -> Result<Output> {
    objective.check(x, w, chunk)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let head = cuda::Head {
            x,
            w,
            objective,
            chunk,
        };
        return Ok(cuda::run(&head, None)?.0);
    }
    let head = reference::Head {
        x: &host::read("cross_entropy", x)?,
        w: &host::read("cross_entropy", w)?,
        hidden: x.dim(1)?,
        labels: &objective.labels,
        weights: &objective.weights,
        chunk,
    };
    Output::of(reference::forward(&head), objective)
}

/// The loss and the gradient of `x` of the objective `scale sum_i weights_i ce_i`; adds that of `w` to `dw`.
///
/// # Shapes
/// `x`, `dx` `[N, h]`, `w`, `dw` `[V, h]`, `labels`, `weights` `[N]`; `chunk` tokens at a time. On CUDA `x` and `w` are bf16 or f32,
/// `dw` is f32; bf16 logits and their gradient are rounded to bf16.
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
    let objective = Objective::new(labels.to_vec(), weights.to_vec(), scale);
    objective.check(x, w, chunk)?;
    forward_backward_of(x, w, &objective.on(x.device())?, chunk, dw)
}

/// As [`forward_backward`], of an objective that is placed already on the device of `x`.
///
/// # Errors
/// As there, and when it is not placed.
pub fn forward_backward_of(
    x: &Tensor,
    w: &Tensor,
    objective: &Objective,
    chunk: usize,
    dw: &Tensor,
) -> Result<(Output, Tensor)> {
    objective.check(x, w, chunk)?;
    host::check("cross_entropy", "dw", dw, w.dims())?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let head = cuda::Head {
            x,
            w,
            objective,
            chunk,
        };
        return match cuda::run(&head, Some(dw))? {
            (output, Some(dx)) => Ok((output, dx)),
            (_, None) => candle_core::bail!("cross_entropy: no gradient"),
        };
    }
    let head = reference::Head {
        x: &host::read("cross_entropy", x)?,
        w: &host::read("cross_entropy", w)?,
        hidden: x.dim(1)?,
        labels: &objective.labels,
        weights: &objective.weights,
        chunk,
    };
    let (losses, dx) = host::update("cross_entropy", dw, |dw| {
        reference::forward_backward(&head, objective.scale, dw)
    })?;
    let dx = host::tensor(dx, x.shape())?;
    Ok((Output::of(losses, objective)?, dx))
}
