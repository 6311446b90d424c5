//! What our own trainer holds at the fullest moment of a step on one GPU, term by term.
//!
//! The step is followed phase by phase, since what a backward needs goes as what the forward kept is given up. Legend: `N` tokens of a
//! micro-batch, `a` bytes of an activation, `h` hidden size, `I` MLP width, `H K d` query heads, key-value heads and their width, `C`
//! channels of the convolution, `Hv dk dv` value heads and head widths of the gated delta net, `V` vocabulary, `P` parameters.

use super::{DELTA_CHUNK, MemoryTerm, Recompute, RecomputeModule};
use crate::base::{Bytes, DType};
use crate::spec::{LayerKind, TextConfig, parameters};

/// Bytes that matrix products may use besides their operands.
pub const MATRIX_WORKSPACE: Bytes = Bytes(32 << 20);

/// What the driver, the loaded kernels and the libraries' handles hold in a process that trains.
///
/// On an H100 with driver 580, where the driver counts so much more than the pool holds.
pub const DRIVER_CONTEXT: Bytes = Bytes(597 << 20);

/// Share of activations, logits and workspace that the pool holds in addition, in 1/1000: gaps between tensors of many sizes. Measured on a
/// step of the 0.8B model with 2 sequences of 4096 tokens.
const SLACK_PER_MILLE: u64 = 38;
/// Its least, as the steps of 17 shapes show: this much, or a fifth of what comes and goes.
const LEAST_SLACK: Bytes = Bytes(400 << 20);

/// In which types a step calculates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Weights and activations `bf16`; masters, gradients and moments `f32`.
    #[default]
    Bf16,
    /// Everything `f32`; the weights are their own masters.
    F32,
}

impl Precision {
    /// Type of activations and of the weights that layers read.
    pub fn activations(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F32 => DType::F32,
        }
    }
}

/// What the optimizer keeps of every parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OptimizerState {
    /// Two `f32` moments.
    #[default]
    AdamW,
    /// Nothing: gradients alone are wanted.
    None,
}

/// What a step on one GPU works on, as far as memory depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepShape {
    /// Sequences of a micro-batch; accumulation over several costs nothing more.
    pub micro_batch_size: usize,
    /// Tokens of a sequence.
    pub seq_length: usize,
    /// In which types it calculates.
    pub precision: Precision,
    /// What the backward computes again.
    pub recompute: Recompute,
    /// What the optimizer keeps.
    pub optimizer: OptimizerState,
    /// Tokens whose logits exist at the same time.
    pub loss_chunk: usize,
    /// Whether layers keep what one pass over memory would give again, as they do on the CPU.
    pub keeps_cheap: bool,
}

/// What a step holds at its fullest moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// The terms, none of them zero.
    pub terms: Vec<MemoryTerm>,
    /// Their sum: what the process takes of the GPU, the driver's part included.
    pub total: Bytes,
    /// The moment: `mtp loss`, `backward of layer 23`.
    pub moment: String,
}

impl StepPlan {
    /// The bytes of the term `name`; 0 where there is none.
    pub fn term(&self, name: &str) -> Bytes {
        let term = self.terms.iter().find(|term| term.name == name);
        term.map_or(Bytes(0), |term| term.bytes)
    }

    /// What the trainer itself allocates: all but the driver's context and the pool's slack.
    pub fn allocated(&self) -> Bytes {
        let outside = self.term("driver context").0 + self.term("allocator slack").0;
        Bytes(self.total.0.saturating_sub(outside))
    }

    /// The terms from the largest on.
    pub fn largest(&self) -> Vec<&MemoryTerm> {
        let mut terms: Vec<_> = self.terms.iter().collect();
        terms.sort_by_key(|term| std::cmp::Reverse(term.bytes));
        terms
    }
}

/// Bytes a token with the words that say how they are counted.
#[derive(Debug, Clone)]
struct PerToken {
    bytes: u64,
    formula: String,
}

