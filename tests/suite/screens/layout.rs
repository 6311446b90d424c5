//! The Layout screen: grid and groups, timeline, traffic, memory, problems, changes, comparison, search, writing, export.

use std::path::Path;

use proptest::prelude::*;
use trestle::app::layout::{Changes, Effect as Work, Knob, Message as Layout, Pane, View, errors};
use trestle::app::recipes::Message as Recipes;
use trestle::app::{Background, Effect, Message, Screen, Size};
use trestle::plan::{Axis, MegatronRecompute, fit};
use trestle::recipe::{self, Value};
use trestle::tui::theme::{Capabilities, Depth};

use super::fixture::{Bench, FOLDER};
use super::recipes::select;

const SPREAD: &str = "\
# Sixteen ranks.
[model]
size = \"9b\"

[parallel]
tp = 2 # two halves
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
per_token_loss = true

[data]
packing = \"concat\"
";

const BRIDGE: &str = "\
# A large model on a cluster.
[model]
size = \"397b-a17b\"

[parallel]
tp = 2
pp = 4
ep = 32
sequence_parallel = true

[train]
seq_length = 4096
micro_batch_size = 1
global_batch_size = 1024

[megatron]
recipe = \"large\" # upstream's
hardware = \"GB200\"
gpus = 512

[megatron.model]
recompute_granularity = \"full\"
recompute_method = \"uniform\"
recompute_num_layers = 1
";

/// A bench on the Layout screen of a recipe.
fn bench_of(name: &str, text: &str, width: u16, height: u16) -> Bench {
    let mut bench = Bench::new(width, height);
    bench.save(name, text);
    select(&mut bench, name);
    bench.press("3");
    assert_eq!(bench.state.screen, Screen::Layout);
    bench
}

/// A recipe of our own for 16 ranks.
fn bench(width: u16, height: u16) -> Bench {
    bench_of("spread.toml", SPREAD, width, height)
}

/// A recipe for Megatron-Bridge on 512 GPUs.
fn bridge(width: u16, height: u16) -> Bench {
    bench_of("large.toml", BRIDGE, width, height)
}

fn view(bench: &Bench) -> &View {
    bench
        .state
        .layout
        .view
        .as_deref()
        .expect("a recipe is shown")
}

fn toast(bench: &Bench) -> &str {
    bench.state.toast.as_ref().map_or("", |toast| &toast.text)
}

/// The changes that a key asks to be written.
fn written(effects: Vec<Effect>) -> (String, Changes) {
    let [
        Effect::Layout(Work::Write {
            expected, changes, ..
        }),
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    (expected.clone(), changes.clone())
}

/// What the file would say after the changes.
fn edited(text: &str, changes: &Changes) -> String {
    let list: Vec<(&str, Option<Value>)> = changes
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    recipe::edit(text, &list).unwrap()
}

/// Types a value into the dialog of `#`.
fn type_value(bench: &mut Bench, value: &str) {
    bench.press("#");
    for _ in 0..24 {
        bench.press("backspace");
    }
    for c in value.chars() {
        bench.press(&c.to_string());
    }
    bench.press("enter");
}

#[test]
fn the_layout_is_shown_at_every_size() {
    for (width, height) in [(40, 10), (80, 24), (120, 36), (200, 60)] {
        let bench = bench(width, height);
        insta::assert_snapshot!(format!("layout_{width}x{height}"), bench.text());
    }
}

#[test]
fn a_recipe_for_megatron_is_shown_with_its_gpus_and_machine() {
    for (width, height) in [(120, 36), (200, 60)] {
        let bench = bridge(width, height);
        let view = view(&bench);
        assert_eq!((view.job.gpus, view.machine.name.as_str()), (512, "gb200"));
        assert_eq!(view.job.degrees.dp, 64);
        insta::assert_snapshot!(format!("layout_bridge_{width}x{height}"), bench.text());
    }
}

#[test]
fn every_pane_has_the_whole_screen_where_it_is_small() {
    let mut bench = bridge(50, 14);
    let mut text = String::new();
    for _ in Pane::ALL {
        text += &bench.text();
        bench.press("tab");
    }
    insta::assert_snapshot!("layout_panes_50x14", text);
}

#[test]
fn one_rank_on_cpu_is_a_layout_too() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    bench.press("3");
    assert!(view(&bench).is_ours);
    insta::assert_snapshot!("layout_demo_120x36", bench.text());
}

