//! What keeps published layouts from starting, and that the fixes which are offered mend it.

use trestle::base::{DType, Severity};
use trestle::plan::{
    BatchShape, CrossEntropy, CudaGraphs, Degrees, Dispatcher, Fsdp, Job, MathPrecision,
    MegatronRecompute, Problem, RankOrder, RecomputeMethod, RecomputePart, SequencePacking, mended,
    problems,
};
use trestle::spec::find;

/// `tp pp vpp cp ep etp`, micro-batch and global batch on so many GPUs.
fn job(model: &str, degrees: [usize; 6], batch: [usize; 2], gpus: usize) -> Job {
    let [tp, pp, vpp, cp, ep, etp] = degrees;
    let degrees = Degrees {
        tp,
        pp,
        vpp,
        cp,
        ep,
        etp,
        dp: 1,
        sequence_parallel: tp > 1,
    };
    let batch = BatchShape {
        seq_length: 4096,
        micro_batch_size: batch[0],
        global_batch_size: batch[1],
    };
    let model = find(model).expect("a published size").model.clone();
    Job::new(model, degrees, batch).with_gpus(gpus)
}

/// A change that breaks a condition.
type Change = fn(&mut Job);

fn errors(job: &Job) -> Vec<Problem> {
    let mut list = problems(job);
    list.retain(|problem| problem.severity == Severity::Error);
    list
}

fn codes(job: &Job) -> Vec<&'static str> {
    errors(job).iter().map(|problem| problem.code).collect()
}

/// The only error of a job has this code, and its first fix lets the job start.
fn stopped_by(job: &Job, code: &str) -> Problem {
    let list = errors(job);
    assert_eq!(list.len(), 1, "{list:#?}");
    assert_eq!(list[0].code, code, "{list:#?}");
    let fix = list[0].fixes.first().unwrap_or_else(|| panic!("{list:#?}"));
    if let Some(job) = mended(job, fix) {
        assert_eq!(codes(&job), [""; 0], "after {fix:?}");
    }
    list[0].clone()
}

#[test]
fn published_layouts_that_start_have_no_errors() {
    let good = [
        job("35b-a3b", [4, 2, 1, 1, 4, 1], [2, 32], 8),
        job("122b-a10b", [2, 8, 2, 1, 16, 1], [1, 1024], 128),
        job("27b", [4, 4, 1, 1, 1, 1], [2, 32], 16),
    ];
    for job in good {
        assert_eq!(errors(&job), [], "{:?}", job.degrees);
    }
    let mut uneven = job("35b-a3b", [1, 2, 1, 1, 8, 1], [1, 512], 16);
    uneven.megatron.first_stage_layers = Some(17);
    uneven.megatron.last_stage_layers = Some(23);
    uneven.megatron.dispatcher = Dispatcher::HybridEp;
    assert_eq!(errors(&uneven), []);
}

#[test]
fn a_global_batch_that_does_not_divide_is_mended_by_a_smaller_micro_batch() {
    let sft = job("122b-a10b", [2, 6, 1, 1, 8, 1], [4, 36], 48);
    let problem = stopped_by(&sft, "global-batch");
    let values = problem.numbers.clone().map(|(_, value)| value);
    assert_eq!(values, [36, 16]);
    assert_eq!(problem.fixes[0].key, "train.global_batch_size");
    let micro = |p: &Problem| {
        let fix = p.fixes.iter().find(|f| f.key == "train.micro_batch_size");
        fix.map(|f| f.value.clone())
    };
    assert_eq!(micro(&problem).as_deref(), Some("3"));
    let sft = job("397b-a17b", [2, 4, 1, 1, 32, 1], [4, 32], 128);
    assert_eq!(
        micro(&stopped_by(&sft, "global-batch")).as_deref(),
        Some("2")
    );
}

