//! Each rule on a layout that breaks it.

use trestle::base::Severity;
use trestle::plan::{BatchShape, Degrees, Violation, check, rules};
use trestle::spec::{TextConfig, find};

const BATCH: BatchShape = BatchShape {
    seq_length: 4096,
    micro_batch_size: 1,
    global_batch_size: 64,
};

fn model(name: &str) -> TextConfig {
    find(name)
        .and_then(|e| e.dense().cloned())
        .expect("a dense size")
}

/// The violation of a rule, which must be there.
fn broken(name: &str, degrees: Degrees, batch: BatchShape, rule: &str) -> Violation {
    let list = check(&model(name), &degrees, &batch);
    list.iter()
        .find(|violation| violation.rule == rule)
        .unwrap_or_else(|| panic!("{rule} holds; broken are {list:?}"))
        .clone()
}

#[test]
fn one_rank_breaks_nothing() {
    for name in ["toy", "0.8b", "9b", "27b"] {
        let batch = BatchShape {
            seq_length: 256,
            ..BATCH
        };
        assert_eq!(
            check(&model(name), &Degrees::default(), &batch),
            [],
            "{name}"
        );
    }
}

#[test]
fn a_published_layout_has_warnings_only() {
    let degrees = Degrees {
        tp: 4,
        pp: 4,
        dp: 2,
        sequence_parallel: true,
        ..Degrees::default()
    };
    let list = check(&model("27b"), &degrees, &BATCH);
    assert!(
        list.iter().all(|v| v.severity == Severity::Warning),
        "{list:?}"
    );
    assert_eq!(list[0].rule, "mtp-on-last-stage");
}

#[test]
fn errors_name_two_numbers_and_the_nearest_legal_values() {
    let tp = |tp| Degrees {
        tp,
        ..Degrees::default()
    };
    let v = broken("9b", tp(3), BATCH, "heads-by-tp");
    assert_eq!(
        v.message,
        "num_attention_heads = 16 is not divisible by tp = 3"
    );
    assert_eq!(v.nearest, ["2", "4"]);
    assert_eq!(v.key, "parallel.tp");

    let v = broken("27b", tp(3), BATCH, "kv-heads-by-tp");
    assert_eq!(
        v.message,
        "num_key_value_heads = 4 and tp = 3: one must be a multiple of the other"
    );
    assert_eq!(v.severity, Severity::Error);

    let v = broken("9b", tp(8), BATCH, "kv-heads-by-tp");
    assert_eq!(v.severity, Severity::Warning);
    assert!(v.message.contains("tp = 8") && v.message.contains("num_key_value_heads = 4"));

    let cp = Degrees {
        tp: 4,
        cp: 8,
        ..Degrees::default()
    };
    let v = broken("9b", cp, BATCH, "linear-key-heads");
    assert_eq!(
        v.message,
        "linear_num_key_heads = 16 is not divisible by tp * cp = 32"
    );
    assert_eq!((v.key, v.nearest[0].as_str()), ("parallel.cp", "4"));

    let batch = BatchShape {
        seq_length: 1001,
        ..BATCH
    };
    let two = Degrees {
        cp: 2,
        ..Degrees::default()
    };
    let v = broken("9b", two, batch, "seq-by-cp");
    assert_eq!(
        v.message,
        "seq_length = 1001 is not divisible by 2 * cp = 4"
    );
    assert_eq!(v.nearest, ["1000", "1004"]);
}

#[test]
fn sequence_parallel_needs_tensor_parallel_and_a_length_that_divides() {
    let degrees = Degrees {
        sequence_parallel: true,
        ..Degrees::default()
    };
    let v = broken("9b", degrees, BATCH, "sequence-parallel");
    assert_eq!(
        (v.key, v.nearest),
        ("parallel.sequence_parallel", vec!["false".to_owned()])
    );

    let degrees = Degrees { tp: 4, ..degrees };
    let batch = BatchShape {
        seq_length: 1002,
        ..BATCH
    };
    let v = broken("9b", degrees, batch, "seq-by-tp");
    assert_eq!(v.nearest, ["1000", "1004"]);
}

