//! What the fullest rank holds, term by term.
//!
//! Legend: `N` tokens of a micro-batch, `h` hidden size, `F` MLP width, `H K d` query heads, key-value heads and their width, `C` channels of
//! the convolution, `Hv dk dv` value heads and the head widths of the gated delta net, `V` vocabulary, `D` MTP depths.

mod fit;
mod step;

use super::{Degrees, Stage, stages};
use crate::base::{Bytes, DType};
use crate::spec::{LayerKind, LayerRef, Role, TensorSpec, TextConfig, tensors};

pub use fit::{Fit, fitting};
pub use step::{
    DRIVER_CONTEXT, MATRIX_WORKSPACE, OptimizerState, Precision, StepPlan, StepShape, step_plan,
};

/// Tokens of a chunk of the gated delta rule; a state is kept for each.
const DELTA_CHUNK: usize = 64;

/// What the estimate leaves out, but for one GPU with [`Storage::MixedBf16`], where [`step_plan`] counts it.
pub const NOT_MODELLED: &str = "allocator slack, matrix-product workspace, collectives' buffers";

/// What is kept in which precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// The trainer on CPU: everything is `f32`, and the weights are their own masters.
    LocalF32,
    /// GPUs: weights and activations `bf16`; gradients, masters and moments `f32`, masters and moments cut over `dp * cp`.
    MixedBf16,
}

impl Storage {
    /// Type of activations and of the weights that layers read.
    pub fn activations(self) -> DType {
        match self {
            Self::LocalF32 => DType::F32,
            Self::MixedBf16 => DType::BF16,
        }
    }
}

/// A part of a layer that selective recompute covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecomputeModule {
    /// Softmax attention with its gate.
    CoreAttn,
    /// The gated delta rule.
    GatedDelta,
    /// The MLP's activation.
    MlpAct,
    /// Norms, and the rotary embedding after those of query and key.
    Norm,
}

/// What the backward computes again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// The named parts.
    Selective(Vec<RecomputeModule>),
    /// Whole layers; only their input is kept.
    Full,
}

impl Recompute {
    fn keeps(&self, module: RecomputeModule) -> bool {
        match self {
            Self::Selective(modules) => !modules.contains(&module),
            Self::None | Self::Full => true,
        }
    }
}

/// What a step works on, as far as memory depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainShape {
    /// Tokens of a sequence.
    pub seq_length: usize,
    /// Sequences of a micro-batch.
    pub micro_batch_size: usize,
    /// Micro-batches of a step on one data-parallel rank; a pipeline holds several at once.
    pub micro_batches: usize,
    /// Tokens of a cross-entropy chunk.
    pub loss_chunk: usize,
    /// What the backward computes again.
    pub recompute: Recompute,
    /// What is kept in which precision.
    pub storage: Storage,
}

impl TrainShape {
    /// The same as a step of our own trainer on one GPU.
    pub fn one_gpu(&self) -> StepShape {
        StepShape {
            micro_batch_size: self.micro_batch_size,
            seq_length: self.seq_length,
            precision: match self.storage {
                Storage::LocalF32 => Precision::F32,
                Storage::MixedBf16 => Precision::Bf16,
            },
            recompute: self.recompute.clone(),
            optimizer: OptimizerState::AdamW,
            loss_chunk: self.loss_chunk,
            keeps_cheap: false,
        }
    }
}

/// One term of an estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTerm {
    /// What it is.
    pub name: &'static str,
    /// How much on this rank.
    pub bytes: Bytes,
    /// How it is counted, with its numbers.
    pub formula: String,
}

/// What a rank of one pipeline stage holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The stage.
    pub stage: usize,
    /// The terms, none of them zero.
    pub terms: Vec<MemoryTerm>,
    /// Their sum.
    pub total: Bytes,
}

/// The estimate of the fullest stage; none if the layers do not divide into stages.
pub fn memory(
    config: &TextConfig,
    degrees: &Degrees,
    shape: &TrainShape,
) -> Option<MemoryEstimate> {
    memory_by_stage(config, degrees, shape)?
        .into_iter()
        .rev()
        .max_by_key(|estimate| estimate.total)
}

/// The estimate of every stage; all ranks of a stage hold the same. None if the layers do not divide into stages or a degree is 0.
pub fn memory_by_stage(
    config: &TextConfig,
    degrees: &Degrees,
    shape: &TrainShape,
) -> Option<Vec<MemoryEstimate>> {
    if degrees.world_size() == 0 {
        return None;
    }
    if degrees.world_size() == 1 && shape.storage == Storage::MixedBf16 {
        // One GPU is our own trainer's, whose step is known tensor by tensor.
        let plan = step_plan(config, &shape.one_gpu());
        return Some(vec![MemoryEstimate {
            stage: 0,
            terms: plan.terms,
            total: plan.total,
        }]);
    }
    let list = tensors(config);
    let stages = stages(config, degrees)?;
    let estimate = |stage: &Stage| {
        let mut terms = parameter_terms(config, degrees, shape, stage, &list);
        terms.extend(activation_terms(config, degrees, shape, stage));
        terms.retain(|term| term.bytes.0 > 0);
        MemoryEstimate {
            stage: stage.pp,
            total: terms.iter().fold(Bytes(0), |sum, term| {
                Bytes(sum.0.saturating_add(term.bytes.0))
            }),
            terms,
        }
    };
    Some(stages.iter().map(estimate).collect())
}

