//! Every layout that a toy can have: each element on one rank beside its copies, each name once a rank.

use std::collections::HashSet;

use trestle::mapping::{Layout, LayoutOptions, Spelling, Table, View};
use trestle::plan::Pipeline;
use trestle::spec::{ModelConfig, find};

use super::registry::uses_each_element_once;

/// Pipelines of four layers and one MTP depth.
fn pipelines() -> Vec<Pipeline> {
    let even = |pp, vpp| Pipeline {
        pp,
        vpp,
        ..Pipeline::default()
    };
    let ends = |pp, first, last| Pipeline {
        first,
        last,
        ..even(pp, 1)
    };
    let spelled = |pp, text: &str| Pipeline {
        layout: Some(text.into()),
        ..even(pp, 1)
    };
    vec![
        even(1, 1),
        even(2, 1),
        even(2, 2),
        even(4, 1),
        ends(2, Some(1), Some(3)),
        ends(3, Some(1), Some(1)),
        ends(3, None, Some(2)),
        spelled(4, "Ett|tt|m|L"),
        spelled(3, "E|t|t|t|tm|L"),
    ]
}

fn check(config: &ModelConfig, pipeline: &Pipeline, options: &LayoutOptions) {
    let entry = find("toy-moe").unwrap();
    let table = Table::new(config, entry.experts);
    let text = &config.text;
    let stages = pipeline
        .stages(
            text.num_hidden_layers,
            text.mtp_num_hidden_layers,
            text.tie_word_embeddings,
        )
        .unwrap();
    let layout = Layout::new(config, options, stages).unwrap();
    let view = View::shards(&table, &layout);
    uses_each_element_once(&table, &view, &format!("{pipeline:?} {options:?}"));
    let mut names = HashSet::new();
    for tensor in &view.tensors {
        assert!(
            names.insert((tensor.rank, &tensor.name)),
            "rank {} has {} twice: {pipeline:?}",
            tensor.rank,
            tensor.name
        );
    }
    // A tied head of another stage than the first repeats the embedding there, and nowhere else.
    let heads = view
        .tensors
        .iter()
        .filter(|t| t.name.ends_with("output_layer.weight"))
        .count();
    let expected = if text.tie_word_embeddings && pipeline.pp == 1 {
        0
    } else {
        layout.coordinates().len() / pipeline.pp
    };
    assert_eq!(heads, expected, "{pipeline:?} {options:?}");
}

#[test]
fn every_layout_of_a_dense_toy_has_each_element_once_beside_its_copies() {
    for tied in [false, true] {
        let mut config = find("toy").unwrap().model.clone();
        config.text.tie_word_embeddings = tied;
        for pipeline in pipelines() {
            for tp in [1, 2] {
                let options = LayoutOptions {
                    tp,
                    ..LayoutOptions::default()
                };
                check(&config, &pipeline, &options);
            }
        }
    }
}

#[test]
fn every_layout_of_a_toy_with_experts_has_each_element_once_beside_its_copies() {
    let config = &find("toy-moe").unwrap().model;
    for pipeline in pipelines() {
        for (tp, ep, etp) in [
            (1, 1, 1),
            (1, 8, 1),
            (2, 1, 1),
            (2, 2, 1),
            (2, 4, 2),
            (1, 2, 4),
            (2, 1, 8),
        ] {
            for sequential_experts in [false, true] {
                let options = LayoutOptions {
                    tp,
                    ep,
                    etp,
                    sequential_experts,
                    spelling: Spelling::TransformerLayer,
                    ..LayoutOptions::default()
                };
                check(config, &pipeline, &options);
            }
        }
    }
}
