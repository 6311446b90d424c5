//! Megatron's conditions beyond those of heads, sequence, and batch, which are `rule`'s.

use super::{Fix, Problem};
use crate::base::Severity;
use crate::plan::{
    CrossEntropy, CudaGraphs, Degrees, GridError, Job, MegatronRecompute, RankGrid,
    RecomputeMethod, RecomputePart, SequencePacking, lcm,
};

mod data_parallel;
mod experts;
mod pipeline;
mod precision;

/// Whether a rule of our own trainer's check is judged here instead.
pub(super) fn replaces(job: &Job, rule: &str) -> bool {
    let megatron = &job.megatron;
    match rule {
        "vocab-by-tp" => megatron.vocab_multiple.is_some(),
        "layers-by-pp" | "layers-by-vpp" => true,
        "mtp-on-last-stage" => megatron.pipeline_layout.is_some() || pipeline::has_light_end(job),
        // Counted by GPUs below, which may not divide.
        "ranks-by-experts" => !world_fits(job),
        _ => false,
    }
}

fn world_fits(job: &Job) -> bool {
    job.degrees.world_size() == job.gpus
}

/// Adds what does not hold; all sizes are in range.
pub(super) fn add(job: &Job, list: &mut Vec<Problem>) {
    add_without_fixes(job, list);
    for problem in list.iter_mut() {
        match problem.code {
            "gpus-by-model" | "vision-heads-by-tp" | "vision-mlp-by-tp" => {
                problem.fixes.extend(super::mend::degrees(job));
            }
            code if pipeline::CODES.contains(&code) => {
                problem.fixes.extend(super::mend::stages(job));
            }
            _ => {}
        }
    }
}

/// The same without changes that have to be tried out.
pub(super) fn add_without_fixes(job: &Job, list: &mut Vec<Problem>) {
    range(job, list);
    if list.iter().any(|problem| problem.code == "range") {
        return;
    }
    world(job, list);
    pipeline::add(job, list);
    vision(job, list);
    recompute(job, list);
    loss(job, list);
    packing(job, list);
    experts::add(job, list);
    precision::add(job, list);
    data_parallel::add(job, list);
}

/// A problem with its two numbers.
pub(super) fn problem(
    code: &'static str,
    severity: Severity,
    message: String,
    numbers: [(&str, usize); 2],
    fixes: Vec<Fix>,
) -> Problem {
    Problem {
        code,
        severity,
        message,
        numbers: numbers.map(|(name, value)| (name.to_owned(), value)),
        fixes,
    }
}

fn error(
    code: &'static str,
    message: String,
    numbers: [(&str, usize); 2],
    fixes: Vec<Fix>,
) -> Problem {
    problem(code, Severity::Error, message, numbers, fixes)
}

/// Sizes among Megatron's options.
fn range(job: &Job, list: &mut Vec<Problem>) {
    let megatron = &job.megatron;
    let pad = match megatron.packing {
        SequencePacking::None => 1,
        SequencePacking::InBatch { pad_to_multiple_of }
        | SequencePacking::Offline { pad_to_multiple_of } => pad_to_multiple_of,
    };
    let layers = match megatron.recompute {
        MegatronRecompute::Full { num_layers, .. } => num_layers,
        _ => 1,
    };
    let sizes = [
        ("megatron.gpus", job.gpus, 1 << 24),
        (
            "megatron.num_distributed_optimizer_instances",
            megatron.optimizer.instances,
            1 << 15,
        ),
        ("megatron.pad_to_multiple_of", pad, 1 << 20),
        ("megatron.recompute_num_layers", layers, 1 << 14),
        (
            "megatron.make_vocab_size_divisible_by",
            megatron.vocab_multiple.unwrap_or(1),
            1 << 20,
        ),
    ];
    for (key, size, most) in sizes {
        let (bound, nearest) = match size {
            0 => ("least", 1),
            _ if size > most => ("most", most),
            _ => continue,
        };
        list.push(error(
            "range",
            format!("{key} = {size}, but it must be at {bound} {nearest}"),
            [(key, size), (bound, nearest)],
            vec![Fix::new(key, nearest)],
        ));
    }
}