/// Scalars of the weights that a rank of `stage` holds.
fn parameters_on(
    config: &TextConfig,
    degrees: &Degrees,
    stage: &Stage,
    list: &[TensorSpec],
) -> u64 {
    let on_stage = |tensor: &TensorSpec| match (tensor.layer, tensor.role) {
        (Some(LayerRef::Decoder(layer)), _) => {
            stage.chunks.iter().any(|chunk| chunk.contains(&layer))
        }
        (Some(LayerRef::Mtp(_)), _) => stage.mtp > 0,
        (Some(LayerRef::Vision(_)), _) | (_, Role::Vision(_) | Role::VisionBias(_)) => {
            stage.pp == 0
        }
        (None, Role::Embedding) => stage.embedding,
        (None, Role::Norm) => stage.final_norm,
        (None, _) => stage.head,
    };
    let mut sum: u64 = list
        .iter()
        .filter(|tensor| on_stage(tensor))
        .map(|tensor| per_rank(tensor, degrees.tp))
        .sum();
    // With MTP, the last of several stages has the tied matrix twice: as embedding and as head.
    if stage.tied_head {
        sum += (config.vocab_size.div_ceil(degrees.tp) * config.hidden_size) as u64;
    }
    sum
}

/// Scalars of a tensor on one tensor-parallel rank: norms are whole, all else is cut.
fn per_rank(tensor: &TensorSpec, tp: usize) -> u64 {
    let elements = tensor.shape.elements();
    match tensor.role {
        Role::Norm | Role::GdnNorm => elements,
        _ => elements.div_ceil(tp as u64),
    }
}

fn parameter_terms(
    config: &TextConfig,
    degrees: &Degrees,
    shape: &TrainShape,
    stage: &Stage,
    list: &[TensorSpec],
) -> Vec<MemoryTerm> {
    let count = parameters_on(config, degrees, stage, list);
    let term = |name, each: u64, over: usize| {
        let cut = if over > 1 {
            format!(" / {over}")
        } else {
            String::new()
        };
        MemoryTerm {
            name,
            bytes: Bytes(
                u64::try_from((u128::from(count) * u128::from(each)).div_ceil(over as u128))
                    .unwrap_or(u64::MAX),
            ),
            formula: format!("{count} parameters * {each} B{cut}"),
        }
    };
    let f32 = DType::F32.size();
    let over = degrees.dp * degrees.cp;
    match shape.storage {
        Storage::LocalF32 => vec![
            term("weights", f32, 1),
            term("gradients", f32, 1),
            term("adam moments", 2 * f32, 1),
        ],
        Storage::MixedBf16 => vec![
            term("weights", DType::BF16.size(), 1),
            term("gradients", f32, 1),
            term("master weights", f32, over),
            term("adam moments", 2 * f32, over),
        ],
    }
}

/// Scalars a token that a layer keeps for its backward: in the parts that sequence parallel cuts, and in those that tensor parallel cuts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kept {
    residual: usize,
    parallel: usize,
}

/// Scalars a token that a layer of `kind` keeps on one rank without any parallelism, its input included and its output not.
pub fn layer_activations(config: &TextConfig, kind: LayerKind, recompute: &Recompute) -> usize {
    let kept = layer_kept(config, kind, recompute);
    kept.residual + kept.parallel
}

fn layer_kept(config: &TextConfig, kind: LayerKind, recompute: &Recompute) -> Kept {
    let h = config.hidden_size;
    if *recompute == Recompute::Full {
        return Kept {
            residual: h,
            parallel: 0,
        };
    }
    let when = |module, count| {
        if recompute.keeps(module) { count } else { 0 }
    };
    let f = config.intermediate_size;
    let mlp = 2 * f + when(RecomputeModule::MlpAct, f);
    let norms = when(RecomputeModule::Norm, 2 * h);
    let mixer = match kind {
        LayerKind::FullAttention => {
            let d = config.head_dim;
            let (q, kv) = (
                config.num_attention_heads * d,
                config.num_key_value_heads * d,
            );
            let projections = 2 * q + 2 * kv;
            let rotated = when(RecomputeModule::Norm, q + kv);
            let core = when(
                RecomputeModule::CoreAttn,
                2 * q + config.num_attention_heads,
            );
            projections + rotated + core
        }
        LayerKind::LinearAttention => {
            let heads = config.linear_num_value_heads;
            let (channels, value) = (config.linear_conv_dim(), config.linear_value_dim());
            let projections = channels + value + 2 * heads;
            let states = heads * config.linear_key_head_dim * config.linear_value_head_dim;
            let core = when(
                RecomputeModule::GatedDelta,
                channels + 2 * heads + value + states / DELTA_CHUNK,
            );
            let normed = when(RecomputeModule::Norm, value);
            projections + core + normed
        }
    };
    Kept {
        residual: 2 * h + norms,
        parallel: mixer + mlp,
    }
}

