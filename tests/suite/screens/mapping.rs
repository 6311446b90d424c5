//! The Mapping screen: the tree, searching it, what it says about a row.

use trestle::app::mapping::{Content, model, rows};
use trestle::app::{Background, Effect};
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
    let model = model(&bench.state).unwrap();
    let rows = rows(&model, &bench.state.mapping);
    rows[bench.state.mapping.cursor].label.clone()
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
    let bench = bench(80, 24).with(plain, Background::Dark);
    assert!(bench.text().is_ascii());
    insta::assert_snapshot!("mapping_80x24_ascii", bench.text());
}

#[test]
fn equal_layers_are_shown_once_or_each() {
    let mut bench = bench(120, 36);
    let same = |bench: &Bench| {
        let model = model(&bench.state).unwrap();
        rows(&model, &bench.state.mapping)
            .into_iter()
            .filter_map(|row| match row.content {
                Content::Same { count, list, .. } => Some((count, list)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(same(&bench), []);
    // Open "gated delta net x 3": layer 0 and the two that equal it.
    bench.press("j j j right");
    assert_eq!(same(&bench), [(2, "1-2".to_owned())]);
    insta::assert_snapshot!("mapping_open_120x36", bench.text());
    bench.press("s");
    assert_eq!(same(&bench), []);
    assert!(
        bench.text().contains("3 full attention"),
        "{}",
        bench.text()
    );
}

#[test]
fn every_tensor_is_in_the_tree_exactly_once() {
    let mut bench = bench(120, 36);
    bench.press("s");
    for _ in 0..6 {
        let model = model(&bench.state).unwrap();
        let closed: Vec<String> = rows(&model, &bench.state.mapping)
            .into_iter()
            .filter(|row| matches!(row.content, Content::Group { open: false, .. }))
            .map(|row| row.key)
            .collect();
        bench.state.mapping.open.extend(closed);
    }
    let model = model(&bench.state).unwrap();
    let mut shown: Vec<usize> = rows(&model, &bench.state.mapping)
        .into_iter()
        .filter_map(|row| match row.content {
            Content::Tensor(index) => Some(index),
            _ => None,
        })
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, (0..model.tensors.len()).collect::<Vec<_>>());
}

#[test]
fn a_search_lists_full_names_and_leaves_the_tree_at_the_tensor() {
    let mut bench = bench(120, 36);
    bench.press("/ m t p space q _ p r o j enter");
    assert_eq!(label(&bench), "mtp.layers.0.self_attn.q_proj.weight");
    insta::assert_snapshot!("mapping_search_120x36", bench.text());
    let copied = bench.press("Y");
    assert_eq!(
        copied,
        [Effect::Copy("mtp.layers.0.self_attn.q_proj.weight".into())]
    );
    bench.press("esc");
    assert_eq!(label(&bench), "q_proj.weight");
    assert!(bench.text().contains("depth 1, published name"));

    // A layer that is collapsed away is found as well.
    bench.press("/ l a y e r s . 2 . m l p . u p enter esc");
    assert_eq!(label(&bench), "up_proj.weight");
    assert!(!bench.state.mapping.collapsed);
}

#[test]
fn arrows_open_close_and_go_to_the_group_around() {
    let mut bench = bench(120, 36);
    bench.press("j j");
    assert_eq!(label(&bench), "layers");
    let count = |bench: &Bench| rows(&model(&bench.state).unwrap(), &bench.state.mapping).len();
    let before = count(&bench);
    bench.press("h");
    assert_eq!(count(&bench), before - 2);
    bench.press("l l");
    assert_eq!(label(&bench), "gated delta net x 3");
    bench.press("h");
    assert_eq!(label(&bench), "layers");
}

#[test]
fn what_megatron_needs_says_that_it_is_not_here() {
    let mut bench = bench(80, 24);
    bench.press("#");
    let toast = bench.state.toast.as_ref().unwrap();
    assert!(toast.text.contains("not in this version"), "{}", toast.text);
}
