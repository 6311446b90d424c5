//! Layers over pipeline stages, against worked examples and refusals of Megatron's.

use trestle::plan::{Pipeline, PipelineError, Stage};

fn ask(pp: usize, vpp: usize) -> Pipeline {
    Pipeline {
        pp,
        vpp,
        ..Pipeline::default()
    }
}

fn ends(pp: usize, vpp: usize, first: Option<usize>, last: Option<usize>) -> Pipeline {
    Pipeline {
        first,
        last,
        ..ask(pp, vpp)
    }
}

fn spelled(pp: usize, text: &str) -> Pipeline {
    Pipeline {
        layout: Some(text.into()),
        ..ask(pp, 1)
    }
}

/// First layer and number of layers of every chunk of every stage.
fn chunks(stages: &[Stage]) -> Vec<Vec<(usize, usize)>> {
    stages
        .iter()
        .map(|stage| stage.chunks.iter().map(|c| (c.start, c.len())).collect())
        .collect()
}

fn layers(pipeline: &Pipeline, layers: usize) -> Vec<Vec<(usize, usize)>> {
    let stages = pipeline.stages(layers, 1, false).expect("a legal pipeline");
    chunks(&stages)
}

fn refused(pipeline: &Pipeline, layers: usize, mtp: usize) -> (String, Option<String>) {
    let error: PipelineError = pipeline
        .stages(layers, mtp, false)
        .expect_err("this pipeline must be refused");
    (error.to_string(), error.hint())
}

#[test]
fn worked_examples_come_out_layer_by_layer() {
    assert_eq!(layers(&ask(2, 2), 8), [[(0, 2), (4, 2)], [(2, 2), (6, 2)]]);
    assert_eq!(
        layers(&ask(2, 4), 8),
        [
            [(0, 1), (2, 1), (4, 1), (6, 1)],
            [(1, 1), (3, 1), (5, 1), (7, 1)]
        ]
    );
    assert_eq!(
        layers(&ends(4, 1, Some(2), Some(2)), 12),
        [[(0, 2)], [(2, 4)], [(6, 4)], [(10, 2)]]
    );
    assert_eq!(
        layers(&ends(2, 1, Some(17), Some(23)), 40),
        [[(0, 17)], [(17, 23)]]
    );
    assert_eq!(
        layers(&ends(4, 2, Some(2), Some(2)), 16),
        [
            [(0, 1), (8, 1)],
            [(1, 3), (9, 3)],
            [(4, 3), (12, 3)],
            [(7, 1), (15, 1)]
        ]
    );
    // One end alone: the others share the rest.
    assert_eq!(
        layers(&ends(3, 1, Some(2), None), 8),
        [[(0, 2)], [(2, 3)], [(5, 3)]]
    );
    assert_eq!(
        layers(&ends(3, 1, None, Some(2)), 8),
        [[(0, 3)], [(3, 3)], [(6, 2)]]
    );
    assert_eq!(layers(&ends(1, 1, Some(4), None), 4), [[(0, 4)]]);
}

#[test]
fn embedding_and_loss_can_count_as_layers() {
    let counted = |embedding, loss, pp, vpp| Pipeline {
        account_for_embedding: embedding,
        account_for_loss: loss,
        ..ask(pp, vpp)
    };
    assert_eq!(layers(&counted(true, true, 2, 1), 6), [[(0, 3)], [(3, 3)]]);
    assert_eq!(
        layers(&counted(true, true, 4, 1), 10),
        [[(0, 2)], [(2, 3)], [(5, 3)], [(8, 2)]]
    );
    assert_eq!(
        layers(&counted(true, false, 2, 2), 7),
        [[(0, 1), (3, 2)], [(1, 2), (5, 2)]]
    );
    assert_eq!(
        layers(&counted(false, true, 2, 2), 7),
        [[(0, 2), (4, 2)], [(2, 2), (6, 1)]]
    );
}

#[test]
fn every_layer_is_on_one_stage_whatever_is_asked_for() {
    let mut checked = 0;
    for count in 1..=24 {
        for (pp, vpp) in [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (5, 3)] {
            for first in (0..=count).map(|n| (n > 0).then_some(n)) {
                for last in [None, Some(1), Some(2), Some(count / 2)] {
                    let Ok(stages) = ends(pp, vpp, first, last).stages(count, 1, true) else {
                        continue;
                    };
                    checked += 1;
                    assert_eq!(stages.len(), pp);
                    let mut list: Vec<usize> = stages.iter().flat_map(Stage::layers).collect();
                    assert!(stages.iter().all(|s| s.layers().is_sorted()), "{stages:?}");
                    list.sort_unstable();
                    assert_eq!(list, (0..count).collect::<Vec<_>>());
                    let norms = stages.iter().filter(|s| s.final_norm).count();
                    assert_eq!(norms, 1, "{stages:?}");
                }
            }
        }
    }
    assert!(checked > 400, "{checked}");
}