#[test]
fn one_rank_holds_what_the_preview_of_the_recipe_says() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    bench.press("3");
    let good = bench.state.selected_recipe().unwrap();
    let total = view(&bench).fullest().unwrap().total;
    assert_eq!(Some(total), good.preview.total_memory());
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
    bench.press("h h");
    assert_eq!(bench.state.layout.rank, 13);
}

#[test]
fn a_change_moves_everything_and_is_forgotten() {
    let mut bench = bench(120, 36);
    let before = view(&bench).figures.clone();
    bench.press("t + +");
    assert_eq!(view(&bench).job.degrees.tp, 8);
    assert!(bench.text().contains("scratch"), "{}", bench.text());
    let codes: Vec<_> = view(&bench).problems.iter().map(|p| p.code).collect();
    assert!(codes.contains(&"kv-heads-by-tp"), "{codes:?}");
    assert_ne!(view(&bench).figures, before);
    bench.press("+ +");
    assert!(bench.text().contains("broken"), "{}", bench.text());
    let problem = view(&bench).problems[0].clone();
    assert!(problem.message.contains("is not divisible by tp = 32"));
    assert!(!problem.fixes.is_empty());
    bench.press("r");
    assert_eq!(view(&bench).job.degrees.tp, 2);
    assert!(!view(&bench).is_scratch);
    assert_eq!(view(&bench).figures, before);
}

#[test]
fn every_knob_changes_its_number_and_nothing_overflows() {
    for text in [SPREAD, BRIDGE] {
        for knob in Knob::ALL {
            let mut bench = bench_of("any.toml", text, 120, 36);
            while bench.state.layout.knob != knob {
                bench.press("a");
            }
            let before = view(&bench).job.clone();
            let machine = view(&bench).machine;
            for _ in 0..3 {
                bench.press("+");
            }
            let after = view(&bench);
            match knob {
                Knob::Machine => assert_eq!(after.machine, machine, "there are three"),
                Knob::SequenceParallel => assert!(after.job.degrees.sequence_parallel),
                _ => assert_eq!(knob.value(&after.job), knob.value(&before).map(|n| 8 * n)),
            }
            for _ in 0..20 {
                bench.press("+");
            }
            bench.text();
            assert!(knob.value(&view(&bench).job) <= knob.most());
            for _ in 0..20 {
                bench.press("-");
            }
            bench.text();
            assert_ne!(knob.value(&view(&bench).job), Some(0));
        }
    }
}

#[test]
fn data_parallelism_follows_from_gpus_where_they_are_given() {
    let mut own = bench(120, 36);
    own.press("t +");
    let d = view(&own).job.degrees;
    assert_eq!((d.tp, d.dp, view(&own).job.gpus), (4, 2, 32));
    let mut bench = bridge(120, 36);
    bench.press("t +");
    let d = view(&bench).job.degrees;
    assert_eq!((d.tp, d.dp, view(&bench).job.gpus), (4, 32, 512));
    bench.press("w +");
    let d = view(&bench).job.degrees;
    assert_eq!((d.tp, d.dp, view(&bench).job.gpus), (4, 64, 1024));
    bench.press("d -");
    assert_eq!(view(&bench).job.gpus, 512);
}

