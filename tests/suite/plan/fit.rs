//! Whole plans, and the search over layouts.

use trestle::plan::{
    BatchShape, Constraints, Degrees, Group, Job, LinkKind, PlanError, fit, machine, plan, problems,
};
use trestle::spec::find;

fn job(model: &str, degrees: Degrees, global: usize, gpus: usize) -> Job {
    let batch = BatchShape {
        seq_length: 4096,
        micro_batch_size: 1,
        global_batch_size: global,
    };
    let model = find(model).expect("a published size").model.clone();
    Job::new(model, degrees, batch).with_gpus(gpus)
}

fn h100() -> &'static trestle::plan::Machine {
    machine::machine("h100").expect("built in")
}

#[test]
fn a_plan_has_every_stage_and_the_links_that_groups_span() {
    let degrees = Degrees {
        tp: 2,
        pp: 8,
        vpp: 2,
        ep: 16,
        sequence_parallel: true,
        ..Degrees::default()
    };
    let job = job("122b-a10b", degrees, 1024, 128);
    let plan = plan(&job, h100()).expect("a published layout");
    assert_eq!(plan.stages.len(), 8);
    assert_eq!(plan.memory.len(), 8);
    assert_eq!(plan.time.stages.len(), 8);
    for (balanced, worst) in plan.memory.iter().zip(&plan.worst) {
        assert!(*worst > balanced.total);
        assert!(balanced.terms.iter().all(|term| !term.formula.is_empty()));
    }
    let link = |group: Group| {
        let traffic = &plan.time.stages[0].traffic;
        traffic.iter().find(|t| t.group == group).map(|t| t.link)
    };
    assert_eq!(link(Group::Tensor), Some(LinkKind::NvLink));
    // 16 ranks of experts on nodes of 8, and stages 16 ranks apart.
    assert_eq!(link(Group::Expert), Some(LinkKind::Infiniband));
    assert_eq!(link(Group::Pipeline), Some(LinkKind::Infiniband));
    let time = &plan.time;
    assert!(time.low < time.seconds && time.seconds < time.high);
    assert!(time.bubble > 0.0 && time.bubble < 1.0, "{}", time.bubble);
    assert!(time.skew > 1.0, "MTP and the head are on the last stage");
}

#[test]
fn more_micro_batches_and_virtual_stages_leave_less_bubble() {
    let bubble = |vpp, global| {
        let degrees = Degrees {
            pp: 4,
            vpp,
            ..Degrees::default()
        };
        let job = job("27b", degrees, global, 4);
        plan(&job, h100()).expect("valid").time.bubble
    };
    assert!(bubble(1, 8) > bubble(1, 64));
    assert!(bubble(1, 8) > bubble(2, 8));
}

#[test]
fn bytes_between_pipeline_stages_are_those_of_the_hidden_states() {
    let degrees = Degrees {
        pp: 2,
        ..Degrees::default()
    };
    let job = job("4b", degrees, 8, 2);
    let plan = plan(&job, h100()).expect("valid");
    let traffic = &plan.time.stages[0].traffic;
    let pipeline = traffic
        .iter()
        .find(|t| t.name == "pipeline")
        .expect("two stages");
    assert_eq!(pipeline.bytes.0, 8 * 4096 * 2 * 2560);
}

#[test]
fn sizes_out_of_range_have_no_plan_and_no_panic() {
    for size in [0, usize::MAX] {
        let degrees = Degrees {
            tp: size,
            ..Degrees::default()
        };
        let job = job("9b", degrees, 32, 8);
        assert!(matches!(plan(&job, h100()), Err(PlanError::Range(_))));
    }
}

#[test]
fn the_best_layouts_start_fit_and_are_beaten_by_none() {
    let start = job("35b-a3b", Degrees::default(), 512, 16);
    let found = fit(&start, 16, h100(), &Constraints::default());
    assert!(!found.best.is_empty());
    let rejected: usize = found.rejected.iter().map(|r| r.count).sum();
    assert_eq!(found.tried, found.fitting + rejected);
    let memory = found.rejected.iter().find(|r| r.code == "memory");
    let needs = memory.and_then(|r| r.needs).expect("some do not fit");
    assert!(needs.0 as f64 > 0.92 * h100().memory().0 as f64);
    for (index, one) in found.best.iter().enumerate() {
        let mut job = start.clone();
        job.degrees = one.degrees;
        job.batch.micro_batch_size = one.micro_batch_size;
        job.megatron.recompute = one.recompute.clone();
        job.megatron.pipeline_layout = one.pipeline_layout.clone();
        if one.degrees.cp > 1 {
            job.megatron.per_token_loss = true;
            job.megatron.average_in_collective = false;
        }
        let errors: Vec<_> = problems(&job)
            .into_iter()
            .filter(|p| p.severity == trestle::base::Severity::Error)
            .collect();
        assert_eq!(errors, []);
        let plan = plan(&job, h100()).expect("starts");
        assert_eq!(plan.fullest(), one.memory);
        for other in &found.best[index + 1..] {
            assert!(one.time.seconds < other.time.seconds && one.memory > other.memory);
        }
    }
}

#[test]
fn a_model_that_fits_nowhere_says_what_it_lacks() {
    let start = job("397b-a17b", Degrees::default(), 64, 8);
    let found = fit(&start, 8, h100(), &Constraints::default());
    assert_eq!(found.best, []);
    assert!(found.rejected.iter().any(|r| r.code == "memory"));
}