#[test]
fn sixty_layers_over_sixteen_stages_need_uneven_ends() {
    let mut pretrain = job("397b-a17b", [4, 16, 1, 2, 16, 1], [2, 32], 512);
    pretrain.megatron.per_token_loss = true;
    pretrain.megatron.average_in_collective = false;
    let problem = stopped_by(&pretrain, "layers-by-pp");
    assert_eq!(problem.numbers.clone().map(|(_, value)| value), [60, 16]);
    let fixes = problem.fixes;
    assert!(
        fixes.iter().any(
            |fix| fix.key == "megatron.num_layers_in_first_pipeline_stage"
                && fix.value == "2"
                && fix.also[0].1 == "2"
        ),
        "{fixes:?}"
    );
    for fix in &fixes {
        let job = mended(&pretrain, fix).expect("known keys");
        assert!(!codes(&job).contains(&"layers-by-pp"), "{fix:?}");
    }
}

#[test]
fn counts_of_both_ends_on_one_stage_are_dropped() {
    let mut sft = job("35b-a3b", [1, 1, 1, 1, 8, 1], [1, 32], 8);
    sft.megatron.first_stage_layers = Some(17);
    sft.megatron.last_stage_layers = Some(23);
    let problem = stopped_by(&sft, "one-stage-two-ends");
    assert_eq!(problem.fixes[0].value, "null");
}

#[test]
fn virtual_stages_that_do_not_divide_a_stage() {
    let mut perf = job("35b-a3b", [1, 2, 12, 1, 8, 1], [1, 512], 16);
    perf.megatron.overlap_expert_communication = true;
    stopped_by(&perf, "layers-by-vpp");
    stopped_by(
        &job("397b-a17b", [2, 8, 4, 1, 32, 1], [1, 1024], 256),
        "layers-by-pp",
    );
}

#[test]
fn gpus_that_the_degrees_do_not_divide() {
    let job = job("35b-a3b", [1, 2, 1, 1, 8, 1], [1, 512], 15);
    let list = errors(&job);
    assert!(list.iter().any(|p| p.code == "gpus-by-model"), "{list:?}");
    let fixes: Vec<_> = list.iter().flat_map(|p| &p.fixes).collect();
    assert!(
        fixes
            .iter()
            .any(|f| f.key == "megatron.gpus" && f.value == "16"),
        "{fixes:?}"
    );
}