/// The widths of a model, in scalars a token.
struct Widths {
    /// Bytes of an activation.
    a: u64,
    h: u64,
    mlp: u64,
    query: u64,
    key: u64,
    heads: u64,
    channels: u64,
    value: u64,
    key_heads: u64,
    value_heads: u64,
    state: u64,
    rotary: u64,
    keeps_cheap: bool,
}

impl Widths {
    fn of(config: &TextConfig, precision: Precision, keeps_cheap: bool) -> Self {
        let heads = config.num_attention_heads as u64;
        let value_heads = config.linear_num_value_heads as u64;
        Self {
            a: precision.activations().size(),
            h: config.hidden_size as u64,
            mlp: config.intermediate_size as u64,
            query: heads * config.head_dim as u64,
            key: (config.num_key_value_heads * config.head_dim) as u64,
            heads,
            channels: config.linear_conv_dim() as u64,
            value: config.linear_value_dim() as u64,
            key_heads: config.linear_num_key_heads as u64,
            value_heads,
            state: value_heads * (config.linear_key_head_dim * config.linear_value_head_dim) as u64,
            rotary: config.rotary_dim() as u64,
            keeps_cheap,
        }
    }

    /// Columns of the joint projection of a mixer.
    fn joint(&self, kind: LayerKind) -> u64 {
        match kind {
            LayerKind::FullAttention => 2 * self.query + 2 * self.key,
            LayerKind::LinearAttention => self.channels + self.value + 2 * self.value_heads,
        }
    }

    /// What a layer keeps: its input, the joint projection, the mixer's output (attention's with its row sums in `f32`), the stream between
    /// mixer and MLP, the MLP's joint projection. Outputs of norms, convolution and gates, rotated heads, the MLP's product and states of
    /// chunks are made again by the backwards and never kept.
    fn kept(&self, kind: LayerKind, recompute: &Recompute) -> PerToken {
        let Self { a, h, .. } = *self;
        if *recompute == Recompute::Full {
            return PerToken {
                bytes: a * h,
                formula: "a h".into(),
            };
        }
        let (joint, core, module) = match kind {
            LayerKind::FullAttention => ("2Hd + 2Kd", "a Hd + 4H", RecomputeModule::CoreAttn),
            LayerKind::LinearAttention => {
                ("C + Hv dv + 2Hv", "a Hv dv", RecomputeModule::GatedDelta)
            }
        };
        let mut bytes = a * (2 * h + self.joint(kind));
        let mut formula = format!("a (2h + {joint})");
        if recompute.keeps(module) {
            bytes += self.core(kind);
            formula = format!("{formula} + {core}");
        }
        if recompute.keeps(RecomputeModule::MlpAct) {
            bytes += a * 2 * self.mlp;
            formula += " + a 2I";
        }
        let cheap = self.cheap(kind, recompute);
        if cheap > 0 {
            bytes += cheap;
            formula += " + norms, rotated heads, delta inputs and states";
        }
        PerToken { bytes, formula }
    }

    /// What a layer keeps on the CPU although its backward could make it again: outputs of its norms with rotated heads, the delta rule's
    /// inputs with the states and corrected values of its chunks.
    fn cheap(&self, kind: LayerKind, recompute: &Recompute) -> u64 {
        let a = self.a;
        if !self.keeps_cheap {
            return 0;
        }
        let norms = if recompute.keeps(RecomputeModule::Norm) {
            a * (2 * self.h + self.rotated(kind))
        } else {
            0
        };
        let delta = match kind {
            LayerKind::LinearAttention if recompute.keeps(RecomputeModule::GatedDelta) => {
                self.delta_inputs() + 4 * (self.state / DELTA_CHUNK as u64 + self.value)
            }
            _ => 0,
        };
        norms + delta
    }

    fn rotated(&self, kind: LayerKind) -> u64 {
        match kind {
            LayerKind::FullAttention => self.query + self.key,
            LayerKind::LinearAttention => 0,
        }
    }

