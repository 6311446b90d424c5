//! The whole model: embedding, decoder, MTP depths, and the head that they share.

use candle_core::Tensor;

use crate::ops::{self, cross_entropy, embedding, linear, rms_norm, rope};
use crate::spec::TextConfig;

use super::NnError;
use super::batch::{Batch, Targets};
use super::decoder_layer::{self, Context, DecoderLayer};
use super::loss::LossScales;
use super::mtp::{self, MtpDepth};
use super::parameters::{Parameter, Parameters};
use super::pending::{DepthPending, Pending};
use super::phase::Phase;
use super::recompute::{Recompute, bytes};

/// A dense Qwen3.5 text model with its MTP depths.
///
/// It reads weights from and adds gradients to the arenas of its [`Parameters`]; it keeps nothing else between calls, so an
/// error in one call leaves no trace but gradients, which [`Parameters::zero_grads`] clears.
#[derive(Debug)]
pub struct Model {
    config: TextConfig,
    parameters: Parameters,
    embed_tokens: Parameter,
    layers: Vec<DecoderLayer>,
    norm: Parameter,
    /// The embedding itself when tied.
    head: Parameter,
    mtp: Vec<MtpDepth>,
    loss_chunk: usize,
}

/// Every hidden state of a forward pass, `[N, h]` each.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// Embedded tokens.
    pub embedded: Tensor,
    /// The residual stream after each layer.
    pub layers: Vec<Tensor>,
    /// What the head reads: after the final norm, then each MTP depth's.
    pub depths: Vec<Tensor>,
}

impl Model {
    /// The model of `config` over `parameters`.
    ///
    /// # Errors
    /// When a parameter is missing, as when `parameters` were made for another config.
    pub fn new(
        config: TextConfig,
        parameters: Parameters,
        recompute: &Recompute,
    ) -> Result<Self, NnError> {
        let embed_tokens = parameters.get("model.embed_tokens.weight")?;
        let head = if config.tie_word_embeddings {
            embed_tokens.clone()
        } else {
            parameters.get("lm_head.weight")?
        };
        let layers = config
            .layer_types
            .iter()
            .enumerate()
            .map(|(i, &kind)| {
                let prefix = format!("model.layers.{i}.");
                DecoderLayer::new(&config, kind, &parameters, &prefix, recompute)
            })
            .collect::<Result<_, _>>()?;
        let mtp = (0..config.mtp_num_hidden_layers)
            .map(|index| MtpDepth::new(&config, &parameters, index, recompute))
            .collect::<Result<_, _>>()?;
        let norm = parameters.get("model.norm.weight")?;
        let device = parameters.weights().device();
        let loss_chunk = cross_entropy::default_chunk(device, config.vocab_size);
        Ok(Self {
            config,
            parameters,
            embed_tokens,
            layers,
            norm,
            head,
            mtp,
            loss_chunk,
        })
    }

    /// Sets how many tokens' logits exist at the same time; the loss does not depend on it beyond rounding.
    #[must_use]
    pub fn with_loss_chunk(mut self, tokens: usize) -> Self {
        self.loss_chunk = tokens.max(1);
        self
    }

    /// The geometry.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Weights and gradients.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Adds the gradient of the objective to the arena; its parts can be read when the device has them.
    pub fn forward_backward(&self, batch: &Batch, scales: &LossScales) -> Result<Pending, NnError> {
        self.forward_backward_in_phases(batch, scales, &mut |_| {})
    }

    /// [`Self::forward_backward`] that says, each time a part of a phase has been queued (on the CPU: is done), which it was.
    pub fn forward_backward_in_phases(
        &self,
        batch: &Batch,
        scales: &LossScales,
        ended: &mut (dyn FnMut(Phase) + Send),
    ) -> Result<Pending, NnError> {
        self.in_pool(|| self.step(batch, scales, ended))
    }

    fn step(
        &self,
        batch: &Batch,
        scales: &LossScales,
        ended: &mut (dyn FnMut(Phase) + Send),
    ) -> Result<Pending, NnError> {
        let context = self.context(batch)?;
        let main = Targets::of(batch);
        let main_weight = main.weight_sum();

        let embedded = self.embed(&main.input_ids)?;
        let mut x = embedded;
        let mut saved_layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let (y, saved) = layer.forward(x, &context)?;
            saved_layers.push(saved);
            x = y;
        }
        let hidden = self.final_norm(&x)?;

