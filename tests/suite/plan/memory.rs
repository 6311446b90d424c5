//! Memory terms that can be counted by hand.

use trestle::base::Bytes;
use trestle::plan::{
    Degrees, MemoryEstimate, OptimizerState, Precision, Recompute, RecomputeModule, StepPlan,
    StepShape, Storage, TrainShape, fitting, layer_activations, memory, memory_by_stage, step_plan,
};
use trestle::spec::{LayerKind, TextConfig, find, parameters};

fn model(name: &str) -> TextConfig {
    find(name)
        .and_then(|e| e.dense().cloned())
        .expect("a dense size")
}

fn shape(storage: Storage) -> TrainShape {
    TrainShape {
        seq_length: 4096,
        micro_batch_size: 1,
        micro_batches: 8,
        loss_chunk: 1024,
        recompute: Recompute::None,
        storage,
    }
}

fn term(estimate: &MemoryEstimate, name: &str) -> u64 {
    estimate
        .terms
        .iter()
        .find(|term| term.name == name)
        .map_or(0, |term| term.bytes.0)
}

#[test]
fn the_cpu_trainer_has_sixteen_bytes_a_parameter() {
    let config = model("0.8b");
    let estimate =
        memory(&config, &Degrees::default(), &shape(Storage::LocalF32)).expect("one stage");
    let total = parameters(&config).total;
    assert_eq!(term(&estimate, "weights"), 4 * total);
    assert_eq!(term(&estimate, "gradients"), 4 * total);
    assert_eq!(term(&estimate, "adam moments"), 8 * total);
    assert_eq!(term(&estimate, "logits chunk"), 1024 * 248_320 * 4);
    let sum: Bytes = estimate.terms.iter().map(|term| term.bytes).sum();
    assert_eq!(sum, estimate.total);
}

#[test]
fn mixed_precision_cuts_optimizer_state_over_data_parallel_ranks() {
    let config = model("4b");
    let total = parameters(&config).total;
    let degrees = Degrees {
        dp: 4,
        ..Degrees::default()
    };
    let estimate = memory(&config, &degrees, &shape(Storage::MixedBf16)).expect("one stage");
    assert_eq!(term(&estimate, "weights"), 2 * total);
    assert_eq!(term(&estimate, "gradients"), 4 * total);
    assert_eq!(term(&estimate, "master weights"), total);
    assert_eq!(term(&estimate, "adam moments"), 2 * total);
}

#[test]
fn a_layer_keeps_what_its_backward_reads() {
    // The toy: h 64, F 128, 4 query heads, 2 key-value heads of 16; delta net 2 key heads of 8, 4 value heads of 8, 64 channels.
    let config = model("toy");
    let full = layer_activations(&config, LayerKind::FullAttention, &Recompute::None);
    // Input, two normed inputs, the stream between; query, gate, key, value; rotated query and key; output, lse, gated; three of the MLP.
    assert_eq!(
        full,
        4 * 64 + (2 * 64 + 2 * 32) + (64 + 32) + (2 * 64 + 4) + 3 * 128
    );
    let linear = layer_activations(&config, LayerKind::LinearAttention, &Recompute::None);
    // Channels before and after the convolution, gate, b and a; g and beta, output and its norm; states of 4 heads of 8 x 8 every 64 tokens.
    assert_eq!(linear, 4 * 64 + 2 * 64 + 32 + 8 + 8 + 2 * 32 + 4 + 3 * 128);

    assert_eq!(
        layer_activations(&config, LayerKind::FullAttention, &Recompute::Full),
        64
    );
    let less = Recompute::Selective(vec![RecomputeModule::MlpAct, RecomputeModule::Norm]);
    assert_eq!(
        layer_activations(&config, LayerKind::FullAttention, &less),
        full - 128 - 2 * 64 - 96
    );
}

#[test]
fn recompute_and_cutting_only_ever_save() {
    let config = model("9b");
    let bytes = |degrees: &Degrees, recompute: Recompute| {
        let shape = TrainShape {
            recompute,
            ..shape(Storage::MixedBf16)
        };
        memory(&config, degrees, &shape).expect("it divides").total
    };
    let one = Degrees::default();
    let none = bytes(&one, Recompute::None);
    let selective = bytes(&one, Recompute::Selective(vec![RecomputeModule::CoreAttn]));
    assert!(selective < none);
    assert!(bytes(&one, Recompute::Full) < selective);
    let tp = Degrees { tp: 4, ..one };
    assert!(bytes(&tp, Recompute::None) < none);
    let sp = Degrees {
        sequence_parallel: true,
        ..tp
    };
    assert!(bytes(&sp, Recompute::None) < bytes(&tp, Recompute::None));
    assert!(bytes(&Degrees { cp: 2, ..one }, Recompute::None) < none);
}