    /// The convolution's output, `g` and `beta`.
    fn delta_inputs(&self) -> u64 {
        self.a * self.channels + 8 * self.value_heads
    }

    /// The output of a mixer's core and what its backward needs besides.
    fn core(&self, kind: LayerKind) -> u64 {
        match kind {
            LayerKind::FullAttention => self.a * self.query + 4 * self.heads,
            LayerKind::LinearAttention => self.a * self.value,
        }
    }

    /// Most bytes a token that the backward of a layer holds beyond what is kept of it, what is computed again included.
    fn backward(&self, kind: LayerKind, recompute: &Recompute) -> PerToken {
        let Self { a, h, mlp, .. } = *self;
        let again = match recompute {
            // All of the layer is there again before its backward begins.
            Recompute::Full => {
                self.kept(kind, &Recompute::None).bytes - self.kept(kind, recompute).bytes
            }
            _ => 0,
        };
        let gate_up = if recompute.keeps(RecomputeModule::MlpAct) {
            0
        } else {
            a * 2 * mlp
        };
        let module = match kind {
            LayerKind::FullAttention => RecomputeModule::CoreAttn,
            LayerKind::LinearAttention => RecomputeModule::GatedDelta,
        };
        let core = if recompute.keeps(module) {
            0
        } else {
            self.core(kind)
        };
        // The layer's output gradient and its normed input; d_act, d_gate_up and the product.
        let in_mlp = gate_up + a * (2 * h + 4 * mlp);
        // Three of the stream: the gradients of the layer's output and of the mixer's, the normed input. By then the MLP's joint projection,
        // where it was kept, and the stream between are given up.
        let given_up = a * h + (a * 2 * mlp - gate_up);
        let (in_mixer, formula) = match kind {
            // Rotated queries and keys, the joint gradient; d_gated, d_o and the gated output.
            LayerKind::FullAttention => (
                core + a * (3 * h + self.query + self.key + self.joint(kind) + 3 * self.query),
                "a (2h + 6Hd + 3Kd - 2I) in the mixer",
            ),
            // The convolution's output, the joint gradient, d_o in the place of o, the gradient of the convolution's output; states of
            // chunks and their gradients, four more tiles of a chunk's values with their triangle, g and beta with their gradients.
            LayerKind::LinearAttention => {
                let shared = if self.value_heads > self.key_heads {
                    4
                } else {
                    3
                };
                let tiles = a * (2 + shared) * self.value
                    + a * DELTA_CHUNK as u64 * self.value_heads
                    + 2 * a * self.state / DELTA_CHUNK as u64;
                (
                    core + a * (3 * h + 2 * self.channels + self.joint(kind))
                        + tiles
                        + (16 + 24) * self.value_heads,
                    "a (2h + 3C + 6Hv dv + 66Hv - 2I + 2Hv dk dv / 64) + 40Hv in the mixer",
                )
            }
        };
        // On the CPU these are kept already.
        let there = match kind {
            _ if !self.keeps_cheap => 0,
            LayerKind::FullAttention => a * (h + self.rotated(kind)),
            LayerKind::LinearAttention => a * h + self.delta_inputs(),
        };
        let in_mlp = in_mlp - if self.keeps_cheap { a * h } else { 0 };
        let in_mixer = in_mixer.saturating_sub(given_up + there);
        if in_mlp >= in_mixer {
            PerToken {
                bytes: again + in_mlp,
                formula: "a (2h + 4I) in the MLP".into(),
            }
        } else {
            PerToken {
                bytes: again + in_mixer,
                formula: formula.into(),
            }
        }
    }

    /// What one MTP depth keeps: the embedded tokens, its layer, the layer's output. The hidden state that it reads is counted once, as
    /// the output of the depth before.
    fn mtp(&self, recompute: &Recompute) -> u64 {
        let Self { a, h, .. } = *self;
        if *recompute == Recompute::Full {
            return a * h;
        }
        let joined = if self.keeps_cheap && recompute.keeps(RecomputeModule::Norm) {
            2 * h
        } else {
            0
        };
        a * (2 * h + joined) + self.kept(LayerKind::FullAttention, recompute).bytes
    }
}