#[test]
fn every_condition_of_the_options_stops_a_job_and_its_first_fix_mends_it() {
    let full = |method, num_layers| MegatronRecompute::Full { method, num_layers };
    let table: [(&str, Change); 20] = [
        ("vision-cp-per-token", |job| {
            job.degrees.cp = 2;
            *job = job.clone().with_gpus(16);
        }),
        ("per-token-average", |job| {
            job.megatron.per_token_loss = true;
        }),
        ("recompute-moe-act", |job| {
            job.megatron.recompute =
                MegatronRecompute::Selective(vec![RecomputePart::MoeActivation]);
            job.megatron.grouped_gemm = false;
        }),
        ("recompute-shared-experts", |job| {
            job.megatron.recompute =
                MegatronRecompute::Selective(vec![RecomputePart::SharedExperts]);
            job.megatron.shared_expert_overlap = true;
        }),
        ("deterministic-loss", |job| {
            job.megatron.deterministic = true;
            job.megatron.cross_entropy = CrossEntropy::Native;
        }),
        ("deterministic-overlap", |job| {
            job.megatron.deterministic = true;
            job.megatron.tp_comm_overlap = true;
        }),
        ("deterministic-packing", |job| {
            job.megatron.deterministic = true;
            job.batch.micro_batch_size = 2;
            job.megatron.packing = SequencePacking::InBatch {
                pad_to_multiple_of: 4,
            };
        }),
        ("in-batch-packing-of-one", |job| {
            job.megatron.packing = SequencePacking::InBatch {
                pad_to_multiple_of: 4,
            };
        }),
        ("packed-rows", |job| {
            job.batch.micro_batch_size = 2;
            job.megatron.packing = SequencePacking::Offline {
                pad_to_multiple_of: 4,
            };
        }),
        ("packing-multiple", |job| {
            job.batch.micro_batch_size = 2;
            job.megatron.packing = SequencePacking::InBatch {
                pad_to_multiple_of: 3,
            };
        }),
        ("overlap-needs-vpp", |job| {
            job.megatron.overlap_expert_communication = true;
        }),
        ("shared-expert-overlap", |job| {
            job.megatron.shared_expert_overlap = true;
            job.megatron.dispatcher = Dispatcher::AllGather;
        }),
        ("precision-aware-distributed", |job| {
            job.megatron.optimizer.precision_aware = true;
            job.megatron.optimizer.distributed = false;
        }),
        ("optimizer-type", |job| {
            job.megatron.optimizer.exp_avg = DType::BF16;
        }),
        ("optimizer-instances", |job| {
            job.megatron.optimizer.instances = 3;
        }),
        ("gather-without-reduce", |job| {
            job.megatron.overlap_param_gather = true;
        }),
        ("fsdp-checkpoint", |job| {
            job.megatron.fsdp = Some(Fsdp::OptimGradsParams);
        }),
        ("experts-need-sequence-parallel", |job| {
            job.degrees.sequence_parallel = false;
        }),
        ("experts-by-ep", |job| {
            job.degrees.ep = 3;
            *job = job.clone().with_gpus(12);
            job.batch.global_batch_size = 36;
        }),
        ("fp8-rows", |job| {
            job.megatron.precision = MathPrecision::Fp8CurrentScaling;
            job.batch.seq_length = 4092;
        }),
    ];
    let start = || job("35b-a3b", [2, 2, 1, 1, 2, 1], [1, 32], 8);
    assert_eq!(errors(&start()), []);
    for (code, change) in table {
        let mut job = start();
        change(&mut job);
        stopped_by(&job, code);
    }
    let mut job = start();
    job.megatron.recompute = full(RecomputeMethod::Uniform, 2);
    stopped_by(&job, "recompute-uniform-mtp");
    job.megatron.recompute = full(RecomputeMethod::Uniform, 1);
    assert_eq!(errors(&job), []);
    job.megatron.cuda_graphs = CudaGraphs::TransformerEngine;
    stopped_by(&job, "graphs-full-recompute");
    job.megatron.cuda_graphs = CudaGraphs::None;
    job.megatron.recompute = full(RecomputeMethod::Block, 4);
    assert!(
        problems(&job)
            .iter()
            .any(|p| p.code == "recompute-block-mtp")
    );
    job.model.text.mtp_num_hidden_layers = 0;
    assert!(
        !problems(&job)
            .iter()
            .any(|p| p.code == "recompute-block-mtp")
    );
}

#[test]
fn orders_that_tear_stages_apart_are_refused() {
    let mut job = job("35b-a3b", [2, 2, 1, 1, 4, 1], [1, 32], 8);
    job.megatron.rank_order = RankOrder::DATA_LAST;
    assert_eq!(codes(&job), ["order-splits-stages"]);
    job.degrees.ep = 2;
    assert_eq!(codes(&job), [""; 0]);
}

#[test]
fn zero_and_huge_sizes_are_errors_and_never_overflow() {
    for size in [0, usize::MAX, usize::MAX / 2, 1 << 40] {
        for place in 0..9 {
            let mut job = job("35b-a3b", [2, 2, 1, 1, 2, 1], [1, 32], 8);
            let degrees = &mut job.degrees;
            match place {
                0 => degrees.tp = size,
                1 => degrees.pp = size,
                2 => degrees.cp = size,
                3 => degrees.ep = size,
                4 => degrees.etp = size,
                5 => degrees.vpp = size,
                6 => degrees.dp = size,
                7 => job.batch.micro_batch_size = size,
                _ => job.gpus = size,
            }
            assert!(codes(&job).contains(&"range"), "{place} {size}");
            let again = job.clone().with_gpus(job.gpus);
            assert!(!codes(&again).is_empty() || place == 6, "{place} {size}");
        }
    }
}