/// Ranks in all, and their order.
fn world(job: &Job, list: &mut Vec<Problem>) {
    let Degrees {
        tp,
        cp,
        dp,
        pp,
        ep,
        etp,
        ..
    } = job.degrees;
    let gpus = job.gpus;
    // In range, so that no product overflows: each is at most 2^15.
    let copy = tp * cp * pp;
    let near = |unit: usize| {
        let below = gpus / unit * unit;
        [below, below + unit]
            .into_iter()
            .filter(|&n| n > 0)
            .map(|n| Fix::new("megatron.gpus", n))
            .collect::<Vec<_>>()
    };
    if !gpus.is_multiple_of(copy) {
        let fixes = near(copy);
        list.push(error(
            "gpus-by-model",
            format!("gpus = {gpus} is not divisible by tp * cp * pp = {copy}"),
            [("gpus", gpus), ("tp * cp * pp", copy)],
            fixes,
        ));
    } else if !world_fits(job) {
        list.push(error(
            "gpus-by-ranks",
            format!(
                "gpus = {gpus}, but tp * cp * dp * pp = {} ranks",
                copy.saturating_mul(dp)
            ),
            [
                ("gpus", gpus),
                ("tp * cp * dp * pp", copy.saturating_mul(dp)),
            ],
            vec![
                Fix::new("parallel.dp", gpus / copy),
                Fix::new("megatron.gpus", copy.saturating_mul(dp)),
            ],
        ));
    }
    let unit = pp * ep * etp;
    if job.model.text.moe.is_some() && !world_fits(job) && !gpus.is_multiple_of(unit) {
        list.push(error(
            "gpus-by-experts",
            format!("gpus = {gpus} is not divisible by pp * ep * etp = {unit}"),
            [("gpus", gpus), ("pp * ep * etp", unit)],
            near(lcm(unit, copy)),
        ));
    }
    let order = job.megatron.rank_order;
    match RankGrid::ordered(job.degrees, order) {
        Err(
            error @ GridError::Stages {
                what,
                dense,
                experts,
                ..
            },
        ) => list.push(self::error(
            "order-splits-stages",
            error.to_string(),
            [(what, dense), (what, experts)],
            vec![Fix::new("megatron.use_tp_pp_dp_mapping", false)],
        )),
        Err(GridError::TooMany) => list.push(error(
            "range",
            format!(
                "the degrees make more than {} ranks",
                crate::plan::MOST_RANKS
            ),
            [("most", crate::plan::MOST_RANKS), ("gpus", gpus)],
            Vec::new(),
        )),
        _ => {}
    }
}

/// The tower is cut by `tp` alone.
fn vision(job: &Job, list: &mut Vec<Problem>) {
    let Some(vision) = &job.model.vision else {
        return;
    };
    let tp = job.degrees.tp;
    for (code, name, value) in [
        ("vision-heads-by-tp", "vision num_heads", vision.num_heads),
        (
            "vision-mlp-by-tp",
            "vision intermediate_size",
            vision.intermediate_size,
        ),
    ] {
        if !value.is_multiple_of(tp) {
            list.push(error(
                code,
                format!("{name} = {value} is not divisible by tp = {tp}"),
                [(name, value), ("tp", tp)],
                Vec::new(),
            ));
        }
    }
    if job.degrees.cp > 1 && !job.megatron.per_token_loss {
        list.push(error(
            "vision-cp-per-token",
            format!(
                "cp = {} with a vision tower and calculate_per_token_loss = false: parts of a sequence have unequal numbers of tokens that count",
                job.degrees.cp
            ),
            [("cp", job.degrees.cp), ("calculate_per_token_loss", 0)],
            vec![Fix {
                also: vec![("megatron.average_in_collective".into(), "false".into())],
                ..Fix::new("megatron.calculate_per_token_loss", true)
            }],
        ));
    }
}

/// What is computed again.
fn recompute(job: &Job, list: &mut Vec<Problem>) {
    let megatron = &job.megatron;
    let depths = job.model.text.mtp_num_hidden_layers;
    match &megatron.recompute {
        MegatronRecompute::None => {}
        MegatronRecompute::Selective(parts) => {
            if parts.contains(&RecomputePart::MoeActivation) && !megatron.grouped_gemm {
                list.push(error(
                    "recompute-moe-act",
                    "recompute_modules has moe_act, but moe_grouped_gemm = false".into(),
                    [("moe_act", 1), ("moe_grouped_gemm", 0)],
                    vec![Fix::new("megatron.moe_grouped_gemm", true)],
                ));
            }
            if parts.contains(&RecomputePart::SharedExperts) && megatron.shared_expert_overlap {
                list.push(error(
                    "recompute-shared-experts",
                    "recompute_modules has shared_experts, but moe_shared_expert_overlap = true"
                        .into(),
                    [("shared_experts", 1), ("moe_shared_expert_overlap", 1)],
                    vec![Fix::new("megatron.moe_shared_expert_overlap", false)],
                ));
            }
        }
        MegatronRecompute::Full { method, num_layers } => {
            let key = "megatron.recompute_num_layers";
            if *method == RecomputeMethod::Uniform && depths > 0 && *num_layers != 1 {
                list.push(error(
                    "recompute-uniform-mtp",
                    format!(
                        "recompute_num_layers = {num_layers} with full uniform recompute and mtp_num_layers = {depths}: with MTP it must be 1"
                    ),
                    [("mtp_num_layers", depths), ("recompute_num_layers", *num_layers)],
                    vec![Fix::new(key, 1)],
                ));
            }
            if *method == RecomputeMethod::Block && depths > 0 {
                list.push(problem(
                    "recompute-block-mtp",
                    Severity::Warning,
                    format!(
                        "full block recompute of {num_layers} layers leaves out mtp_num_layers = {depths}: MTP keeps its activations"
                    ),
                    [("mtp_num_layers", depths), ("recompute_num_layers", *num_layers)],
                    vec![Fix::new("megatron.recompute_method", "uniform")],
                ));
            }
            if megatron.cuda_graphs != CudaGraphs::None {
                list.push(error(
                    "graphs-full-recompute",
                    "CUDA graphs cannot be captured of layers that full recompute runs again"
                        .into(),
                    [
                        ("cuda_graph_impl", 1),
                        ("recompute_num_layers", *num_layers),
                    ],
                    vec![
                        Fix::new("megatron.cuda_graph_impl", "none"),
                        Fix::new("megatron.recompute_granularity", "selective"),
                    ],
                ));
            }
        }
    }
}