#[test]
fn embedding_norm_head_and_mtp_are_where_megatron_builds_them() {
    let place = |stage: &Stage| {
        (
            stage.embedding,
            stage.final_norm,
            stage.head,
            stage.tied_head,
            stage.mtp,
        )
    };
    let stages = |pipeline: &Pipeline, mtp, tied| -> Vec<_> {
        let stages = pipeline.stages(4, mtp, tied).expect("legal");
        stages.iter().map(place).collect()
    };
    // Tied without MTP: the last stage has the matrix once, as the head.
    assert_eq!(
        stages(&ask(2, 1), 0, true),
        [(true, false, false, false, 0), (false, true, true, true, 0)]
    );
    // Tied with MTP: twice, as embedding and as head.
    assert_eq!(
        stages(&ask(2, 1), 1, true),
        [(true, false, false, false, 0), (true, true, true, true, 1)]
    );
    assert_eq!(
        stages(&ask(2, 1), 2, false),
        [(true, false, false, false, 0), (true, true, true, false, 2)]
    );
    assert_eq!(stages(&ask(1, 1), 1, true), [(true, true, true, false, 1)]);
    // MTP on a stage of its own, loss on another, and the norm with the last layer.
    assert_eq!(
        stages(&spelled(4, "Ett|tt|m|L"), 1, true),
        [
            (true, false, false, false, 0),
            (false, true, false, false, 0),
            (true, false, false, false, 1),
            (false, false, true, true, 0)
        ]
    );
}

#[test]
fn layout_strings_are_read_as_megatron_spells_them() {
    // The example of Megatron's own guide: 61 layers and one MTP depth on 16 stages with two chunks each.
    let stages = spelled(16, "Et*3|(tt|)*29,m|L")
        .stages(61, 1, false)
        .expect("legal");
    assert_eq!(chunks(&stages)[..2], [[(0, 3), (33, 2)], [(3, 2), (35, 2)]]);
    assert_eq!(chunks(&stages)[14], [(29, 2), (61, 0)]);
    assert_eq!((stages[14].mtp, stages[14].embedding), (1, true));
    assert_eq!((stages[13].final_norm, stages[15].head), (true, true));
    assert_eq!(
        layers(&spelled(2, "Ett|t*2|tt|ttmL"), 8),
        layers(&ask(2, 2), 8)
    );
    // Empty chunks are legal, and so is a number of chunks that repeats what the string says.
    assert_eq!(
        layers(&spelled(4, "E||tm|L"), 1),
        [[(0, 0)], [(0, 0)], [(0, 1)], [(1, 0)]]
    );
    let twice = Pipeline {
        vpp: 2,
        ..spelled(2, "Et|t|t|tmL")
    };
    assert_eq!(layers(&twice, 4), [[(0, 1), (2, 1)], [(1, 1), (3, 1)]]);
}