#[test]
fn pipeline_stages_hold_every_parameter_once_but_the_copied_embedding() {
    for name in ["9b", "4b"] {
        let config = model(name);
        let degrees = Degrees {
            pp: 4,
            ..Degrees::default()
        };
        let stages =
            memory_by_stage(&config, &degrees, &shape(Storage::MixedBf16)).expect("32 / 4");
        let held: u64 = stages.iter().map(|stage| term(stage, "weights") / 2).sum();
        let count = parameters(&config);
        // MTP needs the embedding on the last stage; a tied head is one more matrix there.
        let copies = if config.tie_word_embeddings { 2 } else { 1 };
        assert_eq!(held, count.total + copies * count.embedding, "{name}");
    }
}

#[test]
fn the_first_stage_keeps_the_most_micro_batches() {
    let config = model("27b");
    let degrees = Degrees {
        pp: 4,
        ..Degrees::default()
    };
    let stages = memory_by_stage(&config, &degrees, &shape(Storage::MixedBf16)).expect("64 / 4");
    let kept: Vec<u64> = stages
        .iter()
        .map(|stage| term(stage, "activations"))
        .collect();
    assert_eq!(kept[0], 4 * kept[3]);
    assert_eq!(kept[1], 3 * kept[3]);
    assert_eq!(term(&stages[0], "logits chunk"), 0);
    assert!(term(&stages[3], "mtp activations") > 0);
}

fn step(config: &TextConfig, micro_batch_size: usize, recompute: Recompute) -> StepPlan {
    let shape = StepShape {
        micro_batch_size,
        seq_length: 4096,
        precision: Precision::Bf16,
        recompute,
        optimizer: OptimizerState::AdamW,
        loss_chunk: 1024,
        keeps_cheap: false,
    };
    step_plan(config, &shape)
}

#[test]
fn the_plan_of_a_gpu_step_can_be_counted_by_hand() {
    let config = model("0.8b");
    let plan = step(&config, 2, Recompute::None);
    let n = 2 * 4096;
    let total = parameters(&config).total;
    assert_eq!(plan.term("weights").0, 2 * total);
    assert_eq!(plan.term("master weights").0, 4 * total);
    assert_eq!(plan.term("gradients").0, 4 * total);
    assert_eq!(plan.term("adam moments").0, 8 * total);
    // h 1024, I 3584, 8 query and 2 key-value heads of 256, 16 + 16 key and 16 value heads of 128: 6144 channels.
    let linear = 2 * (2 * 1024 + (6144 + 2048 + 32) + 2 * 3584) + 2 * 2048;
    let full = 2 * (2 * 1024 + (2 * 2048 + 2 * 512) + 2 * 3584) + 2 * 2048 + 4 * 8;
    assert_eq!(plan.term("delta net layers").0, n * 18 * linear);
    assert_eq!(plan.term("attention layers").0, n * 6 * full);
    assert_eq!(plan.term("mtp activations").0, n * (2 * 2 * 1024 + full));
    assert_eq!(plan.term("logits chunk").0, 1024 * 248_320 * 2);
    assert_eq!(plan.moment, "mtp loss");
    let sum: Bytes = plan.terms.iter().map(|term| term.bytes).sum();
    assert_eq!(sum, plan.total);
    let sorted = plan.largest();
    assert!(sorted.windows(2).all(|two| two[0].bytes >= two[1].bytes));
    assert!(sorted.iter().all(|term| !term.formula.is_empty()));
}

#[test]
fn one_gpu_has_the_plan_of_its_step() {
    let config = model("0.8b");
    let shape = shape(Storage::MixedBf16);
    let estimate = memory(&config, &Degrees::default(), &shape).expect("one stage");
    let plan = step_plan(&config, &shape.one_gpu());
    assert_eq!(estimate.total, plan.total);
    assert_eq!(estimate.terms, plan.terms);
    // 24 GiB is what two sequences may take, 80 GB what the card has.
    assert!(step(&config, 2, Recompute::None).total < Bytes(24 << 30));
    assert!(step(&config, 8, Recompute::None).total < Bytes(79 << 30));
    assert!(step(&model("2b"), 1, Recompute::None).total < Bytes(79 << 30));
}

