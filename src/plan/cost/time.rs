//! How long a step takes, roughly.
//!
//! A stage's time for a micro-batch is its operations at an assumed share of the peak, a floor for launching kernels, and the traffic that
//! nothing hides. The pipeline then takes `m` times its slowest stage plus one pass of the others, cut by virtual stages. The shares are
//! assumptions, so that the estimate ranks layouts better than it foretells a clock.

use serde::Serialize;

use super::flops::job_flops;
use super::memory::chunks_in_flight;
use super::traffic::{Traffic, traffic};
use super::weights::trained_weights;
use crate::plan::{Job, Machine, MegatronRecompute, RankGrid, RecomputeMethod, Stage};
use crate::spec::{LayerKind, TextConfig, flops_terms};

/// Share of the bf16 peak that large products reach.
const SHARE_BF16: f64 = 0.55;
/// Share of the fp8 peak; casts and small products stay behind.
const SHARE_FP8: f64 = 0.40;
/// Seconds that launching the kernels of a layer takes at least, forward.
const LAUNCH: f64 = 0.4e-3;
/// The real time lies within the estimate divided and multiplied by this, by our own judgement.
const SPREAD: f64 = 2.5;

/// Time of one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTime {
    /// The stage.
    pub stage: usize,
    /// Seconds forward for a micro-batch.
    pub forward: f64,
    /// Seconds backward for a micro-batch, what is computed again included.
    pub backward: f64,
    /// Micro-batches in flight at most, in chunks of layers.
    pub chunks_in_flight: usize,
    /// What it sends in a step.
    pub traffic: Vec<Traffic>,
}

/// Time of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// The estimate.
    pub seconds: f64,
    /// The least that we would not wonder at.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// Share of the pipeline's time in which a stage stands idle, averaged over stages.
    pub bubble: f64,
    /// The slowest stage over the mean of all: what uneven stages, MTP and the loss cost.
    pub skew: f64,
    /// Seconds of data-parallel traffic that no backward hides.
    pub data_parallel: f64,
    /// Seconds of the optimizer.
    pub optimizer: f64,
    /// TFLOP/s a GPU that follow.
    pub tflops_per_gpu: f64,
    /// Stages.
    pub stages: Vec<StageTime>,
}

/// Operations of a step by place, over all sequences: one layer of each kind, one depth of MTP beside its logits, logits of one head, the tower.
struct Parts {
    full: f64,
    linear: f64,
    mtp: f64,
    head: f64,
    vision: f64,
}

fn parts(job: &Job) -> Parts {
    let text = &job.model.text;
    let seq = job.batch.seq_length as f64;
    let one = |kind: Option<LayerKind>, depths: usize| -> f64 {
        let config = TextConfig {
            num_hidden_layers: usize::from(kind.is_some()),
            layer_types: kind.into_iter().collect(),
            mtp_num_hidden_layers: depths,
            source: serde_json::Value::Null,
            ..text.clone()
        };
        flops_terms(&config, seq)
            .iter()
            .map(|term| term.flops.0)
            .sum()
    };
    let tokens = seq * job.batch.global_batch_size as f64;
    let head = one(None, 0);
    let vision = job_flops(job)
        .into_iter()
        .find(|module| module.name == "vision");
    Parts {
        full: tokens * (one(Some(LayerKind::FullAttention), 0) - head),
        linear: tokens * (one(Some(LayerKind::LinearAttention), 0) - head),
        mtp: tokens * (one(None, 1) - head),
        head: tokens * head,
        vision: vision.map_or(0.0, |module| module.flops.0),
    }
}

