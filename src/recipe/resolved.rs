//! The resolved recipe: every value an experiment needs, defaults filled in.

use std::path::PathBuf;

use crate::spec::TextConfig;

/// A validated experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// What is trained.
    pub model: Model,
    /// How it is spread.
    pub parallel: Parallel,
    /// Steps, batches, device.
    pub train: Train,
    /// `AdamW` and clipping.
    pub optimizer: Optimizer,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// Text.
    pub data: Data,
    /// Multi-Token Prediction.
    pub mtp: Mtp,
    /// What the backward computes again.
    pub recompute: Recompute,
    /// When weights are saved.
    pub checkpoint: Checkpoint,
    /// What is said how often.
    pub logging: Logging,
    /// What deserves a warning.
    pub alerts: Alerts,
}

/// `[model]`: what is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Registry name (`qwen3_5-0_8b`) or a free name for an own geometry.
    pub name: String,
    /// Geometry; its `mtp_num_hidden_layers` is the MTP depth (R6).
    pub config: TextConfig,
    /// Where weights start.
    pub init: Init,
}

/// Where weights start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Random, by `train.seed`.
    Random,
    /// A Hugging Face directory.
    HuggingFace(PathBuf),
}

/// `[parallel]`: degrees of each axis; the local trainer needs all to be 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parallel {
    /// Tensor parallel.
    pub tp: usize,
    /// Pipeline parallel.
    pub pp: usize,
    /// Virtual pipeline stages a rank.
    pub vpp: usize,
    /// Context parallel.
    pub cp: usize,
    /// Expert parallel.
    pub ep: usize,
    /// Expert tensor parallel.
    pub etp: usize,
    /// Data parallel.
    pub dp: usize,
    /// Sequence parallel.
    pub sequence_parallel: bool,
}

impl Parallel {
    /// Ranks in all: `tp * pp * cp * dp`, or the most that can be counted.
    pub fn world_size(&self) -> usize {
        [self.pp, self.cp, self.dp]
            .iter()
            .fold(self.tp, |ranks, &degree| ranks.saturating_mul(degree))
    }
}

/// Where the trainer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA if this build and machine have it, else CPU.
    Auto,
    /// CPU.
    Cpu,
    /// CUDA, or an error.
    Cuda,
}

/// What activations and the weights that layers read are stored in; masters, gradients and moments are `f32` always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// `bf16` on CUDA, `f32` on the CPU.
    Auto,
    /// `bf16`; CUDA only.
    Bf16,
    /// `f32`.
    F32,
}

/// `[train]`: steps, batches, device.
#[derive(Debug, Clone, PartialEq)]
pub struct Train {
    /// Where to compute.
    pub device: DeviceChoice,
    /// Type of activations and of the weights that layers read.
    pub precision: PrecisionChoice,
    /// Whether the trainer refuses what its memory plan says cannot fit on the GPU.
    pub check_memory: bool,
    /// Whether the GPU gets micro-batches as recorded graphs where it can.
    pub cuda_graph: bool,
    /// CPU threads; 0 is all cores.
    pub threads: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens of a sequence (or of a packed row).
    pub seq_length: usize,
    /// Sequences of a micro-batch.
    pub micro_batch_size: usize,
    /// Sequences of a step over all data-parallel ranks; a multiple of `micro_batch_size * dp`.
    pub global_batch_size: usize,
    /// Seed of weights and data order.
    pub seed: u64,
    /// Normalise the loss by the tokens of the whole step instead of by micro-batch.
    pub per_token_loss: bool,
    /// Evaluate every so many steps; 0 is never.
    pub eval_interval: u64,
    /// Micro-batches of an evaluation.
    pub eval_batches: usize,
    /// Stop after so many non-finite steps in a row.
    pub max_non_finite: u64,
    /// Tokens of a cross-entropy chunk.
    pub loss_chunk: usize,
}