#[test]
fn recompute_saves_in_a_gpu_step_and_moves_the_fullest_moment() {
    let config = model("0.8b");
    let both = vec![RecomputeModule::CoreAttn, RecomputeModule::GatedDelta];
    let none = step(&config, 8, Recompute::None);
    let selective = step(&config, 8, Recompute::Selective(both));
    let full = step(&config, 8, Recompute::Full);
    assert!(selective.total < none.total);
    assert!(full.total < selective.total);
    let mlp = step(
        &config,
        8,
        Recompute::Selective(vec![RecomputeModule::MlpAct]),
    );
    let gate_up = 8 * 4096 * 2 * 2 * 3584;
    assert_eq!(
        mlp.term("attention layers").0,
        none.term("attention layers").0 - 6 * gate_up
    );
    // With whole layers made again, the backward of one layer weighs as much as all that is kept.
    assert!(full.moment.contains("backward"), "{}", full.moment);
    assert!(full.term("layer backward").0 > 0);
    let f32 = StepShape {
        precision: Precision::F32,
        ..shape(Storage::MixedBf16).one_gpu()
    };
    let f32 = step_plan(&config, &f32);
    assert_eq!(f32.term("master weights"), Bytes(0));
    assert_eq!(f32.term("weights").0, 4 * parameters(&config).total);
}

#[test]
fn what_fits_is_the_largest_that_does() {
    let config = model("0.8b");
    let shape = shape(Storage::MixedBf16).one_gpu();
    let free = Bytes(40 << 30);
    let fits = fitting(&config, &shape, free);
    assert_eq!(fits.len(), 3);
    for fit in &fits {
        let size = fit.micro_batch_size.expect("one sequence fits 40 GiB");
        assert!(fit.total <= free);
        let total = |size| step(&config, size, fit.recompute.clone()).total;
        assert_eq!(total(size), fit.total);
        assert!(total(size + 1) > free);
    }
    assert!(fits[0].micro_batch_size < fits[2].micro_batch_size);
    for fit in fitting(&config, &shape, Bytes(1 << 30)) {
        assert_eq!(fit.micro_batch_size, None);
        assert!(fit.total > Bytes(1 << 30));
    }
}

/// The shape that `tests/device/shapes.py` calls `name`; none for what is no published size.
fn measured_shape(name: &str) -> Option<(TextConfig, StepShape)> {
    use RecomputeModule::{CoreAttn, GatedDelta, MlpAct, Norm};
    let mut parts = name.split('-');
    let size = parts.next().filter(|size| *size != "demo")?;
    let (rows, tokens) = parts.next()?.split_once('x')?;
    let variant = parts.next().unwrap_or_default();
    let mut config = model(size);
    if let Some(depths) = variant.strip_prefix("mtp") {
        config.mtp_num_hidden_layers = depths.parse().unwrap();
    }
    let shape = StepShape {
        micro_batch_size: match variant {
            "accumulated" => 1,
            _ => rows.parse().unwrap(),
        },
        seq_length: tokens.parse().unwrap(),
        precision: Precision::Bf16,
        recompute: match variant {
            "full" => Recompute::Full,
            "mlp" => Recompute::Selective(vec![MlpAct]),
            "selective" => Recompute::Selective(vec![CoreAttn, GatedDelta, MlpAct, Norm]),
            _ => Recompute::None,
        },
        optimizer: OptimizerState::AdamW,
        loss_chunk: if size == "2b" { 1024 } else { 2048 },
        keeps_cheap: false,
    };
    Some((config, shape))
}

#[test]
fn plans_are_what_was_measured_on_an_h100() {
    let text = include_str!("../../bench/results/memory-plan.json");
    let results: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut checked = 0;
    for (name, found) in results["shapes"].as_object().unwrap() {
        let Some((config, shape)) = measured_shape(name) else {
            continue;
        };
        let plan = step_plan(&config, &shape);
        for (what, planned) in [("process", plan.total), ("tensor", plan.allocated())] {
            let measured = &found[format!("{what}_bytes")]["measured"];
            let ratio = planned.0 as f64 / measured.as_f64().unwrap();
            assert!((ratio - 1.0).abs() < 0.05, "{name} {what}: {ratio}");
        }
        checked += 1;
    }
    assert!(checked >= 12, "{checked} shapes");
}
