//! The Layout screen: grid and groups, memory, rules, scratch changes.

use trestle::app::layout::{Pane, plan};
use trestle::app::{Background, Screen};
use trestle::plan::Axis;
use trestle::tui::theme::{Capabilities, Depth};

use super::fixture::Bench;
use super::recipes::select;

const SPREAD: &str = "\
[model]
size = \"9b\"

[parallel]
tp = 2
cp = 2
dp = 2
pp = 2
sequence_parallel = true

[train]
device = \"cuda\"
steps = 10
seq_length = 4096
micro_batch_size = 1
global_batch_size = 16

[data]
packing = \"concat\"
";

/// A bench on the Layout screen of a recipe for 16 ranks.
fn bench(width: u16, height: u16) -> Bench {
    let mut bench = Bench::new(width, height);
    bench.save("spread.toml", SPREAD);
    select(&mut bench, "spread.toml");
    bench.press("3");
    assert_eq!(bench.state.screen, Screen::Layout);
    bench
}

#[test]
fn the_layout_is_shown_at_every_size() {
    for (width, height) in [(40, 10), (80, 24), (120, 36), (200, 60)] {
        let bench = bench(width, height);
        insta::assert_snapshot!(format!("layout_{width}x{height}"), bench.text());
    }
}

#[test]
fn one_rank_on_cpu_is_a_layout_too() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    bench.press("3");
    insta::assert_snapshot!("layout_demo_120x36", bench.text());
}

#[test]
fn ascii_and_no_colour_still_show_the_group() {
    let plain = Capabilities {
        depth: Depth::None,
        ascii: true,
        background: None,
    };
    let bench = bench(120, 36).with(plain, Background::Dark);
    assert!(bench.text().is_ascii());
    insta::assert_snapshot!("layout_120x36_ascii", bench.text());
}

#[test]
fn keys_choose_the_axis_and_move_the_rank() {
    let mut bench = bench(120, 36);
    bench.press("p j l l l");
    assert_eq!(bench.state.layout.axis, Axis::Pp);
    assert_eq!(bench.state.layout.rank, 11);
    let text = bench.text();
    assert!(text.contains("rank 11:"), "{text}");
    assert!(text.contains("pp {3,11}"), "{text}");
    insta::assert_snapshot!("layout_rank_11_120x36", text);
    bench.press("k G");
    assert_eq!(bench.state.layout.rank, 15);
    bench.press("l j");
    assert_eq!(bench.state.layout.rank, 15);
}

#[test]
fn scratch_changes_are_checked_and_forgotten() {
    let mut bench = bench(120, 36);
    bench.press("t + +");
    assert_eq!(plan(&bench.state).unwrap().degrees.tp, 8);
    let broken = |bench: &Bench| -> Vec<String> {
        let rules = plan(&bench.state).unwrap().rules();
        let messages = rules.into_iter().filter_map(|rule| rule.violation);
        messages.map(|violation| violation.message).collect()
    };
    assert!(bench.text().contains("scratch"), "{}", bench.text());
    assert!(
        broken(&bench)
            .iter()
            .any(|message| message.contains("tp = 8 is above num_key_value_heads = 4"))
    );
    bench.press("+ +");
    assert!(bench.text().contains("broken"), "{}", bench.text());
    assert!(broken(&bench)[0].contains("is not divisible by tp = 32"));
    assert!(bench.text().contains("nearest 8"), "{}", bench.text());
    bench.press("r");
    let plan = plan(&bench.state).unwrap();
    assert_eq!((plan.degrees.tp, plan.is_scratch), (2, false));
}

#[test]
fn scratch_changes_belong_to_their_recipe() {
    let mut bench = bench(120, 36);
    bench.press("d +");
    select(&mut bench, "demo.toml");
    bench.press("3");
    assert_eq!(plan(&bench.state).unwrap().degrees.dp, 1);
    select(&mut bench, "spread.toml");
    bench.press("3");
    assert_eq!(plan(&bench.state).unwrap().degrees.dp, 4);
}

#[test]
fn micro_batches_and_virtual_stages_have_their_keys() {
    let mut bench = bench(120, 36);
    bench.press("] ] }");
    let now = plan(&bench.state).unwrap();
    assert_eq!((now.micro_batches(), now.degrees.vpp), (10, 2));
    assert!(
        bench.text().contains("layers 0-7, 16-23"),
        "{}",
        bench.text()
    );
    bench.press("{ {");
    assert!(
        bench
            .state
            .toast
            .as_ref()
            .unwrap()
            .text
            .contains("vpp is 1 already")
    );
}

#[test]
fn a_broken_rule_leads_to_the_problem_in_the_recipe() {
    let mut bench = bench(120, 36);
    bench.press("tab tab");
    assert_eq!(bench.state.layout.focus, Pane::Rules);
    bench.press("enter");
    assert_eq!(bench.state.screen, Screen::Recipes);
    let problem = bench.state.recipes.selected_problem().unwrap();
    assert_eq!(problem.key.as_deref(), Some("parallel.pp"));
}

#[test]
fn every_size_is_drawn_without_panic() {
    for width in 0..90 {
        for height in [0, 1, 5, 6, 7, 9, 12, 16, 24, 30, 31] {
            let mut bench = bench(120, 36);
            bench.press("t + + + + d + + + +");
            for keys in ["p", "tab", "tab", "G"] {
                bench.press(keys);
                bench.send(trestle::app::Message::Resize(trestle::app::Size {
                    width,
                    height,
                }));
                bench.text();
            }
        }
    }
}
