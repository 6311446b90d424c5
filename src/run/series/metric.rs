//! What is measured at each step, and one step's numbers.

use std::fmt;

use super::ABSENT;
use crate::event::{DepthStep, EXTRAS, StepRecord};

/// A number that a step or an evaluation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Main loss, nats.
    Loss,
    /// Gradient norm before clipping.
    GradNorm,
    /// Learning rate.
    LearningRate,
    /// MTP loss scale lambda.
    MtpLossScale,
    /// Seconds of a step.
    StepSeconds,
    /// Tokens per second.
    TokensPerSecond,
    /// Model FLOP utilisation, 0..1.
    Mfu,
    /// Bytes of tensors after the step.
    Allocated,
    /// Peak bytes of tensors in the step.
    Peak,
    /// Resident bytes of the process.
    Rss,
    /// Hardware FLOP utilisation, 0..1.
    Hfu,
    /// Seconds in forward and backward where a trainer does not tell them apart.
    ForwardBackward,
    /// Seconds in the forward pass.
    Forward,
    /// Seconds in the vocabulary heads, forward and backward, where a trainer tells them apart.
    Heads,
    /// Seconds in the backward pass.
    Backward,
    /// Seconds in the optimizer.
    Optimizer,
    /// Seconds waiting for data.
    Data,
    /// Seconds of an evaluation since the step before.
    Evaluation,
    /// Seconds of a checkpoint since the step before.
    Saving,
    /// Seconds in all the rest.
    Other,
    /// The router's load balancing loss over a micro-batch; 1 is balanced.
    LoadBalancing,
    /// The same over a sequence.
    SequenceLoadBalancing,
    /// The same over the global batch.
    GlobalLoadBalancing,
    /// The router's z loss.
    RouterZ,
    /// TFLOP/s of a GPU.
    Tflops,
    /// Joules of a GPU in a step.
    Energy,
    /// Watts of a GPU.
    Power,
    /// Norm of the parameters.
    ParamsNorm,
    /// Gradients that are zero.
    NumZeros,
    /// Largest attention logit.
    MaxAttentionLogit,
    /// What the loss is multiplied by in half precision.
    LossScale,
    /// Loss of an MTP depth from 1, nats.
    MtpLoss(usize),
    /// Acceptance of an MTP depth from 1, percent.
    MtpAcceptance(usize),
}

/// Metrics that do not depend on the MTP depth, in column order.
pub(in crate::run) const FIXED: [Metric; 31] = [
    Metric::Loss,
    Metric::GradNorm,
    Metric::LearningRate,
    Metric::MtpLossScale,
    Metric::StepSeconds,
    Metric::TokensPerSecond,
    Metric::Mfu,
    Metric::Allocated,
    Metric::Peak,
    Metric::Rss,
    Metric::ForwardBackward,
    Metric::Optimizer,
    Metric::Data,
    Metric::Other,
    Metric::Hfu,
    Metric::Forward,
    Metric::Backward,
    Metric::Evaluation,
    Metric::Saving,
    Metric::Heads,
    Metric::LoadBalancing,
    Metric::SequenceLoadBalancing,
    Metric::GlobalLoadBalancing,
    Metric::RouterZ,
    Metric::Tflops,
    Metric::Energy,
    Metric::Power,
    Metric::ParamsNorm,
    Metric::NumZeros,
    Metric::MaxAttentionLogit,
    Metric::LossScale,
];

/// The first column of [`EXTRAS`], which stand there in their order.
const FIRST_EXTRA: usize = 20;

/// Losses of a mixture of experts' router, in the order in which trainers name them.
pub const ROUTER: [Metric; 4] = [
    Metric::LoadBalancing,
    Metric::SequenceLoadBalancing,
    Metric::GlobalLoadBalancing,
    Metric::RouterZ,
];

/// The phases of a step, in the order in which a step does them.
pub const PHASES: [Metric; 9] = [
    Metric::Data,
    Metric::Forward,
    Metric::Heads,
    Metric::Backward,
    Metric::ForwardBackward,
    Metric::Optimizer,
    Metric::Evaluation,
    Metric::Saving,
    Metric::Other,
];

