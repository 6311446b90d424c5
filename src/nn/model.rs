//! The whole model: embedding, decoder, MTP depths, and the head that they share.

use candle_core::{Device, Tensor};

use crate::ops::{self, cross_entropy, embedding, linear, rms_norm};
use crate::spec::TextConfig;

use super::NnError;
use super::batch::Batch;
use super::decoder_layer::{self, DecoderLayer};
use super::inputs::{Depth, Inputs};
use super::loss::LossScales;
use super::mtp::{self, MtpDepth};
use super::parameters::{Parameter, Parameters};
use super::pending::{DepthPending, Pending};
use super::phase::Phase;
use super::prepared::{Preparation, Prepared};
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
        let prepared = self.preparation().prepare(batch.clone())?;
        self.forward_backward_of(&self.inputs(&prepared, scales)?, ended)
    }

    /// How batches are prepared for [`Self::inputs`].
    pub fn preparation(&self) -> Preparation {
        Preparation {
            vocab_size: self.config.vocab_size,
            depths: self.config.mtp_num_hidden_layers,
            for_gpu: self.device().is_cuda(),
            for_backward: true,
        }
    }

    /// Places a batch where the model computes.
    ///
    /// # Errors
    /// When it was prepared for another model.
    pub fn inputs(&self, prepared: &Prepared, scales: &LossScales) -> Result<Inputs, NnError> {
        Inputs::new(prepared, Some(scales), &self.config, self.device())
    }

    /// [`Self::forward_backward_in_phases`] of a batch that is placed already.
    ///
    /// On a GPU the losses are written into `inputs`: the next run of the same inputs overwrites them, see [`Pending::detached`].
    pub fn forward_backward_of(
        &self,
        inputs: &Inputs,
        ended: &mut (dyn FnMut(Phase) + Send),
    ) -> Result<Pending, NnError> {
        self.in_pool(|| self.step(inputs, ended))
    }

    /// How many tokens' logits exist at the same time.
    pub(super) fn loss_chunk(&self) -> usize {
        self.loss_chunk
    }

    /// Where the model computes.
    pub(super) fn device(&self) -> &Device {
        self.parameters.weights().device()
    }

    fn step(
        &self,
        inputs: &Inputs,
        ended: &mut (dyn FnMut(Phase) + Send),
    ) -> Result<Pending, NnError> {
        let context = &inputs.context;
        let main = &inputs.main;

        let embedded = self.embed(main)?;
        let mut x = embedded;
        let mut saved_layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let (y, saved) = layer.forward(x, context)?;
            saved_layers.push(saved);
            x = y;
        }
        let hidden = self.final_norm(&x)?;

        let (mtp, mtp_grad, saved_bytes) = if inputs.mtp_gradient {
            let depths = self.mtp_forward(&hidden, inputs)?;
            ended(Phase::Forward);
            let saved: Vec<&mtp::Saved> = depths.iter().map(|depth| &depth.saved).collect();
            let saved = saved_bytes(&saved_layers, &saved) + bytes([&x]);
            let (losses, grad) = self.mtp_backward(depths, inputs, ended)?;
            (losses, grad, saved)
        } else {
            let losses = self.mtp_losses(&hidden, inputs)?;
            ended(Phase::Forward);
            (losses, None, saved_bytes(&saved_layers, &[]) + bytes([&x]))
        };
        let (main_loss, d_hidden) = self.loss_backward(&hidden, main)?;
        ended(Phase::Loss);
        drop(hidden);
        if let Some(grad) = mtp_grad {
            ops::add_assign(&d_hidden, &grad)?;
        }

        let eps = self.config.rms_norm_eps;
        let mut dx = rms_norm::backward(&d_hidden, &x, &self.norm.weight, eps, &self.norm.grad)?;
        for (layer, saved) in self.layers.iter().zip(saved_layers).rev() {
            dx = layer.backward(&dx, saved, context)?;
        }
        embedding::backward_of(&dx, &main.ids, &self.embed_tokens.grad)?;
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
        if self.device().is_cpu() {
            rayon::scope(|_| work())
        } else {
            work()
        }
    }

    fn losses(&self, batch: &Batch) -> Result<Pending, NnError> {
        let inputs = self.inputs_without_gradient(batch)?;
        let mut x = self.embed(&inputs.main)?;
        for layer in &self.layers {
            x = layer.forward(x, &inputs.context)?.0;
        }
        let hidden = self.final_norm(&x)?;
        Ok(Pending {
            main: self.loss(&hidden, &inputs.main)?,
            mtp: self.mtp_losses(&hidden, &inputs)?,
            saved_bytes: 0,
        })
    }

    /// Every hidden state of the decoder and of the MTP depths.
    pub fn hidden_states(&self, batch: &Batch) -> Result<HiddenStates, NnError> {
        let inputs = self.inputs_without_gradient(batch)?;
        let context = &inputs.context;
        let embedded = self.embed(&inputs.main)?;
        let mut layers: Vec<Tensor> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let x = layers.last().unwrap_or(&embedded).clone();
            layers.push(layer.forward(x, context)?.0);
        }
        let mut depths = vec![self.final_norm(layers.last().unwrap_or(&embedded))?];
        for (depth, targets) in self.mtp.iter().zip(&inputs.mtp) {
            let embedded = self.embed(targets)?;
            let before = depths[depths.len() - 1].clone();
            depths.push(depth.forward(embedded, before, context)?.0);
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

    fn inputs_without_gradient(&self, batch: &Batch) -> Result<Inputs, NnError> {
        let preparation = Preparation {
            for_backward: false,
            ..self.preparation()
        };
        let prepared = preparation.prepare(batch.clone())?;
        Inputs::new(&prepared, None, &self.config, self.device())
    }

    fn embed(&self, depth: &Depth) -> Result<Tensor, NnError> {
        Ok(embedding::forward_of(
            &depth.ids,
            &self.embed_tokens.weight,
        )?)
    }

    fn final_norm(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let eps = self.config.rms_norm_eps;
        Ok(rms_norm::forward(x, &self.norm.weight, eps)?)
    }

    /// All depths, keeping what their backwards need.
    fn mtp_forward<'a>(
        &self,
        hidden: &Tensor,
        inputs: &'a Inputs,
    ) -> Result<Vec<DepthForward<'a>>, NnError> {
        let mut depths: Vec<DepthForward> = Vec::with_capacity(self.mtp.len());
        for (depth, targets) in self.mtp.iter().zip(&inputs.mtp) {
            let before = depths.last().map_or(hidden, |last| &last.hidden);
            let embedded = self.embed(targets)?;
            let (hidden, saved) = depth.forward(embedded, before.clone(), &inputs.context)?;
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
        inputs: &Inputs,
        ended: &mut (dyn FnMut(Phase) + Send),
    ) -> Result<(Vec<DepthPending>, Option<Tensor>), NnError> {
        let mut losses = Vec::with_capacity(depths.len());
        let mut from_deeper: Option<Tensor> = None;
        for (depth, forward) in self.mtp.iter().zip(depths).rev() {
            let (loss, d_hidden) = self.loss_backward(&forward.hidden, forward.targets)?;
            losses.push(loss);
            ended(Phase::Loss);
            if let Some(grad) = from_deeper {
                ops::add_assign(&d_hidden, &grad)?;
            }
            let grads = depth.backward(&d_hidden, forward.saved, &inputs.context)?;
            let ids = &forward.targets.ids;
            embedding::backward_of(&grads.embedded, ids, &self.embed_tokens.grad)?;
            from_deeper = Some(grads.hidden);
            ended(Phase::Backward);
        }
        losses.reverse();
        Ok((losses, from_deeper))
    }

    /// The losses of all depths without keeping anything.
    fn mtp_losses(&self, hidden: &Tensor, inputs: &Inputs) -> Result<Vec<DepthPending>, NnError> {
        let mut losses = Vec::with_capacity(self.mtp.len());
        let mut hidden = hidden.clone();
        for (depth, targets) in self.mtp.iter().zip(&inputs.mtp) {
            let embedded = self.embed(targets)?;
            hidden = depth.forward(embedded, hidden, &inputs.context)?.0;
            losses.push(self.loss(&hidden, targets)?);
        }
        Ok(losses)
    }

    fn loss(&self, hidden: &Tensor, depth: &Depth) -> Result<DepthPending, NnError> {
        let (head, chunk) = (&self.head.weight, self.loss_chunk);
        let output = cross_entropy::forward_of(hidden, head, &depth.objective, chunk)?;
        Ok(depth_loss(output))
    }

    /// The loss, and the gradient of the depth's objective with respect to `hidden`.
    fn loss_backward(
        &self,
        hidden: &Tensor,
        depth: &Depth,
    ) -> Result<(DepthPending, Tensor), NnError> {
        let (output, d_hidden) = cross_entropy::forward_backward_of(
            hidden,
            &self.head.weight,
            &depth.objective,
            self.loss_chunk,
            &self.head.grad,
        )?;
        Ok((depth_loss(output), d_hidden))
    }
}

/// One depth between forward and backward.
struct DepthForward<'a> {
    targets: &'a Depth,
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