/// Bytes a token that are live at one moment, by what they are.
#[derive(Debug, Clone, Default)]
struct Moment {
    name: String,
    linear: u64,
    full: u64,
    mtp: u64,
    head: u64,
    work: u64,
    work_formula: String,
    has_logits: bool,
}

impl Moment {
    fn per_token(&self) -> u64 {
        self.linear + self.full + self.mtp + self.head + self.work
    }
}

/// Every moment that can be the fullest.
fn moments(config: &TextConfig, widths: &Widths, recompute: &Recompute) -> Vec<Moment> {
    let Widths { a, h, .. } = *widths;
    let depths = config.mtp_num_hidden_layers as u64;
    let kept = |kind| widths.kept(kind, recompute).bytes;
    let count = |kind, layers: &[LayerKind]| {
        layers.iter().filter(|&&layer| layer == kind).count() as u64 * kept(kind)
    };
    let layers = &config.layer_types;
    let all = Moment {
        linear: count(LayerKind::LinearAttention, layers),
        full: count(LayerKind::FullAttention, layers),
        ..Moment::default()
    };
    let mut list = Vec::new();
    if depths > 0 {
        let mtp = depths * widths.mtp(recompute);
        // What the final norm reads and gives, every depth's hidden state, one gradient of a hidden state.
        let head = a * h * (2 + depths);
        list.push(Moment {
            name: "mtp loss".into(),
            mtp,
            head: head + a * h,
            has_logits: true,
            ..all.clone()
        });
        let layer = match recompute {
            // The whole depth is made again.
            Recompute::Full => widths.mtp(&Recompute::None) - widths.mtp(recompute),
            _ => 0,
        };
        let inner = match recompute {
            Recompute::Full => &Recompute::None,
            other => other,
        };
        let work = widths.backward(LayerKind::FullAttention, inner);
        list.push(Moment {
            name: "mtp backward".into(),
            mtp,
            // The gradients of the depth's hidden state and of what its last norm reads.
            head: head + a * h,
            work: work.bytes + layer,
            work_formula: work.formula,
            ..all.clone()
        });
    }
    list.push(Moment {
        name: "main loss".into(),
        // What the final norm reads and gives, its gradient, and the one that comes from MTP.
        head: a * h * (3 + depths.min(1)),
        has_logits: true,
        ..all.clone()
    });
    for (index, &kind) in layers.iter().enumerate().rev() {
        let left = &layers[..=index];
        // Below the topmost layer of a kind nothing can be fuller.
        if layers[index + 1..].contains(&kind) {
            continue;
        }
        let work = widths.backward(kind, recompute);
        list.push(Moment {
            name: format!("backward of layer {index}"),
            linear: count(LayerKind::LinearAttention, left),
            full: count(LayerKind::FullAttention, left),
            head: a * h * 2,
            work: work.bytes,
            work_formula: work.formula,
            ..Moment::default()
        });
    }
    list
}