#[test]
fn zero_and_huge_values_are_problems_and_no_panic() {
    for text in [SPREAD, BRIDGE] {
        for knob in Knob::ALL {
            let Some(most) = knob.most() else {
                continue;
            };
            let mut bench = bench_of("any.toml", text, 120, 36);
            while bench.state.layout.knob != knob {
                bench.press("a");
            }
            type_value(&mut bench, "0");
            let shown = view(&bench);
            assert!(shown.errors() > 0, "{knob} = 0");
            assert!(
                shown.problems.iter().any(|p| p.code == "range"),
                "{knob} = 0"
            );
            bench.text();
            type_value(&mut bench, &most.to_string());
            assert_eq!(knob.value(&view(&bench).job), Some(most));
            for keys in ["G", "l", "tab", "tab", "tab", "tab", "tab", "tab", "G"] {
                bench.press(keys);
                bench.text();
            }
            type_value(&mut bench, "99999999999999999999999");
            assert!(bench.text().contains("whole number"), "{}", bench.text());
            bench.press("esc");
            type_value(&mut bench, &(most + 1).to_string());
            assert!(
                bench.text().contains(&format!("to {most}")),
                "{}",
                bench.text()
            );
        }
    }
}

#[test]
fn a_recipe_with_absurd_ranks_says_so() {
    let text = BRIDGE.replace("gpus = 512", "gpus = 16777216");
    let shown = bench_of("absurd.toml", &text, 120, 36).text();
    assert!(
        shown.contains("parallel.dp = 2097152, but it must be at most"),
        "{shown}"
    );
    let text = BRIDGE.replace("gpus = 512", "gpus = 262144");
    let shown = bench_of("absurd.toml", &text, 120, 36).text();
    assert!(
        shown.contains("262144 ranks are too many to be drawn"),
        "{shown}"
    );
}

#[test]
fn scratch_changes_belong_to_their_recipe_and_survive_its_edits() {
    let mut bench = bench(120, 36);
    bench.press("d +");
    select(&mut bench, "demo.toml");
    bench.press("3");
    assert_eq!(view(&bench).job.degrees.dp, 1);
    select(&mut bench, "spread.toml");
    bench.press("3");
    assert_eq!(view(&bench).job.degrees.dp, 4);
    // Another editor changes another value.
    bench.save("spread.toml", &SPREAD.replace("cp = 2", "cp = 4"));
    let d = view(&bench).job.degrees;
    assert_eq!((d.cp, d.dp), (4, 4));
    bench.press("r");
    let d = view(&bench).job.degrees;
    assert_eq!((d.cp, d.dp), (4, 2));
}