        let (mtp, mtp_grad, saved_bytes) = if scales.mtp_lambda == 0.0 {
            let losses = self.mtp_losses(&hidden, &main, &context)?;
            ended(Phase::Forward);
            (losses, None, saved_bytes(&saved_layers, &[]) + bytes([&x]))
        } else {
            let depths = self.mtp_forward(&hidden, &main, &context)?;
            ended(Phase::Forward);
            let saved: Vec<&mtp::Saved> = depths.iter().map(|depth| &depth.saved).collect();
            let saved = saved_bytes(&saved_layers, &saved) + bytes([&x]);
            let (losses, grad) = self.mtp_backward(depths, main_weight, scales, &context, ended)?;
            (losses, grad, saved)
        };
        let (main_loss, d_hidden) = self.loss_backward(&hidden, &main, scales.main(main_weight))?;
        ended(Phase::Loss);
        drop(hidden);
        if let Some(grad) = mtp_grad {
            ops::add_assign(&d_hidden, &grad)?;
        }

        let eps = self.config.rms_norm_eps;
        let mut dx = rms_norm::backward(&d_hidden, &x, &self.norm.weight, eps, &self.norm.grad)?;
        for (layer, saved) in self.layers.iter().zip(saved_layers).rev() {
            dx = layer.backward(&dx, saved, &context)?;
        }
        embedding::backward(&dx, &main.input_ids, &self.embed_tokens.grad)?;
        ended(Phase::Backward);
        Ok(Pending {
            main: main_loss,
            mtp,
            saved_bytes,
        })
    }

    /// The losses alone, MTP's included; no gradient.
    pub fn evaluate(&self, batch: &Batch) -> Result<Pending, NnError> {
        self.in_pool(|| self.losses(batch))
    }

    /// Does `work`, on the CPU from inside the pool: this thread then does its share of every op itself, instead of handing all of it
    /// over and waiting.
    fn in_pool<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.parameters.weights().device().is_cpu() {
            rayon::scope(|_| work())
        } else {
            work()
        }
    }

    fn losses(&self, batch: &Batch) -> Result<Pending, NnError> {
        let context = self.context(batch)?;
        let main = Targets::of(batch);
        let mut x = self.embed(&main.input_ids)?;
        for layer in &self.layers {
            x = layer.forward(x, &context)?.0;
        }
        let hidden = self.final_norm(&x)?;
        Ok(Pending {
            main: self.loss(&hidden, &main)?,
            mtp: self.mtp_losses(&hidden, &main, &context)?,
            saved_bytes: 0,
        })
    }

    /// Every hidden state of the decoder and of the MTP depths.
    pub fn hidden_states(&self, batch: &Batch) -> Result<HiddenStates, NnError> {
        let context = self.context(batch)?;
        let mut targets = Targets::of(batch);
        let embedded = self.embed(&targets.input_ids)?;
        let mut layers: Vec<Tensor> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let x = layers.last().unwrap_or(&embedded).clone();
            layers.push(layer.forward(x, &context)?.0);
        }
        let mut depths = vec![self.final_norm(layers.last().unwrap_or(&embedded))?];
        for depth in &self.mtp {
            targets = targets.next(&context.cu_seqlens);
            let embedded = self.embed(&targets.input_ids)?;
            let before = depths[depths.len() - 1].clone();
            depths.push(depth.forward(embedded, before, &context)?.0);
        }
        Ok(HiddenStates {
            embedded,
            layers,
            depths,
        })
    }

    /// The logits `[N, V]` of hidden states `[N, h]` that the head reads.
    ///
    /// Training never calls this: its loss never holds the logits of more than a chunk of tokens.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, NnError> {
        Ok(linear::forward(hidden, &self.head.weight)?)
    }

    fn context(&self, batch: &Batch) -> Result<Context, NnError> {
        batch.check(self.config.vocab_size)?;
        Ok(Context {
            rope: rope::Table::new(
                &batch.position_ids,
                self.config.rotary_dim(),
                self.config.rope_theta,
                self.config.mrope_section,
            )?,
            cu_seqlens: batch.cu_seqlens.clone(),
        })
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor, NnError> {
        Ok(embedding::forward(ids, &self.embed_tokens.weight)?)
    }

    fn final_norm(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let eps = self.config.rms_norm_eps;
        Ok(rms_norm::forward(x, &self.norm.weight, eps)?)
    }

    /// All depths, keeping what their backwards need.
    fn mtp_forward(
        &self,
        hidden: &Tensor,
        main: &Targets,
        context: &Context,
    ) -> Result<Vec<DepthForward>, NnError> {
        let mut depths: Vec<DepthForward> = Vec::with_capacity(self.mtp.len());
        for depth in &self.mtp {
            let (targets, before) = match depths.last() {
                None => (main.next(&context.cu_seqlens), hidden),
                Some(last) => (last.targets.next(&context.cu_seqlens), &last.hidden),
            };
            let embedded = self.embed(&targets.input_ids)?;
            let (hidden, saved) = depth.forward(embedded, before.clone(), context)?;
            depths.push(DepthForward {
                targets,
                hidden,
                saved,
            });
        }
        Ok(depths)
    }

    /// The losses of all depths and, from the deepest to the first, their gradients; returns the one of depth 0's hidden state.
    fn mtp_backward(
        &self,
        depths: Vec<DepthForward>,
        main_weight: f64,
        scales: &LossScales,
        context: &Context,
        ended: &mut (dyn FnMut(Phase) + Send),
    ) -> Result<(Vec<DepthPending>, Option<Tensor>), NnError> {
        let count = depths.len();
        let mut losses = Vec::with_capacity(count);
        let mut from_deeper: Option<Tensor> = None;
        for (depth, forward) in self.mtp.iter().zip(depths).rev() {
            let scale = scales.mtp(main_weight, forward.targets.weight_sum(), count);
            let (loss, d_hidden) = self.loss_backward(&forward.hidden, &forward.targets, scale)?;
            losses.push(loss);
            ended(Phase::Loss);
            if let Some(grad) = from_deeper {
                ops::add_assign(&d_hidden, &grad)?;
            }
            let grads = depth.backward(&d_hidden, forward.saved, context)?;
            let ids = &forward.targets.input_ids;
            embedding::backward(&grads.embedded, ids, &self.embed_tokens.grad)?;
            from_deeper = Some(grads.hidden);
            ended(Phase::Backward);
        }
        losses.reverse();
        Ok((losses, from_deeper))
    }

    /// The losses of all depths without keeping anything.
    fn mtp_losses(
        &self,
        hidden: &Tensor,
        main: &Targets,
        context: &Context,
    ) -> Result<Vec<DepthPending>, NnError> {
        let mut losses = Vec::with_capacity(self.mtp.len());
        let mut hidden = hidden.clone();
        let mut targets = main.clone();
        for depth in &self.mtp {
            targets = targets.next(&context.cu_seqlens);
            let embedded = self.embed(&targets.input_ids)?;
            hidden = depth.forward(embedded, hidden, context)?.0;
            losses.push(self.loss(&hidden, &targets)?);
        }
        Ok(losses)
    }

    fn loss(&self, hidden: &Tensor, targets: &Targets) -> Result<DepthPending, NnError> {
        let output = cross_entropy::forward(
            hidden,
            &self.head.weight,
            &targets.labels,
            &targets.loss_mask,
            self.loss_chunk,
        )?;
        Ok(depth_loss(output))
    }

    /// The loss, and the gradient of `scale` times its sum with respect to `hidden`.
    fn loss_backward(
        &self,
        hidden: &Tensor,
        targets: &Targets,
        scale: f64,
    ) -> Result<(DepthPending, Tensor), NnError> {
        let (output, d_hidden) = cross_entropy::forward_backward(
            hidden,
            &self.head.weight,
            &targets.labels,
            &targets.loss_mask,
            scale as f32,
            self.loss_chunk,
            &self.head.grad,
        )?;
        Ok((depth_loss(output), d_hidden))
    }
}

/// One depth between forward and backward.
struct DepthForward {
    targets: Targets,
    hidden: Tensor,
    saved: mtp::Saved,
}

fn depth_loss(output: cross_entropy::Output) -> DepthPending {
    DepthPending {
        sums: output.sums,
        weight_sum: output.weight_sum,
        total: output.total,
    }
}

fn saved_bytes(layers: &[decoder_layer::Saved], depths: &[&mtp::Saved]) -> usize {
    let layers = layers.iter().map(decoder_layer::Saved::bytes);
    layers.chain(depths.iter().map(|saved| saved.bytes())).sum()
}
