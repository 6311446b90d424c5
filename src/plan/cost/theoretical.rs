//! What Megatron says of a job's memory before it trains.
//!
//! Megatron prints a "theoretical memory footprint" from averages: layers over stages, a batch in flight on each. It is coarse, and it is what a
//! log shows, so the same numbers are worked out here, to compare a log with its plan.

use std::fmt::Write;

use super::weights::{Weights, layer_weights, mtp_weights, vocabulary};
use crate::plan::{Job, MegatronRecompute};
use crate::spec::{LayerKind, TextConfig};

/// Which scalars of a layer are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// Those of its modules: gated delta nets as they are, gates, the joint matrix of MTP. Activations are told only with sequence parallelism
    /// and selective recompute.
    Modules,
    /// Those of softmax attention without a gate in every layer, whatever the layer is. This is how Megatron Core 0.19 counts.
    Attention,
}

/// The numbers of Megatron's lines. Parameters and bytes may be fractions, since layers are divided by stages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Theoretical {
    /// Scalars of the model without routed experts.
    pub dense: f64,
    /// Scalars of routed experts.
    pub routed: f64,
    /// Scalars of the fullest shard without routed experts: `(layers / pp + mtp + embedding) / tp`, norms and routers not cut; both vocabulary
    /// matrices if `pp = 1` and they are not tied.
    pub shard_dense: f64,
    /// Routed experts of the fullest shard: `(layers / pp + mtp) / (ep * etp)`.
    pub shard_routed: f64,
    /// Bytes of weights, gradients and optimizer: `6 + 12 / dp` a scalar with the distributed optimizer, `18` without; routed experts with
    /// their own `dp = gpus / (pp * ep * etp)`.
    pub weights_and_optimizer: f64,
    /// Bytes of activations, if Megatron tells them.
    pub activations: Option<f64>,
}

impl Theoretical {
    /// Weights, optimizer and activations.
    pub fn total(&self) -> f64 {
        self.weights_and_optimizer + self.activations.unwrap_or(0.0)
    }

    /// The lines of a log, where `MB` are `2^20` bytes.
    pub fn lines(&self) -> Vec<String> {
        let billions = |scalars: f64| scalars / 1e9;
        let mb = |bytes: f64| bytes / f64::from(1 << 20);
        let mut lines = vec![format!(
            "Number of dense and embedding parameters in billions: {:.2}",
            billions(self.dense)
        )];
        let is_mixture = self.routed > 0.0;
        if is_mixture {
            lines.push(format!(
                "Number of routed expert parameters in billions: {:.2}",
                billions(self.routed)
            ));
        }
        lines.push(format!(
            "Total number of parameters in billions: {:.2}",
            billions(self.dense + self.routed)
        ));
        lines.push(format!(
            "Number of dense and embedding parameters in most loaded shard in billions: {:.4}",
            billions(self.shard_dense)
        ));
        if is_mixture {
            lines.push(format!(
                "Number of routed expert parameters in most loaded shard in billions: {:.4}",
                billions(self.shard_routed)
            ));
        }
        let mut last = format!(
            "Theoretical memory footprints: weight and optimizer={:.2} MB",
            mb(self.weights_and_optimizer)
        );
        if let Some(activations) = self.activations {
            let (activations, total) = (mb(activations), mb(self.total()));
            // Writing to a text does not fail.
            let _ = write!(
                last,
                ", activation={activations:.2} MB, total={total:.2} MB"
            );
        }
        lines.push(last);
        lines
    }
}

