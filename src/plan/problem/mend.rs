//! Which changes mend a problem, tried one by one.

use super::conditions;
use super::{Fix, Problem, job_stages};
use crate::base::Severity;
use crate::plan::{CudaGraphs, Degrees, Dispatcher, Job, MegatronRecompute, RecomputeMethod, rule};

/// Candidates for degrees are looked for up to here; more are as good as none.
const MOST_FIXES: usize = 4;

/// Adds candidates, leaves out those that do not mend, and sorts by how little they change.
pub(super) fn smallest_first(job: &Job, problem: &mut Problem) {
    if problem.code == "global-batch" {
        problem.fixes.extend(micro_batches(job));
    }
    let cost = |fix: &Fix| cost(job, fix);
    problem.fixes.retain(|fix| {
        apply(job, fix).is_none_or(|changed| {
            changed != *job
                && (problem.severity == Severity::Warning || !breaks(&changed, problem.code))
        })
    });
    let mut seen = Vec::new();
    problem.fixes.retain(|fix| {
        let new = !seen.contains(fix);
        seen.push(fix.clone());
        new
    });
    problem
        .fixes
        .sort_by(|one, other| cost(one).total_cmp(&cost(other)));
}

/// Whether an error of that code is there.
fn breaks(job: &Job, code: &str) -> bool {
    errors(job).iter().any(|problem| problem.code == code)
}

/// Errors without their fixes sorted.
pub(super) fn errors(job: &Job) -> Vec<Problem> {
    let mut list: Vec<Problem> = rule::check(&job.model.text, &job.degrees, &job.batch)
        .into_iter()
        .filter(|violation| !conditions::replaces(job, violation.rule))
        .map(Problem::from)
        .collect();
    if !list.iter().any(|problem| problem.code == "range") {
        conditions::add_without_fixes(job, &mut list);
    }
    list.retain(|problem| problem.severity == Severity::Error);
    list
}

/// How many errors are left after a change; none where the key is unknown here.
fn left_after(job: &Job, fix: &Fix) -> Option<usize> {
    apply(job, fix).map(|changed| errors(&changed).len())
}

/// How far a change is from what is there, after how many other errors it leaves.
fn cost(job: &Job, fix: &Fix) -> f64 {
    let left = left_after(job, fix).unwrap_or(0) as f64;
    let distance = match (number(job, &fix.key), fix.value.parse::<f64>()) {
        (Some(old), Ok(new)) if old > 0.0 && new > 0.0 => (new / old).ln().abs(),
        _ => 0.5,
    };
    left * 100.0 + distance + fix.also.len() as f64
}

fn number(job: &Job, key: &str) -> Option<f64> {
    let value = match key {
        "parallel.tp" => job.degrees.tp,
        "parallel.pp" => job.degrees.pp,
        "parallel.cp" => job.degrees.cp,
        "parallel.dp" => job.degrees.dp,
        "parallel.ep" => job.degrees.ep,
        "parallel.etp" => job.degrees.etp,
        "parallel.vpp" => job.degrees.vpp,
        "train.seq_length" => job.batch.seq_length,
        "train.micro_batch_size" => job.batch.micro_batch_size,
        "train.global_batch_size" => job.batch.global_batch_size,
        "megatron.gpus" => job.gpus,
        _ => return None,
    };
    Some(value as f64)
}

/// The job with a change made; none where the key is not one that is known here. Degrees change with the GPUs kept.
pub(super) fn apply(job: &Job, fix: &Fix) -> Option<Job> {
    let mut changed = job.clone();
    set(&mut changed, &fix.key, &fix.value)?;
    for (key, value) in &fix.also {
        set(&mut changed, key, value)?;
    }
    Some(changed)
}

