//! Layers of pipeline stages, against worked examples of Megatron's.

use trestle::plan::{Degrees, stages};
use trestle::spec::{TextConfig, find, layer_pattern};

fn model(layers: usize) -> TextConfig {
    TextConfig {
        num_hidden_layers: layers,
        layer_types: layer_pattern(layers, 4),
        ..find("toy")
            .and_then(|e| e.dense().cloned())
            .expect("the toy")
    }
}

fn layers(count: usize, pp: usize, vpp: usize) -> Vec<Vec<Vec<usize>>> {
    let degrees = Degrees {
        pp,
        vpp,
        ..Degrees::default()
    };
    stages(&model(count), &degrees)
        .expect("they divide")
        .into_iter()
        .map(|stage| stage.chunks.into_iter().map(Iterator::collect).collect())
        .collect()
}

#[test]
fn virtual_stages_take_turns() {
    assert_eq!(
        layers(8, 2, 2),
        [[vec![0, 1], vec![4, 5]], [vec![2, 3], vec![6, 7]]]
    );
    assert_eq!(
        layers(8, 2, 4),
        [
            [vec![0], vec![2], vec![4], vec![6]],
            [vec![1], vec![3], vec![5], vec![7]]
        ]
    );
    assert_eq!(layers(4, 1, 1), [[vec![0, 1, 2, 3]]]);
}

#[test]
fn mtp_and_head_are_on_the_last_stage_with_a_copy_of_the_embedding() {
    let degrees = Degrees {
        pp: 4,
        ..Degrees::default()
    };
    let list = stages(&model(8), &degrees).expect("they divide");
    let mtp: Vec<usize> = list.iter().map(|stage| stage.mtp).collect();
    let head: Vec<bool> = list.iter().map(|stage| stage.head).collect();
    let embedding: Vec<bool> = list.iter().map(|stage| stage.embedding).collect();
    assert_eq!(mtp, [0, 0, 0, 1]);
    assert_eq!(head, [false, false, false, true]);
    assert_eq!(embedding, [true, false, false, true]);

    let without = TextConfig {
        mtp_num_hidden_layers: 0,
        tie_word_embeddings: false,
        ..model(8)
    };
    let list = stages(&without, &degrees).expect("they divide");
    assert!(!list[3].embedding);
}

#[test]
fn layers_that_do_not_divide_have_no_stages() {
    let degrees = Degrees {
        pp: 3,
        ..Degrees::default()
    };
    assert_eq!(stages(&model(8), &degrees), None);
    assert_eq!(stages(&model(8), &Degrees { pp: 0, ..degrees }), None);
}