fn activation_terms(
    config: &TextConfig,
    degrees: &Degrees,
    shape: &TrainShape,
    stage: &Stage,
) -> Vec<MemoryTerm> {
    let size = shape.storage.activations().size();
    let tokens = shape
        .seq_length
        .saturating_mul(shape.micro_batch_size)
        .div_ceil(degrees.cp);
    let h = config.hidden_size;
    let residual_cut = if degrees.sequence_parallel {
        degrees.tp
    } else {
        1
    };
    let scalars =
        |kept: Kept| kept.residual.div_ceil(residual_cut) + kept.parallel.div_ceil(degrees.tp);
    let bytes = |scalars: usize| {
        let bytes = (tokens as u64).saturating_mul(scalars as u64);
        Bytes(bytes.saturating_mul(size))
    };
    let residual = |residual| Kept {
        residual,
        parallel: 0,
    };
    let full = layer_kept(config, LayerKind::FullAttention, &shape.recompute);
    let linear = layer_kept(config, LayerKind::LinearAttention, &shape.recompute);
    let full_layers = stage.count(config, LayerKind::FullAttention);
    let linear_layers = stage.count(config, LayerKind::LinearAttention);

    let in_flight = in_flight(degrees, shape, stage);
    let per_token = full_layers * scalars(full) + linear_layers * scalars(linear);
    let flight = if in_flight > 1.0 {
        format!(" * {in_flight:.2} micro-batches in flight")
    } else {
        String::new()
    };
    let mut terms = vec![MemoryTerm {
        name: "activations",
        bytes: Bytes((bytes(per_token).0 as f64 * in_flight) as u64),
        formula: format!(
            "{tokens} tokens * ({full_layers} full * {} + {linear_layers} linear * {}) * {size} B{flight}",
            scalars(full),
            scalars(linear),
        ),
    }];

    if shape.recompute == Recompute::Full {
        let kinds = [
            (full_layers + stage.mtp, LayerKind::FullAttention),
            (linear_layers, LayerKind::LinearAttention),
        ];
        let largest = kinds
            .into_iter()
            .filter(|&(layers, _)| layers > 0)
            .map(|(_, kind)| scalars(layer_kept(config, kind, &Recompute::None)))
            .max()
            .unwrap_or(0);
        terms.push(MemoryTerm {
            name: "one layer again",
            bytes: bytes(largest),
            formula: format!("{tokens} tokens * {largest} * {size} B"),
        });
    }
    if stage.mtp > 0 {
        // Embedded tokens and the hidden states of the depth before; unless recomputed, also both after their norms, the layer, and
        // what the last norm reads.
        let own = match shape.recompute {
            Recompute::Full => scalars(residual(2 * h)),
            _ if shape.recompute.keeps(RecomputeModule::Norm) => {
                scalars(residual(5 * h)) + scalars(full)
            }
            _ => scalars(residual(3 * h)) + scalars(full),
        };
        terms.push(MemoryTerm {
            name: "mtp activations",
            bytes: bytes(stage.mtp * own),
            formula: format!("{tokens} tokens * {} depths * {own} * {size} B", stage.mtp),
        });
    }
    if stage.head {
        let heads = 1 + stage.mtp;
        // What the final norm reads, the hidden states that each head reads, and their gradients.
        let hidden = scalars(residual((2 * heads + 1) * h));
        terms.push(MemoryTerm {
            name: "head input",
            bytes: bytes(hidden),
            formula: format!("{tokens} tokens * {hidden} * {size} B for {heads} heads"),
        });
        let chunk = shape.loss_chunk.min(tokens).max(1);
        let vocab = config.vocab_size.div_ceil(degrees.tp);
        let f32 = DType::F32.size();
        terms.push(MemoryTerm {
            name: "logits chunk",
            bytes: Bytes((chunk as u64 * f32).saturating_mul(vocab as u64)),
            formula: format!("{chunk} tokens * V {vocab} * {f32} B"),
        });
    }
    terms
}

/// Micro-batches whose activations a stage holds at once: `min(m, pp - s)`, with virtual stages `(pp - 1) / (pp * vpp)` more.
fn in_flight(degrees: &Degrees, shape: &TrainShape, stage: &Stage) -> f64 {
    let depth = (degrees.pp - stage.pp).min(shape.micro_batches.max(1)) as f64;
    if degrees.vpp > 1 && degrees.pp > 1 {
        let (pp, vpp) = (degrees.pp as f64, degrees.vpp as f64);
        return depth * (1.0 + (pp - 1.0) / (pp * vpp));
    }
    depth
}
