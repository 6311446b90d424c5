//! What a rank of a stage holds, term by term, as Megatron lays it out.

use super::activations::{self, FULL_FORMULA, Kept, LINEAR_FORMULA};
use super::weights::{self, Weights, stage_weights, trained_weights};
use crate::base::Bytes;
use crate::plan::problem::job_stages;
use crate::plan::{
    CrossEntropy, DRIVER_CONTEXT, Dispatcher, Frozen, Fsdp, Job, MegatronRecompute, MemoryEstimate,
    MemoryTerm, PipelineError, RecomputeMethod, Stage, Tuning,
};
use crate::spec::LayerKind;

/// Bytes that NCCL takes for a group of ranks that talk: channels and their buffers; a round figure, not measured here.
const COMMUNICATOR: f64 = 128.0 * (1u64 << 20) as f64;

/// How tokens meet experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// Every expert gets as many tokens.
    Balanced,
    /// All tokens of an expert-parallel group go to the experts of one rank, as far as a token's experts can.
    Worst,
}

/// The sum of terms.
fn total(terms: &[MemoryTerm]) -> Bytes {
    Bytes(
        terms
            .iter()
            .fold(0, |sum: u64, term| sum.saturating_add(term.bytes.0)),
    )
}

/// The estimate of every stage; fails where the layers cannot be spread so.
pub fn job_memory(job: &Job, routing: Routing) -> Result<Vec<MemoryEstimate>, PipelineError> {
    let estimate = |stage: &Stage| {
        let terms = stage_memory(job, stage, routing);
        MemoryEstimate {
            stage: stage.pp,
            total: total(&terms),
            terms,
        }
    };
    Ok(job_stages(job)?.iter().map(estimate).collect())
}

struct Terms(Vec<MemoryTerm>);

impl Terms {
    fn add(&mut self, name: &'static str, bytes: f64, formula: impl FnOnce() -> String) {
        if bytes >= 1.0 {
            self.0.push(MemoryTerm {
                name,
                bytes: Bytes(bytes as u64),
                formula: formula(),
            });
        }
    }
}

/// The terms of one stage, none of them zero.
pub fn stage_memory(job: &Job, stage: &Stage, routing: Routing) -> Vec<MemoryTerm> {
    let mut terms = Terms(Vec::with_capacity(16));
    parameters(job, stage, &mut terms);
    activations_of(job, stage, routing, &mut terms);
    let groups = communicators(job);
    terms.add(
        "context",
        DRIVER_CONTEXT.0 as f64 + groups * COMMUNICATOR,
        || format!("{DRIVER_CONTEXT} driver + {groups} communicators * 128 MiB, both assumed"),
    );
    terms.0
}

/// Groups of more than one rank that a rank talks in.
fn communicators(job: &Job) -> f64 {
    let d = &job.degrees;
    [d.tp, d.cp, d.dp, d.pp, d.ep, d.etp]
        .iter()
        .filter(|&&degree| degree > 1)
        .count() as f64
}

/// Weights, gradients, optimizer state.
fn parameters(job: &Job, stage: &Stage, terms: &mut Terms) {
    let megatron = &job.megatron;
    let d = &job.degrees;
    let all = stage_weights(job, stage);
    let trained = trained_weights(job, stage);
    let copies = (d.dp * d.cp).max(1) as f64;
    let expert_copies =
        ((d.tp * d.cp * d.dp) as f64 / (d.ep as f64 * d.etp as f64).max(1.0)).max(1.0);
    let lora = matches!(megatron.tuning, Tuning::Lora { .. });
    let share = |weights: Weights, each: f64, cut: bool| {
        let (dense, experts) = weights.on_rank(d);
        let (over, experts_over) = if cut {
            let instances = megatron.optimizer.instances.max(1) as f64;
            (
                (copies / instances).max(1.0),
                (expert_copies / instances).max(1.0),
            )
        } else {
            (1.0, 1.0)
        };
        let bytes = each * (dense as f64 / over + experts as f64 / experts_over);
        let formula = move || {
            let cut = |over: f64| {
                if over > 1.0 {
                    format!(" / {over}")
                } else {
                    String::new()
                }
            };
            format!(
                "{each} B * (dense {dense}{} + experts {experts}{})",
                cut(over),
                cut(experts_over)
            )
        };
        (bytes, formula)
    };
    let fsdp = megatron.fsdp;
    let cut_weights = fsdp == Some(Fsdp::OptimGradsParams);
    let cut_grads = cut_weights || fsdp == Some(Fsdp::OptimGrads);
    let cut_state = megatron.optimizer.distributed || fsdp.is_some();
    // Adapters come on top of the model.
    let held = if lora { all + trained } else { all };
    let (bytes, formula) = share(held, 2.0, cut_weights);
    terms.add("weights", bytes, formula);
    if cut_weights {
        let largest = [LayerKind::FullAttention, LayerKind::LinearAttention]
            .map(|kind| weights::layer_weights(&job.model.text, kind).on_rank(d))
            .map(|(dense, experts)| (dense + experts) as f64)
            .into_iter()
            .fold(0.0, f64::max);
        terms.add("gathered layers", 2.0 * 2.0 * largest, || {
            format!("2 layers * 2 B * {largest} parameters, gathered by turns")
        });
    }
    if megatron.precision.is_fp8() {
        let (bytes, formula) = share(trained, 2.0, false);
        terms.add("fp8 weights", bytes, formula);
    }
    let grad = if megatron.grad_reduce_in_fp32 {
        4.0
    } else {
        2.0
    };
    let (bytes, formula) = share(trained, grad, cut_grads);
    terms.add("gradients", bytes, formula);
    let optimizer = &megatron.optimizer;
    let size = |dtype: crate::base::DType| {
        if optimizer.precision_aware {
            dtype.size() as f64
        } else {
            4.0
        }
    };
    let (bytes, formula) = share(trained, size(optimizer.main_params), cut_state);
    terms.add("master weights", bytes, formula);
    let moments = size(optimizer.exp_avg) + size(optimizer.exp_avg_sq);
    let (bytes, formula) = share(trained, moments, cut_state);
    terms.add("adam moments", bytes, formula);
    if !megatron.grad_reduce_in_fp32 && !optimizer.precision_aware {
        let (bytes, formula) = share(trained, 4.0, cut_state);
        terms.add("f32 gradients of a share", bytes, formula);
    }
}