impl Metric {
    /// The metric's column.
    pub(super) fn column(self) -> usize {
        match self {
            Self::MtpLoss(depth) => FIXED.len() + 2 * (depth - 1),
            Self::MtpAcceptance(depth) => FIXED.len() + 2 * (depth - 1) + 1,
            fixed => FIXED.iter().position(|&m| m == fixed).unwrap_or(0),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Loss => "loss",
            Self::GradNorm => "grad norm",
            Self::LearningRate => "lr",
            Self::MtpLossScale => "mtp loss scale",
            Self::StepSeconds => "step seconds",
            Self::TokensPerSecond => "tokens/s",
            Self::Mfu => "MFU",
            Self::Hfu => "HFU",
            Self::Allocated => "allocated",
            Self::Peak => "peak",
            Self::Rss => "RSS",
            Self::ForwardBackward => "forward+backward",
            Self::Forward => "forward",
            Self::Heads => "loss heads",
            Self::Backward => "backward",
            Self::Optimizer => "optimizer",
            Self::Data => "data",
            Self::Evaluation => "eval",
            Self::Saving => "checkpoint",
            Self::Other => "other",
            Self::LoadBalancing => "load balancing loss",
            Self::SequenceLoadBalancing => "seq load balancing loss",
            Self::GlobalLoadBalancing => "global load balancing loss",
            Self::RouterZ => "router z loss",
            Self::Tflops => "TFLOP/s/GPU",
            Self::Energy => "J/step/GPU",
            Self::Power => "W/GPU",
            Self::ParamsNorm => "params norm",
            Self::NumZeros => "zero gradients",
            Self::MaxAttentionLogit => "max attention logit",
            Self::LossScale => "loss scale",
            Self::MtpLoss(depth) => return f.pad(&format!("mtp{depth} loss")),
            Self::MtpAcceptance(depth) => return f.pad(&format!("mtp{depth} acceptance")),
        })
    }
}

/// The numbers of one step.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::run) struct Row {
    pub(in crate::run) time_ms: i64,
    pub(in crate::run) step: u64,
    pub(in crate::run) tokens: u64,
    /// In the order of [`FIXED`].
    pub(in crate::run) fixed: [f32; FIXED.len()],
    /// Loss and acceptance of each MTP depth.
    pub(in crate::run) mtp: Vec<(f32, f32)>,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            time_ms: 0,
            step: 0,
            tokens: 0,
            fixed: [ABSENT; FIXED.len()],
            mtp: vec![],
        }
    }
}

impl Row {
    /// Takes over the numbers of a step.
    pub(in crate::run) fn of_step(time_ms: i64, step: &StepRecord) -> Self {
        let part = |name: &str| step.parts.get(name).map_or(ABSENT, |&v| v as f32);
        let mut row = Self {
            time_ms,
            step: step.step,
            tokens: step.tokens,
            fixed: [
                step.loss as f32,
                step.grad_norm as f32,
                step.lr as f32,
                step.mtp_loss_scale as f32,
                step.step_seconds as f32,
                step.tokens_per_second as f32,
                step.mfu as f32,
                step.allocated as f32,
                step.peak as f32,
                step.rss as f32,
                part("forward_backward"),
                part("optimizer"),
                part("data"),
                part("other"),
                step.hfu as f32,
                part("forward"),
                part("backward"),
                part("eval"),
                part("checkpoint"),
                part("loss"),
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
                ABSENT,
            ],
            mtp: depths(&step.mtp),
        };
        for (name, &value) in &step.extra {
            if let Some(column) = extra_column(name.as_bytes()) {
                row.fixed[column] = value as f32;
            }
        }
        row
    }

    /// Takes over the numbers of an evaluation.
    pub(in crate::run) fn of_eval(
        time_ms: i64,
        step: u64,
        tokens: u64,
        loss: f64,
        mtp: &[DepthStep],
    ) -> Self {
        let mut row = Self {
            time_ms,
            step,
            tokens,
            mtp: depths(mtp),
            ..Self::default()
        };
        row.fixed[Metric::Loss.column()] = loss as f32;
        row
    }
}

/// The column of one of [`EXTRAS`].
pub(in crate::run) fn extra_column(name: &[u8]) -> Option<usize> {
    let at = EXTRAS.iter().position(|e| e.as_bytes() == name)?;
    Some(FIRST_EXTRA + at)
}

fn depths(mtp: &[DepthStep]) -> Vec<(f32, f32)> {
    mtp.iter()
        .map(|d| (d.loss as f32, d.acceptance_percent() as f32))
        .collect()
}
