//! What a trainer says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The protocol's version; a reader keeps records of newer versions as [`Event::Unknown`].
///
/// A field that may be absent is no new version: readers from before it pass it over, later ones take its default from older lines.
pub const VERSION: u32 = 1;

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Protocol version of the writer.
    pub v: u32,
    /// Number of the record in its file, from 0, without gaps.
    pub seq: u64,
    /// Milliseconds since the Unix epoch by the trainer's clock; may go backwards, order is by `seq`.
    pub time_ms: i64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A trainer process took up the run. Steps up to `step` count from earlier segments; later ones of earlier segments are abandoned.
    Started {
        /// Segment, from 0: how many trainers had the run before.
        segment: u32,
        /// Updates done before this segment's first.
        step: u64,
        /// Tokens seen before it.
        tokens: u64,
        /// Updates the run shall make in all.
        total_steps: u64,
        /// Process id.
        pid: u32,
        /// Host name.
        host: String,
        /// What trains: "cpu (2 threads)", "cuda:0 NVIDIA H100".
        device: String,
        /// Program version.
        program: String,
        /// Trainable scalars, MTP included.
        parameters: u64,
        /// Scalars of MTP.
        mtp_parameters: u64,
        /// Model FLOPs of one token, forward and backward.
        #[serde(default, with = "nullable")]
        flops_per_token: f64,
        /// Peak of the device in FLOP/s that MFU divides by; 0 when unknown.
        #[serde(default, with = "nullable")]
        peak_flops: f64,
        /// How `flops_per_token` is counted, and what it leaves out; empty when not said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        flops_formula: String,
        /// What `peak_flops` is: "H100 SXM BF16 dense 989.4 TFLOP/s", "measured product of 768 x 768"; empty when not said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        peak_name: String,
        /// Number formats: "f32", "bf16 with f32 masters, gradients and moments"; empty when not said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        precision: String,
        /// Every device that trains, by name, in the order of its ranks; empty when not said.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        devices: Vec<String>,
        /// Memory of one device as planned before the first step; `None` when not planned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_plan: Option<Vec<MemoryTerm>>,
        /// MTP depths.
        mtp_depth: usize,
        /// Checkpoint folder resumed from, relative to the run, or the parent's path for a fork.
        resumed_from: Option<String>,
    },
    /// One optimizer step.
    Step(Box<StepRecord>),
    /// Evaluation on held-out text.
    Eval {
        /// After this many updates.
        step: u64,
        /// Training tokens seen.
        tokens: u64,
        /// Mean main loss over held-out tokens, nats.
        #[serde(with = "nullable")]
        loss: f64,
        /// Each MTP depth.
        mtp: Vec<DepthStep>,
        /// Tokens evaluated.
        eval_tokens: u64,
        /// Seconds it took.
        #[serde(with = "nullable")]
        seconds: f64,
    },
    /// A complete checkpoint lies on disk.
    Checkpoint {
        /// After this many updates.
        step: u64,
        /// Folder relative to the run.
        path: String,
        /// Size on disk.
        bytes: u64,
        /// Seconds it took.
        #[serde(with = "nullable")]
        seconds: f64,
        /// BLAKE3 of the fp32 weights in arena order, hex.
        weights_hash: String,
        /// Folders that rotation removed.
        removed: Vec<String>,
    },
    /// The user should know; training goes on.
    Warning {
        /// At this step.
        step: u64,
        /// A stable code: `non_finite`, `disk_full`, `loss_spike`, ...
        code: String,
        /// What happened.
        message: String,
    },
    /// Text that the model wrote.
    Sample {
        /// After this many updates.
        step: u64,
        /// Prompt.
        prompt: String,
        /// Continuation.
        text: String,
    },
    /// A key was changed while running.
    LiveChange {
        /// First step that uses the new value.
        step: u64,
        /// Dotted recipe key.
        key: String,
        /// Value before, as TOML.
        from: String,
        /// Value now, as TOML.
        to: String,
    },
    /// A user's note.
    Mark {
        /// At this step.
        step: u64,
        /// The note.
        note: String,
    },
    /// Training waits.
    Paused {
        /// At this step.
        step: u64,
    },
    /// Training goes on.
    Continued {
        /// At this step.
        step: u64,
    },
    /// A request was carried out or refused.
    Answer {
        /// The request's id.
        request: String,
        /// At this step.
        step: u64,
        /// Whether it was done.
        ok: bool,
        /// What was done, or why not.
        message: String,
    },
    /// The trainer ended as it should.
    Finished {
        /// Updates done.
        step: u64,
        /// Tokens seen.
        tokens: u64,
        /// `completed` or `stopped`.
        reason: String,
        /// BLAKE3 of the fp32 weights in arena order, hex.
        weights_hash: String,
    },
    /// The trainer ended by an error.
    Failed {
        /// Updates done.
        step: u64,
        /// What went wrong, with its causes.
        error: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// A record of a newer protocol or an unknown type; its line is kept.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}

/// Numbers of one optimizer step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// Updates done, this one included; the first step is 1.
    pub step: u64,
    /// Training tokens seen, this step's included.
    pub tokens: u64,
    /// Main loss: token-weighted mean, nats. `null` (NaN) when not finite.
    #[serde(with = "nullable")]
    pub loss: f64,
    /// Each MTP depth, from depth 1; not multiplied by lambda.
    pub mtp: Vec<DepthStep>,
    /// Gradient norm before clipping.
    #[serde(with = "nullable")]
    pub grad_norm: f64,
    /// Learning rate of this update.
    #[serde(with = "nullable")]
    pub lr: f64,
    /// MTP loss scale lambda of this update; 0 without MTP.
    #[serde(with = "nullable")]
    pub mtp_loss_scale: f64,
    /// Seconds of the whole step.
    #[serde(with = "nullable")]
    pub step_seconds: f64,
    /// Seconds by phase: `data`, `forward`, `loss` (the vocabulary heads, forward and backward), `backward`, `optimizer`, `eval`,
    /// `checkpoint`, `other`; `forward_backward` where the three are not told apart. `eval` and `checkpoint` are what happened since the
    /// step before, beside `step_seconds`; the rest add up to it.
    #[serde(with = "nullable_map")]
    pub parts: BTreeMap<String, f64>,
    /// Tokens per second of this step.
    #[serde(with = "nullable")]
    pub tokens_per_second: f64,
    /// Model FLOP utilisation in 0..1 of the peak stated in `started`; 0 when unknown.
    #[serde(with = "nullable")]
    pub mfu: f64,
    /// Hardware FLOP utilisation: the same with what is computed twice counted twice; 0 when unknown.
    #[serde(with = "nullable")]
    pub hfu: f64,
    /// Bytes allocated by tensors after the step.
    pub allocated: u64,
    /// Peak of allocated bytes inside the step.
    pub peak: u64,
    /// Resident set of the process.
    pub rss: u64,
    /// Memory by term against its plan, at steps where the trainer measured it: the first ones, and whenever a peak grew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryUse>,
    /// Micro-batches of the step that a GPU got as recorded graphs.
    #[serde(skip_serializing_if = "is_zero")]
    pub graphs: u64,
    /// Whether the update was skipped for a non-finite loss or gradient.
    pub skipped: bool,
    /// Numbers that only some trainers have, by name: those of [`EXTRAS`], and the metrics of a task as its trainer calls them.
    #[serde(with = "nullable_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, f64>,
}

