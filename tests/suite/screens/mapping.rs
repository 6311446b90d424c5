//! The Mapping screen: both trees, searching them, what is said about a tensor, its shards, files with problems.

mod files;
mod large;

use std::sync::Arc;

use trestle::app::mapping::{
    Content, Effect as Work, Form, Message as Mapping, Model, Origin, Shared,
};
use trestle::app::{Background, Effect, Message};
use trestle::spec::{ExpertStyle, find};
use trestle::tui::theme::{Capabilities, Depth};

use super::fixture::Bench;
use super::recipes::select;

/// A bench on the Mapping screen of the demo recipe.
fn bench(width: u16, height: u16) -> Bench {
    let mut bench = Bench::new(width, height);
    select(&mut bench, "demo.toml");
    bench.press("2");
    bench
}

/// The label of the row under the cursor.
fn label(bench: &Bench) -> String {
    bench.state.mapping.present().unwrap().label
}

/// Labels of all rows.
fn labels(bench: &Bench) -> Vec<String> {
    let screen = &bench.state.mapping;
    (0..screen.len())
        .map(|at| screen.row(at).unwrap().label)
        .collect()
}

/// Gives the bench a model as the outside world would.
fn open(bench: &mut Bench, model: Model) {
    let origin = Origin::Published {
        name: model.name.clone(),
        form: Form::Published,
    };
    bench.state.mapping.opening = Some(origin.clone());
    let opened = Mapping::Opened(origin, Ok(Shared(Arc::new(model))));
    bench.send(Message::Mapping(opened));
}

/// A published size.
fn published(name: &str) -> Model {
    let entry = find(name).unwrap();
    Model::new(entry.display.into(), &entry.model, entry.experts)
}

/// Searches for a name and leaves the tree at it.
fn go_to(bench: &mut Bench, name: &str) {
    bench.press("/");
    bench.send(Message::Paste(name.into()));
    bench.press("enter esc");
}

#[test]
fn the_tree_is_shown_at_every_size() {
    for (width, height) in [(40, 10), (80, 24), (120, 36), (200, 60)] {
        let bench = bench(width, height);
        insta::assert_snapshot!(format!("mapping_{width}x{height}"), bench.text());
    }
}

#[test]
fn ascii_and_no_colour_say_the_same() {
    let plain = Capabilities {
        depth: Depth::None,
        ascii: true,
        background: None,
    };
    let mut bench = bench(120, 36).with(plain, Background::Dark);
    go_to(&mut bench, "layers.3.self_attention.linear_qkv.weight");
    assert!(bench.text().is_ascii());
    insta::assert_snapshot!("mapping_120x36_ascii", bench.text());
}

#[test]
fn equal_layers_are_shown_once_or_each() {
    let mut bench = bench(120, 36);
    assert!(
        labels(&bench).contains(&"1-2".to_owned()),
        "{:?}",
        labels(&bench)
    );
    bench.press("s");
    assert!(!labels(&bench).contains(&"1-2".to_owned()));
    for layer in ["0", "1", "2", "3"] {
        assert!(
            labels(&bench).contains(&layer.to_owned()),
            "{:?}",
            labels(&bench)
        );
    }
    assert!(
        bench.text().contains("3  full attention"),
        "{}",
        bench.text()
    );
}

#[test]
fn equal_layers_open_one_by_one_where_they_are_told() {
    let mut bench = bench(120, 36);
    let at = labels(&bench).iter().position(|l| l == "1-2").unwrap();
    bench.state.mapping.cursor = at;
    bench.press("enter");
    let shown = labels(&bench);
    for layer in ["0", "1", "2", "3"] {
        assert!(shown.contains(&layer.to_owned()), "{layer} of {shown:?}");
    }
    assert_eq!(label(&bench), "1");
    // Twice, and they are together again.
    bench.press("s s");
    assert!(labels(&bench).contains(&"1-2".to_owned()));
    bench.press("G G enter");
    go_to(&mut bench, "enorm");
    bench.press("enter");
    assert_eq!(
        bench.state.mapping.focus,
        trestle::app::mapping::Pane::Detail
    );
}

#[test]
fn every_tensor_is_in_the_tree_exactly_once() {
    let mut bench = bench(120, 36);
    bench.press("s");
    for side in 0..2 {
        let mut at = 0;
        while let Some(row) = bench.state.mapping.row(at) {
            if matches!(row.content, Content::Group { open: false, .. }) {
                bench.state.mapping.cursor = at;
                bench.press("right");
            }
            at += 1;
        }
        let screen = &bench.state.mapping;
        let mut shown: Vec<u32> = (0..screen.len())
            .filter_map(|at| match screen.row(at)?.content {
                Content::Tensor(name) => Some(name),
                _ => None,
            })
            .collect();
        shown.sort_unstable();
        let names = screen.model().unwrap().tree(screen.side).names.len();
        assert_eq!(shown, (0..names as u32).collect::<Vec<_>>(), "side {side}");
        bench.press("tab");
    }
}