/// Chunks of layers whose activations a stage holds at once, out of `vpp` a micro-batch.
///
/// 1F1B: `min(m, pp - s)` micro-batches. Interleaved: the chunks before its first backward, `min(m vpp, 2 (pp - s - 1) + (vpp - 1) pp + 1)`.
pub(super) fn chunks_in_flight(job: &Job, stage: &Stage) -> usize {
    let (pp, vpp) = (job.degrees.pp, stage.chunks.len().max(1));
    let micro_batches = job.micro_batches().unwrap_or(pp).max(1);
    let after = pp.saturating_sub(stage.pp + 1);
    if vpp > 1 {
        (2 * after + (vpp - 1) * pp + 1).min(micro_batches.saturating_mul(vpp))
    } else {
        (after + 1).min(micro_batches)
    }
}

/// Tokens a rank of expert parallel gets, as a multiple of its own tokens.
fn arrivals(job: &Job, routing: Routing) -> f64 {
    let Some(moe) = &job.model.text.moe else {
        return 0.0;
    };
    let each = moe.num_experts_per_tok as f64;
    let local = moe.num_experts as f64 / job.degrees.ep.max(1) as f64;
    let balanced = each * job.degrees.etp as f64;
    match routing {
        Routing::Balanced => balanced,
        Routing::Worst => {
            (job.degrees.ep as f64 * each.min(local) * job.degrees.etp as f64).max(balanced)
        }
    }
}

