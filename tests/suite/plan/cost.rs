//! Weights, memory and operations of Megatron's jobs, against the model's own count and published runs.

use trestle::plan::{
    BatchShape, CrossEntropy, Degrees, Frozen, Job, MegatronRecompute, RecomputeMethod,
    RecomputePart, Routing, Tuning, Weights, job_flops, job_memory, layer_weights, mtp_weights,
    stage_weights, tflops_per_gpu, trained_weights, vision_weights,
};
use trestle::spec::{ExpertStyle, find, flops_per_token, model_parameters, registry};

fn job(model: &str, degrees: Degrees, batch: [usize; 3], gpus: usize) -> Job {
    let batch = BatchShape {
        seq_length: batch[0],
        micro_batch_size: batch[1],
        global_batch_size: batch[2],
    };
    let model = find(model).expect("a published size").model.clone();
    Job::new(model, degrees, batch).with_gpus(gpus)
}

fn stages(job: &Job) -> Vec<trestle::plan::Stage> {
    let text = &job.model.text;
    trestle::plan::stages(text, &job.degrees).expect("even")
}

/// The published SFT run of 35B on 16 H100.
fn sft() -> Job {
    let degrees = Degrees {
        pp: 2,
        ep: 8,
        ..Degrees::default()
    };
    let mut job = job("35b-a3b", degrees, [4096, 1, 32], 16);
    job.megatron.patches = 784;
    job.megatron.patches_per_image = 784;
    job
}

#[test]
fn parts_add_up_to_the_parameters_of_every_size() {
    for entry in registry() {
        let text = &entry.model.text;
        let mut sum: u64 = text
            .layer_types
            .iter()
            .map(|&kind| layer_weights(text, kind).total())
            .sum();
        sum += mtp_weights(text).total() * text.mtp_num_hidden_layers as u64;
        let copies = if text.tie_word_embeddings { 1 } else { 2 };
        sum += (text.vocab_size * text.hidden_size) as u64 * copies + text.hidden_size as u64;
        if let Some(vision) = &entry.model.vision {
            let (blocks, merger) = vision_weights(vision);
            sum += blocks.total() + merger.total();
        }
        let all = model_parameters(&entry.model, ExpertStyle::QWEN3_5).total;
        assert_eq!(sum, all, "{}", entry.name);
    }
}

#[test]
fn ranks_of_a_layout_hold_what_they_should() {
    let degrees = Degrees {
        tp: 2,
        pp: 2,
        ep: 4,
        sequence_parallel: true,
        ..Degrees::default()
    };
    let job = job("35b-a3b", degrees, [4096, 1, 32], 16);
    let text = &job.model.text;
    let weights: Vec<Weights> = stages(&job)
        .iter()
        .map(|s| stage_weights(&job, s))
        .collect();
    let all = model_parameters(&job.model, ExpertStyle::QWEN3_5).total;
    // MTP's copy of the embedding is the only thing that is there twice.
    let copy = (text.vocab_size * text.hidden_size) as u64;
    assert_eq!(weights[0].total() + weights[1].total(), all + copy);
    // 20 and 20 + 1 layers of 256 experts of 3 * 2048 * 512 scalars, over 4 ranks.
    let layer = 256 * 3 * 2048 * 512 / 4;
    assert_eq!(weights[0].on_rank(&degrees).1, 20 * layer);
    assert_eq!(weights[1].on_rank(&degrees).1, 21 * layer);
}

#[test]
fn the_vocabulary_is_padded_where_asked() {
    let degrees = Degrees {
        tp: 8,
        ..Degrees::default()
    };
    let mut job = job("9b", degrees, [4096, 1, 32], 8);
    let stage = &stages(&job)[0];
    let plain = stage_weights(&job, stage).total();
    job.megatron.vocab_multiple = Some(128);
    let padded = stage_weights(&job, stage).total();
    // 248320 rows become 248832; embedding and head.
    assert_eq!(padded - plain, 2 * 512 * 4096);
}

#[test]
fn frozen_parts_and_adapters_have_no_state_of_their_own() {
    let mut job = job("9b", Degrees::default(), [4096, 1, 32], 1);
    let stage = stages(&job).remove(0);
    let all = trained_weights(&job, &stage).total();
    job.megatron.tuning = Tuning::Full(Frozen {
        language_model: true,
        vision_model: true,
        vision_projection: false,
    });
    let vision = job.model.vision.expect("multimodal");
    assert_eq!(
        trained_weights(&job, &stage).total(),
        vision_weights(&vision).1.total()
    );
    let of = |job: &Job, name: &str| {
        let stages = job_memory(job, Routing::Balanced).expect("even");
        let term = stages[0].terms.iter().find(|term| term.name == name);
        term.map_or(0, |term| term.bytes.0)
    };
    let targets = ["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"];
    job.megatron.tuning = Tuning::Lora {
        dim: 32,
        targets: targets.map(String::from).to_vec(),
    };
    let adapters = trained_weights(&job, &stage).total();
    assert!(adapters > 0 && adapters < all / 100, "{adapters} of {all}");
    assert_eq!(of(&job, "weights"), 2 * (all + adapters));
    assert_eq!(of(&job, "adam moments"), 8 * adapters);
    assert_eq!(of(&job, "gradients"), 4 * adapters);
}

