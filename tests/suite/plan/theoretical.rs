//! The numbers that Megatron prints before it trains.

use trestle::plan::{
    BatchShape, Counted, Degrees, Job, MegatronRecompute, RecomputePart, theoretical,
};
use trestle::spec::find;

fn job(model: &str, degrees: Degrees, gpus: usize, (micro, global): (usize, usize)) -> Job {
    let batch = BatchShape {
        seq_length: 4096,
        micro_batch_size: micro,
        global_batch_size: global,
    };
    let model = find(model).expect("a published size").model.clone();
    Job::new(model, degrees, batch).with_gpus(gpus)
}

fn usual(mut job: Job) -> Job {
    job.degrees.sequence_parallel = true;
    job.megatron.recompute = MegatronRecompute::Selective(vec![RecomputePart::CoreAttention]);
    job
}

fn depth(mut job: Job, depth: usize) -> Job {
    job.model.text.mtp_num_hidden_layers = depth;
    job
}

/// MB of weights and optimizer, and of activations, as megatron-core 0.19.2's `report_theoretical_memory` returned them for these sizes,
/// degrees and batches.
#[test]
fn every_layer_counted_as_attention_gives_the_numbers_of_megatron_core() {
    let d = Degrees::default();
    let unsharded = {
        let degrees = Degrees {
            tp: 2,
            pp: 4,
            vpp: 2,
            ..d
        };
        let mut job = depth(usual(job("9b", degrees, 16, (1, 64))), 0);
        job.megatron.optimizer.distributed = false;
        job
    };
    let mixed = Degrees {
        tp: 2,
        pp: 2,
        ep: 4,
        etp: 2,
        ..d
    };
    let cases = [
        (
            usual(job("9b", Degrees { tp: 4, ..d }, 4, (1, 64))),
            36058.71,
            4830.01,
        ),
        (
            job("9b", Degrees { tp: 2, pp: 4, ..d }, 16, (1, 4)),
            15756.86,
            5947.27,
        ),
        (unsharded, 21979.14, 10604.09),
        (
            job("35b-a3b", Degrees { pp: 2, ep: 8, ..d }, 16, (1, 64)),
            43312.68,
            11440.87,
        ),
        (
            depth(usual(job("35b-a3b", mixed, 32, (2, 64))), 2),
            28978.72,
            10896.06,
        ),
        (job("2b", d, 1, (1, 64)), 29431.79, 8916.63),
        (
            job("2b", Degrees { cp: 2, pp: 2, ..d }, 8, (1, 8)),
            12996.62,
            6871.27,
        ),
    ];
    for (job, weights, activations) in cases {
        let told = theoretical(&job, Counted::Attention);
        let mb = |bytes: f64| (bytes / f64::from(1 << 20) * 100.0).round() / 100.0;
        assert_eq!(mb(told.weights_and_optimizer), weights, "{:?}", job.degrees);
        assert_eq!(
            told.activations.map(mb),
            Some(activations),
            "{:?}",
            job.degrees
        );
    }
}

#[test]
fn modules_counted_as_they_are_give_the_parameters_of_a_log() {
    // The lines of a log of the 35B model with MTP; the shard depends on the layout, the sums do not.
    let degrees = Degrees {
        pp: 2,
        ep: 8,
        ..Degrees::default()
    };
    let job = job("35b-a3b", degrees, 16, (1, 64));
    let told = theoretical(&job, Counted::Modules);
    let lines = told.lines();
    assert_eq!(
        lines[..3],
        [
            "Number of dense and embedding parameters in billions: 2.49",
            "Number of routed expert parameters in billions: 33.02",
            "Total number of parameters in billions: 35.51",
        ]
    );
    // 20 of 40 layers and the one of MTP, 256 experts of 3 x 2048 x 512 over 8 ranks.
    assert_eq!(told.shard_routed, 21.0 * 256.0 * 3.0 * 2048.0 * 512.0 / 8.0);
    // dp = 8, expert dp = 16 / (2 * 8) = 1.
    assert_eq!(
        told.weights_and_optimizer,
        told.shard_dense * 7.5 + told.shard_routed * 18.0
    );
    // Activations are told of the usual way of training alone.
    assert!(told.activations.is_none() && lines[5].ends_with(" MB") && !lines[5].contains(','));
    let told = theoretical(&usual(job), Counted::Modules);
    assert!(
        told.lines()[5].contains(" MB, activation=") && told.total() > told.weights_and_optimizer
    );
}

#[test]
fn a_dense_model_has_no_lines_about_experts_and_all_its_parameters_on_one_shard() {
    for (name, depth_of) in [("0.8b", 1), ("9b", 0), ("27b", 2)] {
        let job = depth(job(name, Degrees::default(), 1, (1, 8)), depth_of);
        let told = theoretical(&job, Counted::Modules);
        assert_eq!(told.lines().len(), 4);
        assert_eq!(told.routed, 0.0);
        assert_eq!(told.shard_dense, told.dense);
        let tensors = trestle::spec::parameters(&job.model.text).total as f64;
        assert_eq!(told.dense, tensors, "{name}");
        assert_eq!(told.weights_and_optimizer, 18.0 * told.dense);
    }
}

#[test]
fn huge_degrees_give_numbers_and_no_panic() {
    for degree in [0, 1, usize::MAX] {
        let degrees = Degrees {
            tp: degree,
            pp: degree,
            vpp: degree,
            ep: degree,
            etp: degree,
            ..Degrees::default()
        };
        let mut job = job("35b-a3b", Degrees::default(), 16, (1, 64));
        job.degrees = degrees;
        for counted in [Counted::Modules, Counted::Attention] {
            drop(theoretical(&job, counted).lines());
        }
    }
}