fn set(job: &mut Job, key: &str, value: &str) -> Option<()> {
    let count = || value.parse::<usize>().ok();
    let megatron = &mut job.megatron;
    match key {
        "train.seq_length" => job.batch.seq_length = count()?,
        "train.micro_batch_size" => job.batch.micro_batch_size = count()?,
        "train.global_batch_size" => job.batch.global_batch_size = count()?,
        "parallel.sequence_parallel" => job.degrees.sequence_parallel = value.parse().ok()?,
        "parallel.dp" => job.degrees.dp = count()?,
        "parallel.ep" => job.degrees.ep = count()?,
        "parallel.etp" => job.degrees.etp = count()?,
        "parallel.vpp" => job.degrees.vpp = count()?,
        "parallel.tp" | "parallel.pp" | "parallel.cp" | "megatron.gpus" => {
            let value = count()?;
            let mut gpus = job.gpus;
            match key {
                "parallel.tp" => job.degrees.tp = value,
                "parallel.pp" => job.degrees.pp = value,
                "parallel.cp" => job.degrees.cp = value,
                _ => gpus = value,
            }
            *job = job.clone().with_gpus(gpus);
        }
        "megatron.num_layers_in_first_pipeline_stage" => {
            megatron.first_stage_layers = optional(value);
        }
        "megatron.num_layers_in_last_pipeline_stage" => {
            megatron.last_stage_layers = optional(value);
        }
        "megatron.pipeline_model_parallel_layout" => {
            megatron.pipeline_layout = Some(value.to_owned());
        }
        "megatron.recompute_num_layers" => {
            if let MegatronRecompute::Full { num_layers, .. } = &mut megatron.recompute {
                *num_layers = value.parse().ok()?;
            }
        }
        "megatron.recompute_method" => {
            if let (MegatronRecompute::Full { method, .. }, "uniform") =
                (&mut megatron.recompute, value)
            {
                *method = RecomputeMethod::Uniform;
            }
        }
        "megatron.recompute_granularity" if value == "selective" => {
            megatron.recompute = MegatronRecompute::Selective(Vec::new());
        }
        "megatron.cuda_graph_impl" if value == "none" => megatron.cuda_graphs = CudaGraphs::None,
        "megatron.moe_token_dispatcher_type" if value == "alltoall" => {
            megatron.dispatcher = Dispatcher::AllToAll;
        }
        "megatron.calculate_per_token_loss" => megatron.per_token_loss = value.parse().ok()?,
        "megatron.average_in_collective" => megatron.average_in_collective = value.parse().ok()?,
        "megatron.moe_shared_expert_overlap" => {
            megatron.shared_expert_overlap = value.parse().ok()?;
        }
        "megatron.overlap_moe_expert_parallel_comm" => {
            megatron.overlap_expert_communication = value.parse().ok()?;
        }
        "megatron.overlap_grad_reduce" => megatron.overlap_grad_reduce = value.parse().ok()?,
        "megatron.overlap_param_gather" => megatron.overlap_param_gather = value.parse().ok()?,
        "megatron.use_distributed_optimizer" => {
            megatron.optimizer.distributed = value.parse().ok()?;
        }
        "megatron.ckpt_format" => value.clone_into(&mut megatron.checkpoint_format),
        _ => return None,
    }
    Some(())
}

/// A count that may be left out; 0 stands for text that is none, which no stage may have.
fn optional(value: &str) -> Option<usize> {
    match value {
        "null" => None,
        number => Some(number.parse().unwrap_or(0)),
    }
}

/// Micro-batches with which the global batch divides, the next below and above.
fn micro_batches(job: &Job) -> Vec<Fix> {
    let (micro, dp) = (job.batch.micro_batch_size, job.degrees.dp);
    let fits = |n: &usize| {
        n.checked_mul(dp)
            .is_some_and(|step| job.batch.global_batch_size.is_multiple_of(step))
    };
    let below = (1..micro).rev().take(1 << 12).find(fits);
    let above = (micro + 1..=micro.saturating_mul(2))
        .take(1 << 12)
        .find(fits);
    below
        .into_iter()
        .chain(above)
        .map(|n| Fix::new("train.micro_batch_size", n))
        .collect()
}

/// Degrees of `tp`, `pp` and `cp` with which the GPUs divide and no error is left, those nearest first.
pub(super) fn degrees(job: &Job) -> Vec<Fix> {
    let Degrees { tp, pp, cp, .. } = job.degrees;
    let mut list = Vec::new();
    for (key, now) in [
        ("parallel.tp", tp),
        ("parallel.pp", pp),
        ("parallel.cp", cp),
    ] {
        let most = job.gpus.min(now.saturating_mul(4)).min(256);
        list.extend(
            (1..=most)
                .filter(|&n| n != now && job.gpus.is_multiple_of(n))
                .map(|n| Fix::new(key, n))
                .filter(|fix| left_after(job, fix) == Some(0)),
        );
    }
    list.sort_by(|one, other| cost(job, one).total_cmp(&cost(job, other)));
    list.truncate(MOST_FIXES);
    list
}