/// The numbers that Megatron prints for a job. Frozen weights and adapters count as if all were trained, the vision tower does not count: so
/// Megatron has it. A job whose degrees are 0 has numbers that are not finite.
pub fn theoretical(job: &Job, counted: Counted) -> Theoretical {
    let text = &job.model.text;
    let degrees = &job.degrees;
    let [tp, pp, ep, etp] =
        [degrees.tp, degrees.pp, degrees.ep, degrees.etp].map(|degree| degree as f64);
    let block = block(text, counted);
    let depth = text.mtp_num_hidden_layers as u64;
    let one = match counted {
        Counted::Modules => mtp_weights(text),
        Counted::Attention => attention_layer(text),
    };
    let [whole, cut, experts] = [block.whole, block.cut, block.experts].map(|n| n as f64);
    let [mtp_whole, mtp_cut, mtp_experts] =
        [one.whole, one.cut, one.experts].map(|n| n.saturating_mul(depth) as f64);
    let embedding = vocabulary(job) as f64 * text.hidden_size as f64;
    let matrices = if text.tie_word_embeddings { 1.0 } else { 2.0 };
    let mut shard_cut = (cut / pp + mtp_cut + embedding) / tp;
    if degrees.pp == 1 {
        shard_cut += (matrices - 1.0) * embedding / tp;
    }
    let shard_dense = shard_cut + whole / pp + mtp_whole;
    let shard_routed = (experts / pp + mtp_experts) / (ep * etp);
    let ranks = |over: usize| (job.gpus / over.max(1)) as f64;
    let bytes = |dp: f64| {
        if job.megatron.optimizer.distributed {
            6.0 + 12.0 / dp
        } else {
            18.0
        }
    };
    let dp = ranks(
        degrees
            .tp
            .saturating_mul(degrees.pp)
            .saturating_mul(degrees.cp),
    );
    let expert_dp = ranks(
        degrees
            .etp
            .saturating_mul(degrees.ep)
            .saturating_mul(degrees.pp),
    );
    let is_usual = degrees.sequence_parallel
        && matches!(job.megatron.recompute, MegatronRecompute::Selective(_));
    let activations = match (is_usual, counted) {
        (true, _) => Some(in_flight(job, with_sequence_parallel(job), true) / tp),
        (false, Counted::Attention) => {
            Some(1.05 * in_flight(job, without_sequence_parallel(job), false))
        }
        (false, Counted::Modules) => None,
    };
    // Without experts there is nothing to divide.
    let routed_bytes = if shard_routed > 0.0 {
        shard_routed * bytes(expert_dp)
    } else {
        0.0
    };
    Theoretical {
        dense: whole + cut + mtp_whole + mtp_cut + matrices * embedding,
        routed: experts + mtp_experts,
        shard_dense,
        shard_routed,
        weights_and_optimizer: shard_dense * bytes(dp) + routed_bytes,
        activations,
    }
}

/// The decoder's layers and its last norm.
fn block(text: &TextConfig, counted: Counted) -> Weights {
    let mut sum = Weights {
        whole: text.hidden_size as u64,
        ..Weights::default()
    };
    for kind in &text.layer_types {
        sum = sum
            + match counted {
                Counted::Modules => layer_weights(text, *kind),
                Counted::Attention => attention_layer(text),
            };
    }
    sum
}

/// A layer counted as softmax attention without a gate and without norms of its heads.
fn attention_layer(text: &TextConfig) -> Weights {
    let full = layer_weights(text, LayerKind::FullAttention);
    let (h, d) = (text.hidden_size as u64, text.head_dim as u64);
    let gate = h * text.num_attention_heads as u64 * d;
    Weights {
        whole: full.whole - 2 * d,
        cut: full.cut - gate,
        ..full
    }
}

/// Bytes that a layer keeps of a micro-batch over all tensor-parallel ranks: `s b (18 h + 4 F)`.
fn with_sequence_parallel(job: &Job) -> f64 {
    let text = &job.model.text;
    let h = text.hidden_size as f64;
    // Megatron takes four times the hidden size where a model has no dense MLP.
    let ffn = match text.intermediate_size {
        0 => 4.0 * h,
        width => width as f64,
    };
    tokens(job) * (18.0 * h + 4.0 * ffn)
}

/// Bytes that a layer keeps on a rank: `s b h (10 + 24 / tp)`.
fn without_sequence_parallel(job: &Job) -> f64 {
    tokens(job) * job.model.text.hidden_size as f64 * (10.0 + 24.0 / job.degrees.tp as f64)
}

fn tokens(job: &Job) -> f64 {
    job.batch.seq_length as f64 * job.batch.micro_batch_size as f64
}

/// All layers of the fullest stage with what stands before and behind them, times what is in flight.
fn in_flight(job: &Job, layer: f64, is_cut: bool) -> f64 {
    let (text, degrees) = (&job.model.text, &job.degrees);
    let (h, pp) = (text.hidden_size as f64, degrees.pp as f64);
    let mut sum = layer * text.layer_types.len() as f64 + tokens(job) * (8.0 + h) * pp;
    if degrees.vpp > 1 {
        sum *= 1.0 + (pp - 1.0) / (pp * degrees.vpp as f64);
    } else if degrees.pp > 1 {
        let step = job.batch.micro_batch_size.saturating_mul(degrees.dp).max(1);
        sum *= ((job.batch.global_batch_size / step) as f64 / pp).min(1.0);
    }
    if degrees.pp == 1 {
        let vocabulary = vocabulary(job) as f64;
        sum += tokens(job)
            * if is_cut {
                4.0 * (h + vocabulary)
            } else {
                2.0 * (h + vocabulary / degrees.tp as f64)
            };
    }
    sum
}