/// The time of a step of `stages` on a machine, with what every stage sends.
pub fn step_time(job: &Job, stages: &[Stage], grid: &RankGrid, machine: &Machine) -> StepTime {
    let text = &job.model.text;
    let megatron = &job.megatron;
    let d = &job.degrees;
    let micro_batches = job.micro_batches().unwrap_or(1).max(1) as f64;
    let parts = parts(job);
    // Ranks that share a stage's work, and its micro-batches.
    let shared = (d.tp * d.cp * d.dp).max(1) as f64 * micro_batches;
    let rate = if megatron.precision.is_fp8() {
        machine.peak_fp8() * SHARE_FP8
    } else {
        machine.peak_bf16() * SHARE_BF16
    };
    let again = |layers: f64| match megatron.recompute {
        MegatronRecompute::None => 0.0,
        MegatronRecompute::Selective(_) => 0.1,
        MegatronRecompute::Full {
            method: RecomputeMethod::Uniform,
            ..
        } => 1.0,
        MegatronRecompute::Full { num_layers, .. } => {
            (num_layers as f64 / layers.max(1.0)).min(1.0)
        }
    };
    let mut list: Vec<StageTime> = Vec::with_capacity(stages.len());
    let (mut data_parallel, mut optimizer) = (0.0_f64, 0.0_f64);
    for stage in stages {
        let full = stage.count(text, LayerKind::FullAttention) as f64;
        let linear = stage.count(text, LayerKind::LinearAttention) as f64;
        let mtp = stage.mtp as f64;
        let mut flops = full * parts.full + linear * parts.linear + mtp * parts.mtp;
        if stage.head {
            flops += parts.head;
        }
        if stage.pp == 0 {
            flops += parts.vision;
        }
        let layers = full + linear + mtp;
        let traffic = traffic(job, stage, grid, machine);
        let seconds = |names: &[&str]| {
            let moves = traffic.iter().filter(|item| names.contains(&item.name));
            moves.map(|item| item.seconds).sum::<f64>()
        };
        let mut exposed = seconds(&["tensor parallel", "context parallel"]);
        if !megatron.overlap_expert_communication {
            exposed += seconds(&["expert dispatch and combine"]);
        }
        exposed /= micro_batches;
        let forward = (flops / 3.0 / shared / rate).max(layers * LAUNCH) + exposed / 3.0;
        let backward = 2.0 * forward + again(layers) * forward;
        let reduce = seconds(&[
            "dense gradients and weights",
            "expert gradients and weights",
        ]);
        let hidden = if megatron.overlap_grad_reduce {
            backward
        } else {
            0.0
        };
        data_parallel = data_parallel.max((reduce - hidden).max(0.0));
        let (dense, experts) = trained_weights(job, stage).on_rank(d);
        let copies = if megatron.optimizer.distributed {
            (d.dp * d.cp) as f64
        } else {
            1.0
        };
        let expert_copies = if megatron.optimizer.distributed {
            grid.expert_dp() as f64
        } else {
            1.0
        };
        // Gradient read, master and both moments read and written, weight written.
        let bytes = (dense as f64 / copies + experts as f64 / expert_copies) * 30.0;
        optimizer = optimizer.max(bytes / machine.hbm());
        list.push(StageTime {
            stage: stage.pp,
            forward,
            backward,
            chunks_in_flight: chunks_in_flight(job, stage),
            traffic,
        });
    }
    let times: Vec<f64> = list
        .iter()
        .map(|stage| stage.forward + stage.backward)
        .collect();
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let sum: f64 = times.iter().sum();
    let count = times.len().max(1) as f64;
    let pipeline = micro_batches * slowest + (sum - slowest) / d.vpp.max(1) as f64;
    let seconds = pipeline + data_parallel + optimizer;
    StepTime {
        seconds,
        low: seconds / SPREAD,
        high: seconds * SPREAD,
        bubble: 1.0 - micro_batches * sum / count / pipeline.max(f64::MIN_POSITIVE),
        skew: slowest / (sum / count).max(f64::MIN_POSITIVE),
        data_parallel,
        optimizer,
        tflops_per_gpu: super::flops::tflops_per_gpu(job, seconds),
        stages: list,
    }
}