/// `[optimizer]`: `AdamW` and clipping.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    /// Peak learning rate.
    pub lr: f64,
    /// First moment's decay.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay of tensors with two dimensions and more (conv1d counts); 1-D tensors have none.
    pub weight_decay: f64,
    /// Largest gradient norm; 0 is no clipping.
    pub clip_grad: f64,
}

/// The learning rate's curve after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleKind {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to `min_lr`.
    Linear,
    /// Falls along half a cosine to `min_lr`.
    Cosine,
    /// Stays at the peak, then falls in the last `wsd_decay_steps`.
    Wsd,
}

/// `[schedule]`: the learning rate over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Curve.
    pub kind: ScheduleKind,
    /// Steps of linear warm-up from 0; update `n` (from 1) uses the rate at `n - 1` steps, as Megatron does.
    pub warmup_steps: u64,
    /// Step at which the curve has reached `min_lr`.
    pub decay_steps: u64,
    /// Steps of the final fall of `wsd`.
    pub wsd_decay_steps: u64,
    /// The floor.
    pub min_lr: f64,
}

/// How samples become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Whole documents side by side in a row of `seq_length`, kept apart by `cu_seqlens`; a long one is split.
    Packed,
    /// All documents in one stream cut every `seq_length` tokens; attention crosses borders.
    Concat,
}

/// A place that text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// The text that comes with the program.
    Bundled,
    /// Text files by glob; two or more blank lines end a document, one blank line ends a paragraph.
    Text {
        /// Glob; a loaded recipe has it joined with the folder of the file that says it.
        glob: String,
    },
    /// JSON lines by glob.
    Jsonl {
        /// Glob; a loaded recipe has it joined with the folder of the file that says it.
        glob: String,
        /// Field with the text.
        field: String,
    },
}

/// `[data]`: text.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// Where text comes from, in order.
    pub sources: Vec<DataSource>,
    /// A `tokenizer.json`; none is the bundled one.
    pub tokenizer: Option<PathBuf>,
    /// Share of documents held out, by hash.
    pub validation_fraction: f64,
    /// Rows from documents.
    pub packing: Packing,
    /// Shuffle documents each epoch, by `train.seed`.
    pub shuffle: bool,
    /// Batches made ahead.
    pub prefetch: usize,
    /// Where token caches lie; none is the user's cache folder.
    pub cache: Option<PathBuf>,
}

/// `[mtp]`: Multi-Token Prediction; its depth is the model's.
#[derive(Debug, Clone, PartialEq)]
pub struct Mtp {
    /// Lambda; counts only if the depth is above 0.
    pub loss_scale: f64,
}

/// Parts that selective recompute covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecomputeModule {
    /// Softmax attention.
    CoreAttn,
    /// The gated delta rule.
    GatedDelta,
    /// The MLP's activation.
    MlpAct,
    /// Norms.
    Norm,
}

/// `[recompute]`: what the backward computes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing.
    None,
    /// The named parts.
    Selective(Vec<RecomputeModule>),
    /// Whole layers; only their input is kept.
    Full,
}

/// `[checkpoint]`: when weights are saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Every so many steps; 0 is only at the end.
    pub interval: u64,
    /// Newest ones to keep; 0 keeps all.
    pub keep: usize,
    /// Save when training completes.
    pub at_end: bool,
}

/// `[logging]`: what is said how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Logging {
    /// A step event every so many steps.
    pub interval: u64,
    /// Also write `TensorBoard` files.
    pub tensorboard: bool,
    /// Where runs lie.
    pub runs: PathBuf,
}

/// `[alerts]`: what deserves a warning.
#[derive(Debug, Clone, PartialEq)]
pub struct Alerts {
    /// Warn when the loss is above the running mean by so many standard deviations; 0 is off.
    pub loss_spike: f64,
    /// Warn when throughput falls below this share of its running mean; 0 is off.
    pub throughput_drop: f64,
}