#[test]
fn micro_batches_stages_recompute_schedule_and_order_have_their_keys() {
    let mut bench = bench(120, 36);
    bench.press("] ] }");
    let job = &view(&bench).job;
    assert_eq!((job.micro_batches(), job.degrees.vpp), (Some(10), 2));
    assert!(
        bench.text().contains("layers 0-7, 16-23"),
        "{}",
        bench.text()
    );
    assert!(
        bench.text().contains("Interleaved 1F1B"),
        "{}",
        bench.text()
    );
    bench.press("s");
    assert_eq!(view(&bench).job.degrees.vpp, 1);
    bench.press("{");
    assert!(toast(&bench).contains("vpp is 1 already"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        bench.press("u");
        seen.push(trestle::plan::recompute_name(
            &view(&bench).job.megatron.recompute,
        ));
    }
    assert_eq!(seen, ["full", "selective", "none"]);
    bench.press("o");
    assert!(
        bench.text().contains("order tp-cp-ep-pp-dp"),
        "{}",
        bench.text()
    );
}

#[test]
fn recompute_takes_memory_away() {
    let mut bench = bench(120, 36);
    let total = |bench: &Bench| view(bench).fullest().unwrap().total;
    let before = total(&bench);
    bench.press("u");
    assert!(total(&bench) < before);
    assert!(view(&bench).figures.get("step").unwrap() > 0.0);
}

#[test]
fn the_problem_under_the_cursor_is_mended_by_its_smallest_change() {
    let mut bench = bridge(120, 36);
    bench.press("p");
    type_value(&mut bench, "8");
    assert!(view(&bench).errors() > 0);
    assert!(bench.text().contains("layers-by-pp"), "{}", bench.text());
    let wanted = view(&bench).problems[0].fixes[0].clone();
    bench.press("i");
    assert!(!toast(&bench).is_empty());
    assert_eq!(view(&bench).errors(), 0, "{:?}", view(&bench).problems);
    assert!(toast(&bench).contains(&recipe::change(&wanted)));
    bench.press("r i");
    let text = toast(&bench).to_owned();
    assert!(!view(&bench).is_scratch || text.contains('='), "{text}");
}

#[test]
fn a_problem_leads_to_the_one_of_the_recipe() {
    let mut bench = bench(120, 36);
    bench.press("S-tab");
    assert_eq!(bench.state.layout.focus, Pane::Problems);
    bench.press("enter");
    assert_eq!(bench.state.screen, Screen::Recipes);
    let problem = bench.state.recipes.selected_problem().unwrap();
    assert_eq!(problem.key.as_deref(), Some("parallel.pp"));
}

#[test]
fn the_marked_layout_stands_beside_the_changed_one() {
    let mut bench = bridge(120, 36);
    bench.press("=");
    assert!(toast(&bench).contains("no layout is marked"));
    bench.press("space t + =");
    assert_eq!(bench.state.layout.focus, Pane::Compare);
    insta::assert_snapshot!("layout_compare_120x36", bench.text());
    let mark = bench.state.layout.mark.as_ref().unwrap();
    let now = &view(&bench).figures;
    let rows = trestle::app::layout::compare(&mark.figures, now);
    assert!(
        rows.iter()
            .any(|row| row.name == "step" && row.marked != row.now)
    );
    for row in &rows {
        assert_eq!(row.marked, mark.figures.get(&row.name));
        assert_eq!(row.now, now.get(&row.name));
    }
    // Another recipe is compared with the same mark.
    select(&mut bench, "demo.toml");
    bench.press("3");
    assert!(bench.text().contains("large.toml"), "{}", bench.text());
}

#[test]
fn found_layouts_are_listed_and_taken() {
    let mut bench = bridge(120, 36);
    let effects = bench.press("f");
    let [Effect::Layout(Work::Fit(search))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(bench.text().contains("searching"), "{}", bench.text());
    assert_eq!(bench.press("f"), [], "one search at a time");
    let found = fit(
        &search.job,
        search.gpus,
        search.machine,
        &search.constraints,
    );
    let best = found.best.clone();
    assert!(best.len() > 2);
    bench.send(Message::Layout(Layout::Found(
        search.clone(),
        Box::new(found),
    )));
    insta::assert_snapshot!("layout_fit_120x36", bench.text());
    assert_eq!(bench.press("f"), [], "what was found is kept");
    bench.press("j enter");
    let shown = view(&bench);
    assert_eq!(shown.job.degrees, best[1].degrees);
    assert_eq!(shown.job.batch.micro_batch_size, best[1].micro_batch_size);
    assert_eq!(errors(&shown.problems), 0, "{:?}", shown.problems);
    assert_eq!(shown.fullest().unwrap().total, best[1].memory);
    assert!((shown.figures.get("step").unwrap() - best[1].time.seconds).abs() < 1e-9);
    // Other GPUs are another question.
    bench.press("w +");
    assert_eq!(bench.press("f").len(), 1);
}

#[test]
fn found_layouts_of_another_recipe_are_not_taken() {
    let mut bench = bridge(120, 36);
    let effects = bench.press("f");
    let [Effect::Layout(Work::Fit(search))] = &effects[..] else {
        panic!("{effects:?}");
    };
    let found = fit(
        &search.job,
        search.gpus,
        search.machine,
        &search.constraints,
    );
    bench.send(Message::Layout(Layout::Found(
        search.clone(),
        Box::new(found),
    )));
    select(&mut bench, "demo.toml");
    bench.press("3");
    bench.state.layout.focus = Pane::Fit;
    bench.press("enter");
    assert!(!view(&bench).is_scratch);
    assert!(
        toast(&bench).contains("another recipe"),
        "{}",
        toast(&bench)
    );
}

#[test]
fn writing_keeps_comments_and_says_what_the_screen_shows() {
    let mut bench = bench(120, 36);
    bench.press("W");
    assert!(toast(&bench).contains("nothing is changed"));
    bench.press("t - d + +  u");
    let job = view(&bench).job.clone();
    let (expected, changes) = written(bench.press("W"));
    assert_eq!(expected, SPREAD);
    let text = edited(SPREAD, &changes);
    assert!(text.starts_with("# Sixteen ranks.\n"), "{text}");
    assert!(text.contains("tp = 1 # two halves\n"), "{text}");
    assert!(text.contains("mode = \"full\""), "{text}");
    bench.save("spread.toml", &text);
    let path = Path::new(FOLDER).join("spread.toml");
    bench.send(Message::Layout(Layout::Written(path)));
    assert_eq!(view(&bench).job, job);
    assert!(!view(&bench).is_scratch, "the file says so now");
}

#[test]
fn writing_a_recipe_for_megatron_keeps_what_it_does_not_change() {
    let mut bench = bridge(120, 36);
    bench.press("w + u");
    assert!(matches!(
        view(&bench).job.megatron.recompute,
        MegatronRecompute::Selective(_)
    ));
    let job = view(&bench).job.clone();
    let (_, changes) = written(bench.press("W"));
    let text = edited(BRIDGE, &changes);
    assert!(text.contains("recipe = \"large\" # upstream's\n"), "{text}");
    assert!(text.contains("gpus = 1024\n"), "{text}");
    bench.save("large.toml", &text);
    assert_eq!(view(&bench).job, job);
    assert!(!view(&bench).is_scratch);
    // And back again: what was taken back is said again.
    bench.press("u u");
    assert!(matches!(
        view(&bench).job.megatron.recompute,
        MegatronRecompute::Full { .. }
    ));
    let job = view(&bench).job.clone();
    let (_, changes) = written(bench.press("W"));
    bench.save("large.toml", &edited(&text, &changes));
    assert_eq!(view(&bench).job, job);
    assert!(!view(&bench).is_scratch);
}

#[test]
fn a_layout_that_cannot_start_is_written_only_after_a_question() {
    let mut bench = bridge(120, 36);
    bench.press("p");
    type_value(&mut bench, "7");
    assert!(view(&bench).errors() > 0);
    assert_eq!(bench.press("W"), []);
    assert!(bench.text().contains("could not start"), "{}", bench.text());
    assert_eq!(bench.press("n"), []);
    bench.press("W");
    let (_, changes) = written(bench.press("w"));
    assert_eq!(
        changes,
        [("parallel.pp".to_owned(), Some(Value::Integer(7)))]
    );
}

#[test]
fn what_has_no_key_is_not_written() {
    let mut bench = bench(120, 36);
    bench.press("o W");
    assert!(toast(&bench).contains("rank order"), "{}", toast(&bench));
}

#[test]
fn the_layout_goes_to_a_picture_and_to_json() {
    let mut bench = bridge(120, 36);
    bench.press("p j x");
    let effects = bench.press("enter");
    let [Effect::Layout(Work::Export { path, text })] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(path, Path::new("layout-large.svg"));
    assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
    for word in ["GB200", "bubble", "pp 3", "embedding", "adam moments"] {
        let known = text.contains(word);
        assert!(known || word == "embedding", "{word}");
    }
    bench.press("x");
    for _ in 0..3 {
        bench.press("backspace");
    }
    for c in "json".chars() {
        bench.press(&c.to_string());
    }
    let effects = bench.press("enter");
    let [Effect::Layout(Work::Export { text, .. })] = &effects[..] else {
        panic!("{effects:?}");
    };
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["gpus"], 512);
    assert_eq!(json["degrees"]["dp"], 64);
    assert_eq!(json["rank"]["rank"], bench.state.layout.rank);
    assert_eq!(json["memory"].as_array().unwrap().len(), 4);
    let total: u64 = json["memory"][0]["terms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|term| term["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(json["memory"][0]["total"].as_u64(), Some(total));
}

#[test]
fn thousands_of_ranks_are_blocks_that_can_be_entered() {
    let mut bench = bench_of(
        "huge.toml",
        &BRIDGE.replace("gpus = 512", "gpus = 4096"),
        120,
        36,
    );
    bench.press("d");
    insta::assert_snapshot!("layout_4096_blocks_120x36", bench.text());
    // A block of 128 columns moves the rank by 128.
    bench.press("l j");
    assert_eq!(bench.state.layout.rank, 1024 + 128);
    bench.press("enter");
    assert_eq!(bench.state.layout.depth, 1);
    bench.press("l enter l");
    assert_eq!(bench.state.layout.depth, 2);
    insta::assert_snapshot!("layout_4096_ranks_120x36", bench.text());
    bench.press("enter enter");
    assert_eq!(bench.state.layout.depth, 2, "there is nothing deeper");
    let rank = bench.state.layout.rank;
    bench.press("esc esc esc");
    assert_eq!(bench.state.layout.depth, 0);
    assert_eq!(bench.state.layout.rank, rank);
}

#[test]
fn the_timeline_is_enlarged_and_moved() {
    let mut bench = bench(120, 36);
    bench.press("tab");
    assert_eq!(bench.state.layout.focus, Pane::Timeline);
    let whole = bench.text();
    bench.press("enter");
    let first = bench.text();
    assert_ne!(whole, first);
    insta::assert_snapshot!("layout_timeline_120x36", first);
    bench.press("l l");
    assert_ne!(bench.text(), first);
    bench.press("G");
    let last = bench.text();
    bench.press("l l l");
    assert_eq!(bench.text(), last, "there is nothing after the end");
    bench.press("g g");
    assert_eq!(bench.text(), first);
    bench.press("enter");
    assert_eq!(bench.text(), whole);
}

#[test]
fn the_drawn_bubble_is_the_one_that_is_said() {
    for (text, keys) in [
        (SPREAD, "t"),
        (SPREAD, "} ] ]"),
        (SPREAD, "p + ] ]"),
        (BRIDGE, "t"),
        (BRIDGE, "b - - -"),
    ] {
        let mut bench = bench_of("any.toml", text, 120, 36);
        bench.press(keys);
        let shown = view(&bench);
        let schedule = shown.schedule.as_ref().unwrap();
        let laid = schedule.bubble();
        let formula = shown.plan.as_ref().unwrap().time.bubble;
        assert_eq!(Some(schedule.micro_batches), shown.job.micro_batches());
        assert!((laid - formula).abs() < 0.05, "{keys}: {laid} {formula}");
        bench.state.layout.tab = Pane::Timeline;
        let said = format!("bubble {:.1} %", 100.0 * laid);
        assert!(bench.text().contains(&said), "{said}: {}", bench.text());
    }
}

#[test]
fn traffic_says_collective_group_link_bytes_and_time() {
    let mut bench = bridge(200, 60);
    bench.press("tab tab j");
    assert_eq!(bench.state.layout.focus, Pane::Traffic);
    insta::assert_snapshot!("layout_traffic_200x60", bench.text());
}

#[test]
fn every_size_is_drawn_without_panic() {
    for text in [SPREAD, BRIDGE] {
        let mut bench = bench_of("any.toml", text, 120, 36);
        bench.press("space t + + d + + enter");
        for width in (0..12).chain((12..130).step_by(13)) {
            for height in [0, 1, 5, 6, 7, 9, 16, 24, 31] {
                bench.send(Message::Resize(Size { width, height }));
                for _ in Pane::ALL {
                    bench.press("tab");
                    bench.text();
                }
            }
        }
    }
}

/// Keys of the screen that change nothing outside it.
const KEYS: [&str; 36] = [
    "t", "p", "c", "d", "e", "a", "m", "b", "w", "+", "-", "u", "r", "]", "[", "}", "{", "s", "o",
    "i", "space", "=", "tab", "S-tab", "h", "j", "k", "l", "g g", "G", "enter", "esc", "z",
    "ctrl-d", "pgup", "x esc",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_keys_break_the_screen(
        keys in prop::collection::vec(prop::sample::select(&KEYS[..]), 1..40),
        is_bridge in any::<bool>(),
        width in 20u16..160,
        height in 6u16..50,
    ) {
        let text = if is_bridge { BRIDGE } else { SPREAD };
        let mut bench = bench_of("any.toml", text, width, height);
        for key in keys {
            bench.press(key);
            if bench.state.screen != Screen::Layout {
                bench.press("3");
            }
            bench.text();
            let shown = view(&bench);
            prop_assert!(bench.state.layout.rank < shown.world_size().max(1));
            for estimate in &shown.memory {
                let sum: u64 = estimate.terms.iter().map(|term| term.bytes.0).sum();
                prop_assert_eq!(estimate.total.0, sum);
            }
            prop_assert_eq!(shown.plan.is_err(), shown.schedule.is_none());
        }
    }

    #[test]
    fn what_is_written_is_read_back_as_it_was_shown(
        keys in prop::collection::vec(
            prop::sample::select(&["t", "p", "c", "d", "e", "m", "b", "w", "+", "-", "u", "}", "{", "i"][..]), 1..12,
        ),
        is_bridge in any::<bool>(),
    ) {
        let text = if is_bridge { BRIDGE } else { SPREAD };
        let mut bench = bench_of("any.toml", text, 120, 36);
        for key in keys {
            bench.press(key);
        }
        let shown = view(&bench);
        if shown.is_scratch && (is_bridge || shown.errors() == 0) {
            let job = shown.job.clone();
            let mut effects = bench.press("W");
            if effects.is_empty() && !bench.state.dialogs.is_empty() {
                effects = bench.press("w");
            }
            if let [Effect::Layout(Work::Write { changes, .. })] = &effects[..] {
                let text = edited(text, changes);
                bench.save("any.toml", &text);
                bench.press("r");
                prop_assert_eq!(&view(&bench).job, &job, "{}", text);
            }
        }
    }
}

#[test]
fn every_published_recipe_is_laid_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/megatron");
    let mut bench = Bench::new(120, 36);
    bench.files.clear();
    for part in ["", "base"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.file_name().unwrap();
                bench
                    .files
                    .push((Path::new(FOLDER).join(part).join(name), text));
            }
        }
    }
    bench.send(Message::Recipes(Recipes::Changed(Vec::new())));
    let (mut laid, mut refused) = (0, 0);
    for at in 0..bench.state.recipes.entries.len() {
        bench.press("1");
        bench.state.recipes.cursor = at;
        let entry = &bench.state.recipes.entries[at];
        let name = entry.name.clone();
        if entry.group == "base" {
            continue;
        }
        let bridge = entry.checked.as_ref().and_then(|c| c.bridge.clone());
        let bridge = bridge.unwrap_or_else(|| panic!("{name} is no recipe for Megatron"));
        bench.press("3");
        let shown = view(&bench);
        assert_eq!(shown.job.gpus, bridge.gpus, "{name}");
        assert_eq!(
            shown.problems,
            trestle::plan::problems(&bridge.job()),
            "{name}"
        );
        let machine = bridge.text("megatron.hardware").unwrap();
        assert!(shown.machine.name.eq_ignore_ascii_case(machine), "{name}");
        if let Ok(plan) = &shown.plan {
            let world = bridge.degrees.world_size();
            assert_eq!(plan.grid.world_size(), world, "{name}");
            assert!(plan.time.seconds > 0.0, "{name}");
            laid += 1;
        } else {
            assert!(shown.errors() > 0, "{name}");
            refused += 1;
        }
        for _ in Pane::ALL {
            bench.press("tab");
            bench.text();
        }
    }
    assert_eq!(laid + refused, 36);
    assert!(laid > 30, "{laid}");
}