#[test]
fn state_has_eighteen_bytes_a_parameter_and_is_cut_over_data_parallel() {
    let of = |job: &Job| {
        let stages = job_memory(job, Routing::Balanced).expect("even");
        let state = ["weights", "gradients", "master weights", "adam moments"];
        let terms = stages[0].terms.iter();
        terms
            .filter(|term| state.contains(&term.name))
            .map(|term| term.bytes.0)
            .sum::<u64>()
    };
    let one = job("4b", Degrees::default(), [4096, 1, 32], 1);
    let all = stage_weights(&one, &stages(&one)[0]).total();
    assert_eq!(of(&one), 18 * all);
    let eight = job("4b", Degrees::default(), [4096, 1, 32], 8);
    assert!(of(&eight).abs_diff(6 * all + 12 * all / 8) <= 2);
    let mut whole = eight.clone();
    whole.megatron.optimizer.distributed = false;
    assert_eq!(of(&whole), 18 * all);
}

#[test]
fn recompute_keeps_less_and_full_keeps_least() {
    let total = |recompute: MegatronRecompute| {
        let mut job = sft();
        job.megatron.recompute = recompute;
        let stages = job_memory(&job, Routing::Balanced).expect("even");
        stages.iter().map(|stage| stage.total).max().expect("two")
    };
    let none = total(MegatronRecompute::None);
    let some = total(MegatronRecompute::Selective(vec![
        RecomputePart::MoeActivation,
        RecomputePart::GatedDeltaNorm,
    ]));
    let block = total(MegatronRecompute::Full {
        method: RecomputeMethod::Block,
        num_layers: 10,
    });
    let full = total(MegatronRecompute::Full {
        method: RecomputeMethod::Uniform,
        num_layers: 1,
    });
    assert!(none > some && some > full, "{none} {some} {full}");
    assert!(none > block && block > full, "{none} {block} {full}");
}

#[test]
fn worst_routing_and_plain_losses_hold_more() {
    let mut job = sft();
    let at = |job: &Job, routing| {
        let stages = job_memory(job, routing).expect("even");
        stages.iter().map(|stage| stage.total.0).sum::<u64>()
    };
    assert!(at(&job, Routing::Worst) > at(&job, Routing::Balanced));
    let plain = at(&job, Routing::Balanced);
    job.megatron.cross_entropy = CrossEntropy::TransformerEngine;
    assert!(at(&job, Routing::Balanced) < plain);
}

#[test]
fn earlier_stages_and_interleaving_hold_more_micro_batches() {
    let layers = |pp: usize, vpp: usize| -> Vec<f64> {
        let degrees = Degrees {
            pp,
            vpp,
            ..Degrees::default()
        };
        let job = job("27b", degrees, [4096, 1, 32], pp);
        let stages = job_memory(&job, Routing::Balanced).expect("even");
        let bytes = |e: &trestle::plan::MemoryEstimate| {
            let layers = ["attention layers", "delta net layers"];
            let terms = e.terms.iter().filter(|t| layers.contains(&t.name));
            terms.map(|t| t.bytes.0 as f64).sum()
        };
        stages.iter().map(bytes).collect()
    };
    let plain = layers(4, 1);
    for (stage, bytes) in plain.iter().enumerate() {
        let in_flight = (4 - stage) as f64;
        assert!((bytes / plain[3] - in_flight).abs() < 1e-6, "{plain:?}");
    }
    // 2 * (4 - 0 - 1) + (2 - 1) * 4 + 1 = 11 chunks, each half a stage.
    let interleaved = layers(4, 2);
    assert!((interleaved[0] / plain[3] - 5.5).abs() < 1e-6);
}

#[test]
fn published_runs_have_the_operations_that_were_printed() {
    let run = sft();
    let tflops = tflops_per_gpu(&run, 3.268_14);
    assert!((tflops / 57.690 - 1.0).abs() < 0.01, "{tflops}");
    let gb200 = sft().with_gpus(8);
    let tflops = tflops_per_gpu(&gb200, 9.899_64);
    assert!((tflops / 38.180 - 1.0).abs() < 0.01, "{tflops}");
    let mut long = sft();
    long.batch = BatchShape {
        seq_length: 8192,
        micro_batch_size: 2,
        global_batch_size: 512,
    };
    long.degrees.cp = 2;
    long.degrees.pp = 4;
    let long = long.with_gpus(32);
    let tflops = tflops_per_gpu(&long, 36.847_11);
    assert!((tflops / 84.830 - 1.0).abs() < 0.01, "{tflops}");
    // Without MTP the first would be 48.8.
    let mut plain = sft();
    plain.model.text.mtp_num_hidden_layers = 0;
    let tflops = tflops_per_gpu(&plain, 3.268_14);
    assert!((tflops / 48.8 - 1.0).abs() < 0.01, "{tflops}");
}

#[test]
fn operations_a_token_of_every_size() {
    let table = [
        ("0.8b", 6.628e9),
        ("2b", 1.517e10),
        ("4b", 3.098e10),
        ("9b", 5.639e10),
        ("27b", 1.6739e11),
        ("35b-a3b", 2.2471e10),
        ("122b-a10b", 6.3016e10),
        ("397b-a17b", 1.09349e11),
    ];
    for (name, expected) in table {
        let job = job(name, Degrees::default(), [4096, 1, 1], 1);
        let all: f64 = job_flops(&job).iter().map(|m| m.flops.0).sum();
        assert!((all / 4096.0 / expected - 1.0).abs() < 1e-3, "{name}");
        let token = flops_per_token(&job.model.text, 4096.0).0;
        assert!((all / 4096.0 / token - 1.0).abs() < 1e-12);
    }
}

#[test]
fn huge_sizes_give_huge_numbers_and_no_panic() {
    let mut job = sft();
    job.batch.seq_length = usize::MAX;
    job.batch.micro_batch_size = usize::MAX;
    job.megatron.patches = usize::MAX;
    let stages = job_memory(&job, Routing::Worst).expect("even");
    assert_eq!(stages[0].total.0, u64::MAX);
}