/// Names of numbers that only some trainers have and that are drawn: the router's losses, where 1 is a balanced load, TFLOP/s of a GPU, joules a
/// step and watts of a GPU, and what Megatron counts on request.
pub const EXTRAS: [&str; 11] = [
    "load_balancing_loss",
    "seq_load_balancing_loss",
    "global_load_balancing_loss",
    "z_loss",
    "tflops",
    "energy",
    "power",
    "params_norm",
    "num_zeros",
    "max_attention_logit",
    "loss_scale",
];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What one device's memory holds, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryUse {
    /// The device: "cpu", "cuda:0".
    pub device: String,
    /// What it is for, in the order of [`MEMORY_TERMS`].
    pub terms: Vec<MemoryTerm>,
    /// Peak of a step as planned; 0 when not planned.
    pub planned_peak: u64,
    /// Peak of a step as measured.
    pub peak: u64,
    /// Held by the allocator, in use or not; 0 when unknown.
    pub reserved: u64,
    /// In use on the device by all processes, as the driver counts; 0 when unknown.
    pub driver_used: u64,
    /// The device's memory in all; 0 when unknown.
    pub driver_total: u64,
    /// What each rank told of itself, by rank, where several did; `device` and the peaks above are those of the most loaded one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankMemory>,
}

/// What one rank's allocator holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RankMemory {
    /// The rank.
    pub rank: u32,
    /// In tensors now.
    pub allocated: u64,
    /// In tensors at most.
    pub peak: u64,
    /// Held by the allocator at most.
    pub reserved: u64,
}

/// One purpose of memory, in bytes. A number that nobody has is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryTerm {
    /// One of [`MEMORY_TERMS`].
    pub name: String,
    /// As planned.
    pub planned: Option<u64>,
    /// As measured.
    pub measured: Option<u64>,
}

/// Names of memory terms, in the order in which they are shown.
pub const MEMORY_TERMS: [&str; 7] = [
    "weights",
    "masters",
    "gradients",
    "moments",
    "activations",
    "logits",
    "workspace",
];

/// Loss and acceptance of one MTP depth.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DepthStep {
    /// Mean cross entropy, nats.
    #[serde(with = "nullable")]
    pub loss: f64,
    /// Unmasked positions whose argmax is the label.
    pub correct: u64,
    /// Positions with a nonzero mask.
    pub total: u64,
}

impl DepthStep {
    /// Acceptance rate in percent: `100 * correct / max(total, 1)`.
    pub fn acceptance_percent(&self) -> f64 {
        100.0 * self.correct as f64 / self.total.max(1) as f64
    }
}

/// JSON has no NaN: a float that is not finite is written as `null` and read as NaN.
mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// The same for the values of a map.
mod nullable_map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<String, f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let finite = map.iter().map(|(k, v)| (k, v.is_finite().then_some(*v)));
        serializer.collect_map(finite)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
        Ok(map
            .into_iter()
            .map(|(k, v)| (k, v.unwrap_or(f64::NAN)))
            .collect())
    }
}