/// Numbers of stages and chunks, and ends without counts of their own, with which the layers divide.
pub(super) fn stages(job: &Job) -> Vec<Fix> {
    let Degrees { pp, vpp, .. } = job.degrees;
    let layers = job.model.text.num_hidden_layers;
    let mut list = Vec::new();
    if job.megatron.first_stage_layers.is_some() || job.megatron.last_stage_layers.is_some() {
        list.push(Fix {
            key: "megatron.num_layers_in_first_pipeline_stage".into(),
            value: "null".into(),
            also: vec![(
                "megatron.num_layers_in_last_pipeline_stage".into(),
                "null".into(),
            )],
        });
    } else if job.megatron.pipeline_layout.is_none() && pp > 2 {
        list.extend(even_ends(layers, pp, vpp));
    }
    let near = |key: &str, now: usize| -> Vec<Fix> {
        let most = now.saturating_mul(2).min(256);
        let mut fits: Vec<Fix> = (1..=most)
            .filter(|&n| n != now)
            .map(|n| Fix::new(key, n))
            .filter(|fix| apply(job, fix).is_some_and(|job| job_stages(&job).is_ok()))
            .collect();
        fits.sort_by(|one, other| cost(job, one).total_cmp(&cost(job, other)));
        fits.truncate(MOST_FIXES);
        fits
    };
    list.extend(near("parallel.pp", pp));
    list.extend(near("parallel.vpp", vpp));
    if let Some(layout) = balanced_layout(job) {
        list.push(Fix::new("megatron.pipeline_model_parallel_layout", layout));
    }
    list
}

/// Counts of the ends that leave the stages between them equal and the ends no fuller.
fn even_ends(layers: usize, pp: usize, vpp: usize) -> Option<Fix> {
    let middle = (pp - 2) * vpp;
    let each = layers.div_ceil(pp * vpp);
    let own = layers.checked_sub(each.checked_mul(middle)?)?;
    let (last, first) = (own / 2 / vpp * vpp, (own - own / 2 / vpp * vpp));
    (last > 0 && first <= each * vpp && first.is_multiple_of(vpp)).then(|| Fix {
        key: "megatron.num_layers_in_first_pipeline_stage".into(),
        value: first.to_string(),
        also: vec![(
            "megatron.num_layers_in_last_pipeline_stage".into(),
            last.to_string(),
        )],
    })
}

/// A layout string that shares the layers out as evenly as can be, MTP counted as a layer of the last chunk; none where a chunk would be empty,
/// or where the job has a layout or counts of its own.
pub(in crate::plan) fn balanced_layout(job: &Job) -> Option<String> {
    let megatron = &job.megatron;
    let own = megatron.pipeline_layout.is_some()
        || megatron.first_stage_layers.is_some()
        || megatron.last_stage_layers.is_some()
        || megatron.account_for_embedding
        || megatron.account_for_loss;
    let chunks = job.degrees.pp.checked_mul(job.degrees.vpp)?;
    let (layers, depths) = (
        job.model.text.num_hidden_layers,
        job.model.text.mtp_num_hidden_layers,
    );
    if own || chunks < 2 || chunks > layers || layers > 1 << 12 {
        return None;
    }
    let all = layers + depths;
    let each = all / chunks;
    let more = all % chunks;
    // The last chunks have the fewer, since the head comes on top of them.
    let mut counts: Vec<usize> = (0..chunks).map(|c| each + usize::from(c < more)).collect();
    let last = counts.last_mut()?;
    *last = last.checked_sub(depths).filter(|&left| left > 0)?;
    let chunks: Vec<String> = counts.iter().map(|count| format!("t*{count}")).collect();
    Some(format!("E{}{}L", chunks.join("|"), "m".repeat(depths)))
}