fn activations_of(job: &Job, stage: &Stage, routing: Routing, terms: &mut Terms) {
    let text = &job.model.text;
    let megatron = &job.megatron;
    let d = &job.degrees;
    let (tp, cp) = (d.tp.max(1) as f64, d.cp.max(1) as f64);
    let tokens = job.batch.seq_length as f64 * job.batch.micro_batch_size as f64 / cp;
    let sp = if d.sequence_parallel { tp } else { 1.0 };
    let own = tokens / sp;
    let arrivals = arrivals(job, routing);
    let bytes = |kept: Kept| {
        tokens * (kept.stream / sp + kept.heads / tp)
            + own * arrivals * kept.routed / d.etp.max(1) as f64
    };
    let h = text.hidden_size as f64;
    let kept = |kind| bytes(activations::layer(text, kind, &megatron.recompute));
    let (full, linear) = (
        stage.count(text, LayerKind::FullAttention) as f64,
        stage.count(text, LayerKind::LinearAttention) as f64,
    );
    let layers = full + linear;
    let chunks = stage.chunks.len().max(1);
    let in_flight = chunks_in_flight(job, stage) as f64 / chunks as f64;
    let input = bytes(Kept {
        stream: 2.0 * h,
        ..Kept::default()
    });
    // Layers that keep everything, and inputs that are kept for the others.
    let (whole, inputs) = match megatron.recompute {
        MegatronRecompute::Full {
            method: RecomputeMethod::Uniform,
            num_layers,
        } => (0.0, layers / num_layers.max(1) as f64),
        MegatronRecompute::Full {
            method: RecomputeMethod::Block,
            num_layers,
        } => {
            let again = ((num_layers * chunks) as f64).min(layers);
            ((layers - again) / layers.max(1.0), again)
        }
        _ => (1.0, 0.0),
    };
    let flight = || format!("{in_flight} micro-batches in flight");
    terms.add(
        "attention layers",
        in_flight * whole * full * kept(LayerKind::FullAttention),
        || {
            format!(
                "{tokens} tokens, {full} layers, {}: {FULL_FORMULA}",
                flight()
            )
        },
    );
    terms.add(
        "delta net layers",
        in_flight * whole * linear * kept(LayerKind::LinearAttention),
        || {
            format!(
                "{tokens} tokens, {linear} layers, {}: {LINEAR_FORMULA}",
                flight()
            )
        },
    );
    terms.add("layer inputs", in_flight * inputs * input, || {
        format!(
            "{tokens} tokens * 2h of {inputs} recomputed layers, {}",
            flight()
        )
    });
    let largest = |recompute: &MegatronRecompute| {
        [
            (full + stage.mtp as f64, LayerKind::FullAttention),
            (linear, LayerKind::LinearAttention),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0.0)
        .map(|(_, kind)| bytes(activations::layer(text, kind, recompute)))
        .fold(0.0, f64::max)
    };
    if let MegatronRecompute::Full { method, num_layers } = megatron.recompute {
        let again = match method {
            RecomputeMethod::Uniform => (num_layers as f64).min(layers.max(1.0)),
            RecomputeMethod::Block => 1.0,
        };
        terms.add(
            "layers computed again",
            again * largest(&MegatronRecompute::None),
            || format!("{tokens} tokens, {again} layers as without recompute"),
        );
    } else {
        // Gradients beside what is kept: those of the widest parts of one layer.
        terms.add(
            "layer backward",
            largest(&MegatronRecompute::None) / 2.0,
            || format!("{tokens} tokens, half of what the fullest layer keeps, assumed"),
        );
    }
    if stage.mtp > 0 {
        let uniform = matches!(
            megatron.recompute,
            MegatronRecompute::Full {
                method: RecomputeMethod::Uniform,
                ..
            }
        );
        let depth = if uniform {
            2.0 * input
        } else {
            let recompute = match &megatron.recompute {
                MegatronRecompute::Full { .. } => &MegatronRecompute::None,
                other => other,
            };
            bytes(
                activations::layer(text, LayerKind::FullAttention, recompute)
                    .plus(activations::mtp(text)),
            )
        };
        terms.add("mtp activations", stage.mtp as f64 * depth, || {
            format!(
                "{tokens} tokens, {} depths: a layer + 16h stream, or 4h recomputed",
                stage.mtp
            )
        });
    }
    if text.moe.is_some() && layers > 0.0 {
        let buffers = match megatron.dispatcher {
            Dispatcher::AllGather => d.ep as f64 * d.tp as f64,
            _ => arrivals,
        };
        terms.add("dispatch buffers", own * buffers * 2.0 * 2.0 * h, || {
            format!("{own} tokens * {buffers} arrivals * 2h B, sent and received")
        });
    }
    loss(job, stage, tokens, input, terms);
    vision(job, stage, terms);
}

/// Logits of every head, and the hidden states that they read.
fn loss(job: &Job, stage: &Stage, tokens: f64, input: f64, terms: &mut Terms) {
    if !stage.head {
        return;
    }
    let heads = 1.0 + stage.mtp as f64;
    let (kept, gradient) = match job.megatron.cross_entropy {
        // bf16 logits, their f32 copy that becomes the softmax; gradient in f32 and bf16.
        CrossEntropy::Unfused => (6.0, 6.0),
        // The fused one makes the f32 copy too; its gradient is bf16.
        CrossEntropy::Native => (6.0, 2.0),
        // Works in place of the bf16 logits.
        CrossEntropy::TransformerEngine => (2.0, 0.0),
    };
    let vocabulary = weights::vocabulary(job) as f64 / job.degrees.tp.max(1) as f64;
    terms.add(
        "logits and loss",
        tokens * vocabulary * (heads * kept + gradient),
        || {
            format!(
                "{tokens} tokens * V {vocabulary} * ({heads} heads * {kept} B + {gradient} B of gradient)"
            )
        },
    );
    terms.add("head input", input * 2.0 * heads, || {
        format!("{tokens} tokens * 2h * 2 for {heads} heads")
    });
}

/// The tower's blocks, on the first stage.
fn vision(job: &Job, stage: &Stage, terms: &mut Terms) {
    let (Some(config), 0) = (&job.model.vision, stage.pp) else {
        return;
    };
    let patches = job.megatron.patches as f64 * job.batch.micro_batch_size as f64;
    let frozen = matches!(
        job.megatron.tuning,
        Tuning::Full(Frozen {
            vision_model: true,
            ..
        })
    );
    let kept = activations::vision_block(config);
    let tp = job.degrees.tp.max(1) as f64;
    let each = kept.stream + kept.heads / tp;
    let flight = chunks_in_flight(job, stage) as f64 / stage.chunks.len().max(1) as f64;
    // A frozen tower keeps nothing for a backward, but one block works.
    let blocks = if frozen {
        1.0
    } else {
        match job.megatron.recompute {
            MegatronRecompute::Full { .. } => 1.0,
            _ => config.depth as f64 * flight,
        }
    };
    terms.add("vision tower", patches * each * blocks, || {
        format!("{patches} patches * {blocks} blocks * {each} B: 8vh + (8vh + 4vi) / tp")
    });
}