/// How the loss is averaged, and what determinism rules out.
fn loss(job: &Job, list: &mut Vec<Problem>) {
    let megatron = &job.megatron;
    if megatron.per_token_loss && megatron.average_in_collective {
        list.push(error(
            "per-token-average",
            "calculate_per_token_loss = true divides by tokens at the end, but average_in_collective = true divides by ranks before".into(),
            [("calculate_per_token_loss", 1), ("average_in_collective", 1)],
            vec![Fix::new("megatron.average_in_collective", false)],
        ));
    }
    if !megatron.deterministic {
        return;
    }
    if megatron.cross_entropy != CrossEntropy::Unfused {
        list.push(error(
            "deterministic-loss",
            "deterministic mode, but the fused cross entropy adds up in no fixed order".into(),
            [("deterministic_mode", 1), ("cross_entropy_loss_fusion", 1)],
            vec![Fix::new("megatron.cross_entropy_loss_fusion", false)],
        ));
    }
    if megatron.tp_comm_overlap {
        list.push(error(
            "deterministic-overlap",
            "deterministic mode, but tp_comm_overlap adds up in no fixed order".into(),
            [("deterministic_mode", 1), ("tp_comm_overlap", 1)],
            vec![Fix::new("megatron.tp_comm_overlap", false)],
        ));
    }
    if megatron.packing != SequencePacking::None {
        list.push(error(
            "deterministic-packing",
            "deterministic mode computes the delta rule by its reference, which knows no packed sequences".into(),
            [("deterministic_mode", 1), ("packing", 1)],
            vec![
                Fix::new("megatron.deterministic_mode", false),
                Fix::new("megatron.packing", "none"),
            ],
        ));
    }
}

/// What packed samples are padded to.
fn packing(job: &Job, list: &mut Vec<Problem>) {
    let Degrees {
        tp,
        cp,
        sequence_parallel,
        ..
    } = job.degrees;
    let micro = job.batch.micro_batch_size;
    let pad = match job.megatron.packing {
        SequencePacking::None => return,
        SequencePacking::InBatch { pad_to_multiple_of } => {
            if micro == 1 {
                list.push(error(
                    "in-batch-packing-of-one",
                    "micro_batch_size = 1, but in-batch packing joins the samples of a micro-batch and needs 2 or more".into(),
                    [("micro_batch_size", micro), ("least", 2)],
                    vec![
                        Fix::new("train.micro_batch_size", 2),
                        Fix::new("megatron.packing", "none"),
                    ],
                ));
            }
            pad_to_multiple_of
        }
        SequencePacking::Offline { pad_to_multiple_of } => {
            if micro > 1 {
                list.push(error(
                    "packed-rows",
                    format!(
                        "micro_batch_size = {micro} of packed rows, but a micro-batch of them is 1 row"
                    ),
                    [("micro_batch_size", micro), ("most", 1)],
                    vec![Fix::new("train.micro_batch_size", 1)],
                ));
            }
            pad_to_multiple_of
        }
    };
    let by_context = if cp > 1 { 2 * cp } else { 1 };
    let by_tensor = if sequence_parallel { cp * tp } else { 1 };
    let unit = lcm(by_context, by_tensor);
    if !pad.is_multiple_of(unit) {
        let name = match (cp > 1, sequence_parallel) {
            (true, true) => "lcm(2 * cp, cp * tp)",
            (true, false) => "2 * cp",
            _ => "tp",
        };
        list.push(error(
            "packing-multiple",
            format!(
                "packed samples are padded to multiples of {pad}, which is not divisible by {name} = {unit}"
            ),
            [("pad_to_multiple_of", pad), (name, unit)],
            vec![Fix::new(
                "megatron.pad_to_multiple_of",
                pad.div_ceil(unit) * unit,
            )],
        ));
    }
}