#[test]
fn pipelines_divide_layers_and_micro_batches() {
    let degrees = Degrees {
        pp: 5,
        ..Degrees::default()
    };
    let v = broken("9b", degrees, BATCH, "layers-by-pp");
    assert_eq!(
        v.message,
        "num_hidden_layers = 32 is not divisible by pp = 5"
    );
    assert_eq!(v.nearest, ["4", "8"]);

    let v = broken(
        "9b",
        Degrees {
            vpp: 2,
            ..Degrees::default()
        },
        BATCH,
        "vpp-needs-pp",
    );
    assert_eq!(v.key, "parallel.vpp");

    let degrees = Degrees {
        pp: 4,
        vpp: 3,
        ..Degrees::default()
    };
    let v = broken("9b", degrees, BATCH, "layers-by-vpp");
    assert_eq!(
        v.message,
        "layers of a stage = 8 is not divisible by vpp = 3"
    );
    assert_eq!(v.nearest, ["2", "4"]);

    let degrees = Degrees {
        pp: 4,
        vpp: 2,
        ..Degrees::default()
    };
    let batch = BatchShape {
        global_batch_size: 6,
        ..BATCH
    };
    let v = broken("9b", degrees, batch, "micro-batches-by-pp");
    assert_eq!(v.nearest, ["4", "8"]);

    let batch = BatchShape {
        global_batch_size: 2,
        ..BATCH
    };
    let v = broken(
        "9b",
        Degrees { vpp: 1, ..degrees },
        batch,
        "micro-batches-fill-pipeline",
    );
    assert_eq!(v.severity, Severity::Warning);
    assert!(v.message.contains("60 %"), "{}", v.message);
}

#[test]
fn batches_divide_over_data_parallel_ranks() {
    let degrees = Degrees {
        dp: 4,
        ..Degrees::default()
    };
    let batch = BatchShape {
        micro_batch_size: 4,
        global_batch_size: 62,
        ..BATCH
    };
    let v = broken("0.8b", degrees, batch, "global-batch");
    assert_eq!(
        v.message,
        "global_batch_size = 62 is not divisible by micro_batch_size * dp = 16"
    );
    assert_eq!(v.nearest, ["48", "64"]);
    let v = broken(
        "0.8b",
        degrees,
        BatchShape {
            global_batch_size: 3,
            ..batch
        },
        "global-batch",
    );
    assert_eq!(v.nearest, ["16"]);
}

#[test]
fn a_dense_model_has_no_experts_to_spread() {
    let v = broken(
        "9b",
        Degrees {
            ep: 2,
            dp: 2,
            ..Degrees::default()
        },
        BATCH,
        "no-experts",
    );
    assert_eq!(v.message, "ep = 2, but a dense model has 0 experts");
}

#[test]
fn a_size_out_of_range_is_the_only_thing_said() {
    let huge = BatchShape {
        global_batch_size: usize::MAX,
        micro_batch_size: usize::MAX,
        ..BATCH
    };
    let list = check(&model("9b"), &Degrees::default(), &huge);
    assert_eq!(list.len(), 2);
    assert_eq!(list[1].nearest, ["1073741824"]);
    let list = check(
        &model("9b"),
        &Degrees {
            tp: 0,
            ..Degrees::default()
        },
        &BATCH,
    );
    assert_eq!(list.len(), 1);
    assert_eq!(
        list[0].message,
        "parallel.tp = 0, but it must be at least 1"
    );
}

#[test]
fn rules_that_hold_are_listed_too() {
    let statements: Vec<String> = rules(&model("0.8b"), &Degrees::default(), &BATCH)
        .into_iter()
        .map(|rule| rule.statement)
        .collect();
    assert_eq!(statements[0], "world 1 = tp 1 * cp 1 * dp 1 * pp 1");
    assert!(statements.contains(&"num_attention_heads 8 % tp 1".to_owned()));
    assert!(statements.contains(&"global_batch_size 64 % micro_batch_size * dp 1".to_owned()));
}