#[test]
fn a_search_lists_full_names_and_leaves_the_tree_at_the_tensor() {
    let mut bench = bench(120, 36);
    bench.press("/ m t p space q k v . w enter");
    let name = "mtp.layers.0.mtp_model_layer.self_attention.linear_qkv.weight";
    assert_eq!(label(&bench), name);
    insta::assert_snapshot!("mapping_search_120x36", bench.text());
    assert_eq!(bench.press("Y"), [Effect::Copy(name.into())]);
    bench.press("esc");
    assert_eq!(label(&bench), "linear_qkv.weight");
    let text = bench.text();
    assert!(
        text.contains("transformer_layer"),
        "both spellings:\n{text}"
    );

    // A layer that is collapsed away is found as well.
    go_to(&mut bench, "layers.2.mlp.linear_fc2");
    assert_eq!(label(&bench), "linear_fc2.weight");
    // It is shown by itself, and the others stay together.
    let shown = labels(&bench);
    for row in ["0", "1", "2"] {
        assert!(shown.contains(&row.to_owned()), "{row} of {shown:?}");
    }
    assert!(bench.text().contains("1 same as 0: 1"), "{}", bench.text());
}

#[test]
fn the_other_side_leads_at_the_partner() {
    let mut bench = bench(120, 36);
    go_to(&mut bench, "layers.3.self_attention.linear_qkv.weight");
    bench.press("tab");
    assert_eq!(label(&bench), "q_proj.weight");
    insta::assert_snapshot!("mapping_hf_side_120x36", bench.text());
    bench.press("j tab");
    assert_eq!(label(&bench), "linear_qkv.weight");
}

#[test]
fn arrows_open_close_and_go_to_the_group_around() {
    let mut bench = bench(120, 36);
    bench.press("j j");
    assert_eq!(label(&bench), "layers");
    let before = bench.state.mapping.len();
    bench.press("h");
    assert_eq!(bench.state.mapping.len(), before - 3);
    bench.press("l l");
    assert_eq!(label(&bench), "0");
    bench.press("h");
    assert_eq!(label(&bench), "layers");
    bench.press("h h");
    assert_eq!(label(&bench), "decoder");
}

#[test]
fn rules_are_drawn_for_every_kind() {
    let mut bench = bench(120, 40);
    bench.press("+");
    open(&mut bench, published("35b-a3b"));
    for (name, snapshot) in [
        (
            "decoder.layers.3.self_attention.linear_qkv.weight",
            "gated_qkv",
        ),
        (
            "decoder.layers.0.self_attention.in_proj.weight",
            "gdn_in_proj",
        ),
        ("decoder.layers.0.mlp.experts.linear_fc1.weight7", "expert"),
        (
            "mtp.layers.0.mtp_model_layer.mlp.router.weight",
            "mtp_router",
        ),
        (
            "vision_model.decoder.layers.0.self_attention.linear_qkv.weight",
            "vision_qkv",
        ),
        (
            "decoder.layers.0.self_attention.out_norm.weight",
            "norm_shift",
        ),
    ] {
        go_to(&mut bench, name);
        insta::assert_snapshot!(format!("mapping_{snapshot}_120x40"), bench.text());
    }
}

#[test]
fn a_fused_tensor_of_experts_names_what_it_becomes() {
    let mut bench = bench(120, 36);
    open(&mut bench, published("35b-a3b"));
    bench.press("tab");
    go_to(&mut bench, "layers.0.mlp.experts.gate_up_proj");
    insta::assert_snapshot!("mapping_fused_experts_120x36", bench.text());
}

#[test]
fn the_layout_is_the_recipes_until_it_is_changed() {
    let mut bench = bench(120, 36);
    go_to(&mut bench, "layers.3.mlp.linear_fc1.weight");
    assert!(
        bench
            .text()
            .contains("[tp1] pp1 vpp1 ep1 etp1 of the recipe")
    );
    bench.press("+ a +");
    let text = bench.text();
    assert!(text.contains("tp2 [pp2] vpp1 ep1 etp1 changed"), "{text}");
    assert!(text.contains("tp1-pp1-ep0-etp0"), "{text}");
    // The second rank: right goes to the detail, right again to it.
    bench.press("right right");
    let text = bench.text();
    assert!(
        text.contains("tp1-pp1-ep0-etp0: stage 1 of 2, global ranks 3 of 4"),
        "{text}"
    );
    assert!(
        text.contains("decoder.layers.1.mlp.linear_fc1.weight"),
        "{text}"
    );
    bench.press("#");
    insta::assert_snapshot!("mapping_grid_120x36", bench.text());
    bench.press("# + +");
    assert!(
        bench
            .text()
            .contains("4 layers do not divide into pp * vpp = 8"),
        "{}",
        bench.text()
    );
    bench.press("r");
    assert!(bench.text().contains("tp1 [pp1] vpp1"));
}

