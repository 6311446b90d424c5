//! Memory terms that can be counted by hand.

use trestle::base::Bytes;
use trestle::plan::{
    Degrees, MemoryEstimate, Recompute, RecomputeModule, Storage, TrainShape, layer_activations,
    memory, memory_by_stage,
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