/// What a step of `config` on one GPU holds at its fullest moment.
pub fn step_plan(config: &TextConfig, shape: &StepShape) -> StepPlan {
    let widths = Widths::of(config, shape.precision, shape.keeps_cheap);
    let a = widths.a;
    let tokens = (shape.seq_length as u64).saturating_mul(shape.micro_batch_size as u64);
    let chunk = (shape.loss_chunk as u64).clamp(1, tokens.max(1));
    let vocabulary = config.vocab_size as u64;
    let logits = chunk.saturating_mul(vocabulary).saturating_mul(a);
    let size = |moment: &Moment| {
        let logits = if moment.has_logits { logits } else { 0 };
        tokens
            .saturating_mul(moment.per_token())
            .saturating_add(logits)
    };
    let moment = moments(config, &widths, &shape.recompute)
        .into_iter()
        .rev()
        .max_by_key(size)
        .unwrap_or_default();

    let mut terms = state_terms(config, shape);
    let mut add = |name, bytes: u64, formula: String| {
        terms.push(MemoryTerm {
            name,
            bytes: Bytes(bytes),
            formula,
        });
    };
    let times = |per_token: u64| tokens.saturating_mul(per_token);
    let kept = |kind| widths.kept(kind, &shape.recompute);
    for (name, kind, bytes) in [
        (
            "delta net layers",
            LayerKind::LinearAttention,
            moment.linear,
        ),
        ("attention layers", LayerKind::FullAttention, moment.full),
    ] {
        let PerToken {
            bytes: each,
            formula,
        } = kept(kind);
        let layers = bytes / each.max(1);
        add(
            name,
            times(bytes),
            format!("{tokens} tokens * {layers} layers * {each} B; {formula}"),
        );
    }
    add(
        "mtp activations",
        times(moment.mtp),
        format!(
            "{tokens} tokens * {} depths * {} B",
            config.mtp_num_hidden_layers,
            widths.mtp(&shape.recompute)
        ),
    );
    add(
        "head input",
        times(moment.head),
        format!(
            "{tokens} tokens * {} hidden states and gradients * {} B",
            moment.head / (a * widths.h).max(1),
            a * widths.h
        ),
    );
    if moment.has_logits {
        let formula = format!("{chunk} tokens * V {vocabulary} * {a} B");
        add("logits chunk", logits, formula);
    }
    let work = format!(
        "{tokens} tokens * {} B; {}",
        moment.work, moment.work_formula
    );
    add("layer backward", times(moment.work), work);
    // Angles as cosines and sines, ids, labels and weights of every depth, results of every token.
    let losses = 1 + config.mtp_num_hidden_layers as u64;
    let batch = 4 * widths.rotary + 24 * losses;
    add(
        "batch",
        times(batch),
        format!("{tokens} tokens * {batch} B; 4 rotary + 24 * {losses} losses"),
    );
    let comes_and_goes = size(&moment).saturating_add(times(batch));
    let least = LEAST_SLACK.0.min(comes_and_goes / 5);
    let slack = (comes_and_goes.saturating_mul(SLACK_PER_MILLE) / 1000).max(least);
    add(
        "matrix workspace",
        MATRIX_WORKSPACE.0,
        "fixed, for cuBLASLt".into(),
    );
    add(
        "allocator slack",
        slack,
        format!(
            "{}.{} % of what comes and goes; at least {LEAST_SLACK}, or a fifth of it",
            SLACK_PER_MILLE / 10,
            SLACK_PER_MILLE % 10
        ),
    );
    add(
        "driver context",
        DRIVER_CONTEXT.0,
        "measured: context, kernels, handles".into(),
    );
    terms.retain(|term| term.bytes.0 > 0);
    let total = terms
        .iter()
        .fold(0, |sum: u64, term| sum.saturating_add(term.bytes.0));
    StepPlan {
        terms,
        total: Bytes(total),
        moment: moment.name,
    }
}

/// Weights, masters, gradients and moments.
fn state_terms(config: &TextConfig, shape: &StepShape) -> Vec<MemoryTerm> {
    let count = parameters(config).total;
    let f32 = DType::F32.size();
    let term = |name, each: u64| MemoryTerm {
        name,
        bytes: Bytes(count.saturating_mul(each)),
        formula: format!("{count} parameters * {each} B"),
    };
    let mut terms = vec![term("weights", shape.precision.activations().size())];
    if shape.precision == Precision::Bf16 {
        terms.push(term("master weights", f32));
    }
    terms.push(term("gradients", f32));
    if shape.optimizer == OptimizerState::AdamW {
        terms.push(term("adam moments", 2 * f32));
    }
    terms
}