#[test]
fn refusals_give_the_two_numbers_and_the_nearest_legal_ones() {
    let account = Pipeline {
        account_for_embedding: true,
        ..ask(2, 1)
    };
    #[rustfmt::skip]
    let cases = [
        (ask(3, 1), 4, "num_hidden_layers = 4 is not divisible by pp = 3", Some("pp may be 2 or 4")),
        (ask(8, 1), 4, "num_hidden_layers = 4 is not divisible by pp = 8", Some("pp may be 4")),
        (ask(2, 3), 8, "stage 0 has 4 layers, not divisible by vpp = 3", Some("vpp may be 2 or 4")),
        (ask(0, 1), 4, "pp = 0, but a degree is at least 1", None),
        (ask(1, 0), 4, "vpp = 0, but a degree is at least 1", None),
        (account.clone(), 4, "num_hidden_layers = 4 (with embedding and loss counted 5) is not divisible by pp = 2", Some("pp may be 1 or 5")),
        (ends(2, 1, Some(1), Some(1)), 4, "first and last stage are given 2 of num_hidden_layers = 4, but pp = 2 leaves 0 stages for the other 2", Some("without stages between them, first and last must have all 4")),
        (ends(3, 1, Some(2), Some(2)), 4, "first and last stage are given 4 of num_hidden_layers = 4, but pp = 3 leaves 1 stages for the other 0", None),
        (ends(3, 1, Some(9), None), 4, "first and last stage are given 9 of num_hidden_layers = 4, but pp = 3 leaves 2 stages for the other 0", None),
        (ends(1, 1, Some(2), Some(2)), 4, "the first stage is given 2 layers and the last 2, but pp = 1 has one stage for both", None),
        (ends(4, 1, Some(2), Some(3)), 12, "first and last stage are given 5 of num_hidden_layers = 12; the other 7 are not divisible by the 2 stages between", Some("first and last together may be 4 or 6")),
        (ends(4, 2, Some(3), Some(3)), 14, "stage 0 has 3 layers, not divisible by vpp = 2", Some("vpp may be 1 or 3")),
        (ends(2, 1, Some(0), None), 4, "the first stage is given 0 layers, but it needs at least 1", None),
        (Pipeline { first: Some(1), ..account.clone() }, 4, "layers of the first stage and the embedding counted as a layer exclude each other", None),
        (Pipeline { layout: Some("EttttL".into()), ..account }, 4, "a layout string and the embedding counted as a layer exclude each other", None),
        (Pipeline { last: Some(1), ..spelled(1, "EttttL") }, 4, "a layout string and layers of the last stage exclude each other", None),
        (Pipeline { vpp: 2, ..spelled(2, "Ett|ttL") }, 4, "vpp = 2, but the layout has 2 chunks, which on pp = 2 stages are 1 each", None),
        (spelled(2, "Et|t|ttL"), 4, "the layout has 3 chunks, not divisible by pp = 2", Some("pp may be 1 or 3")),
        (spelled(2, "Et|ttL"), 4, "the layout has 3 `t`, but the model has 4 decoder layers", None),
        (spelled(2, "Ett|ttmL"), 4, "the layout has 1 `m`, but the model has 0 MTP depths", None),
        (spelled(2, "tt|ttL"), 4, "the layout has 0 `E`, but the model has 1 embedding", None),
        (spelled(2, "tt|EttL"), 4, "`E` is in chunk 1 of the layout, but it comes first in chunk 0", None),
        (spelled(2, "EttL|tt"), 4, "`L` is in chunk 0 of the layout, but it comes last in chunk 1", None),
        (spelled(1, "Ex"), 4, "layout `Ex`, character 2: `x` is none of E, t, m, L, `|`, `*n`, brackets, comma", None),
        (spelled(1, "E(tt"), 4, "layout `E(tt`, character 2: a `(` without its `)`", None),
        (spelled(1, "Ett)L"), 4, "layout `Ett)L`, character 4: a `)` without its `(`", None),
        (spelled(1, "Et*L"), 4, "layout `Et*L`, character 4: a number follows `*`", None),
        (spelled(1, "*4"), 4, "layout `*4`, character 1: a `*` follows a letter or a bracket", None),
        (spelled(1, "E((((t*999)*999)*999)*999)L"), 4, "layout `E((((t*999)*999)*999)*999)L`, character 16: it unfolds to more than 16384 letters", None),
    ];
    for (pipeline, layers, message, hint) in cases {
        let (found, found_hint) = refused(&pipeline, layers, 0);
        assert_eq!(found, message);
        assert_eq!(found_hint.as_deref(), hint, "{message}");
    }
}

#[test]
fn mtp_is_in_one_chunk_and_not_before_the_last_layer() {
    let (message, _) = refused(&spelled(4, "Ett|tt|m|mL"), 4, 2);
    assert_eq!(
        message,
        "`m` is in chunk 3 of the layout, but chunk 2 has one too, and all depths are together"
    );
    for (text, chunk, layer) in [("Ett|m|tt|L", 1, 2), ("Ett||tmt|L", 2, 2)] {
        let (message, _) = refused(&spelled(4, text), 4, 1);
        assert_eq!(
            message,
            format!(
                "`m` is in chunk {chunk} of the layout, but it follows the last layer, which is in chunk {layer}"
            )
        );
    }
    let deep = format!("{}t{}", "(".repeat(100_000), ")".repeat(100_000));
    let (message, _) = refused(&spelled(1, &deep), 4, 1);
    assert!(message.contains("nested deeper than 16"), "{message}");
}