#[test]
fn an_element_is_traced_through_all_names() {
    let mut bench = bench(120, 36);
    go_to(&mut bench, "layers.3.self_attention.linear_qkv.weight");
    bench.press("+ t");
    bench.press("backspace backspace backspace backspace backspace");
    bench.send(Message::Paste(
        "model.layers.3.self_attn.k_proj.weight[40,5]".into(),
    ));
    bench.press("enter");
    insta::assert_snapshot!("mapping_trace_120x36", bench.text());
    bench.press("esc t enter");
    assert!(
        bench.text().contains("linear_qkv.weight[0,0]"),
        "{}",
        bench.text()
    );
    bench.press("esc t");
    bench.send(Message::Paste("x".into()));
    bench.press("enter");
    assert!(bench.text().contains("✗"), "{}", bench.text());
}

#[test]
fn the_run_that_train_watches_is_offered_before_runs_was_opened() {
    let mut bench = bench(120, 36);
    bench.state.train.run = Some("/lab/runs/demo-7".into());
    bench.press("o");
    assert!(
        bench.text().contains("demo-7, the latest one"),
        "{}",
        bench.text()
    );
    let effects = bench.press("l");
    let origin = Origin::Path {
        path: "/lab/runs/demo-7".into(),
        config: String::new(),
    };
    assert_eq!(effects, [Effect::Mapping(Work::Open(origin))]);
}

#[test]
fn the_chooser_lists_every_size_and_asks_for_its_class() {
    let mut bench = bench(120, 36);
    bench.press("o");
    insta::assert_snapshot!("mapping_open_120x36", bench.text());
    let text = bench.text();
    for entry in trestle::spec::registry() {
        assert!(text.contains(entry.display), "{}\n{text}", entry.display);
    }
    let last = trestle::spec::registry().len() + 2;
    for _ in 0..last {
        bench.press("down");
    }
    bench.press("enter");
    let entry = trestle::spec::registry().last().unwrap();
    let effects = bench.press("t");
    let origin = Origin::Published {
        name: entry.name.into(),
        form: Form::Text,
    };
    assert_eq!(effects, [Effect::Mapping(Work::Open(origin.clone()))]);
    assert!(bench.text().contains("opening"), "{}", bench.text());
    // An answer to a question that was overtaken is not shown.
    let late = Model::new("late".into(), &entry.text_only(), ExpertStyle::QWEN3_5);
    let other = Origin::Published {
        name: "other".into(),
        form: Form::Text,
    };
    bench.send(Message::Mapping(Mapping::Opened(
        other,
        Ok(Shared(Arc::new(late))),
    )));
    assert!(bench.state.mapping.opened.is_none());
    bench.send(Message::Mapping(Mapping::Opened(
        origin,
        Err("no such thing".into()),
    )));
    assert!(bench.text().contains("no such thing"));
    assert!(bench.state.mapping.opening.is_none());
}

#[test]
fn another_recipe_shows_its_own_model() {
    let mut bench = bench(120, 36);
    let depths = |bench: &Bench| {
        bench
            .state
            .mapping
            .model()
            .unwrap()
            .table
            .config()
            .text
            .mtp_num_hidden_layers
    };
    assert_eq!(depths(&bench), 1);
    bench.press("j j j");
    let at = bench.state.mapping.cursor;
    bench.press("1");
    bench.save(
        "demo.toml",
        &bench.files[0].1.replace("steps = 400", "steps = 401"),
    );
    bench.press("2");
    assert_eq!(bench.state.mapping.cursor, at, "the model is the same");
    bench.press("1");
    select(&mut bench, "mtp2.toml");
    bench.press("2");
    assert_eq!(depths(&bench), 2);
    assert_eq!(bench.state.mapping.cursor, 0);
}

#[test]
fn without_a_recipe_a_model_can_be_opened() {
    let mut bench = Bench::new(80, 24);
    select(&mut bench, "broken.toml");
    bench.press("2");
    assert!(bench.text().contains("o opens a model"), "{}", bench.text());
    bench.press("u # v i t x Y tab");
    bench.press("o");
    assert!(bench.text().contains("Open a model"));
    bench.press("esc");
    open(&mut bench, published("0.8b"));
    assert!(bench.text().contains("Qwen3.5-0.8B"), "{}", bench.text());
}

#[test]
fn the_table_is_exported_to_a_named_file() {
    let mut bench = bench(120, 36);
    bench.press("x");
    assert!(
        bench.text().contains("demo-mapping.csv"),
        "{}",
        bench.text()
    );
    let effects = bench.press("enter");
    let [Effect::Mapping(Work::Export { path, .. })] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(path.to_str(), Some("demo-mapping.csv"));
    bench.press("x end backspace enter");
    assert!(
        bench.text().contains("neither .csv nor .json"),
        "{}",
        bench.text()
    );
}
