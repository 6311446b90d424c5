//! The Recipes screen: validity, problems, fixes, diffs, launching, hot reload.

use std::path::Path;

use trestle::app::launch::LaunchRequest;
use trestle::app::recipes::{Message as Recipes, Outcome, Pane};
use trestle::app::{Dialog, Effect, Message};
use trestle::base::Bytes;
use trestle::event::RequestKind;
use trestle::recipe::{DeviceChoice, PrecisionChoice};
use trestle::telemetry::{Host, Memory, Sample, ask};

use super::fixture::{Bench, FOLDER};
use crate::telemetry::Fake;

pub(super) fn select(bench: &mut Bench, name: &str) {
    bench.press("1 g g");
    for _ in 0..bench.state.recipes.entries.len() {
        if bench.state.recipes.selected().unwrap().name == name {
            return;
        }
        bench.press("j");
    }
    panic!("no recipe {name}");
}

#[test]
fn problems_stand_at_their_span_and_in_the_list() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "broken.toml");
    insta::assert_snapshot!("recipes_problems_120x36", bench.text());
    bench.press("]");
    assert_eq!(bench.state.recipes.problem_cursor, 1);
    bench.press("] ");
    assert_eq!(bench.state.recipes.problem_cursor, 0);
}

#[test]
fn a_fix_changes_exactly_its_span() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "broken.toml");
    let effects = bench.press("F");
    let [Effect::ApplyFix { fix, expected }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(expected.as_deref(), Some("stepz"));
    assert_eq!(fix.replacement, "steps");
}

#[test]
fn the_editor_opens_at_the_problem() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "broken.toml");
    let effects = bench.press("E");
    let [Effect::OpenEditor { path, line, column }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(path.file_name().unwrap(), "broken.toml");
    assert_eq!((*line, *column), (3, 1));
}

#[test]
fn a_broken_save_keeps_the_last_good_revision_and_says_so() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    let steps = |bench: &Bench| bench.state.selected_recipe().unwrap().recipe.train.steps;
    let good = bench
        .files
        .iter()
        .find(|(p, _)| p.ends_with("demo.toml"))
        .unwrap()
        .1
        .clone();
    assert_eq!(steps(&bench), 400);
    bench.save("demo.toml", &good.replace("steps = 400", "steps = "));
    assert!(bench.text().contains("✗ 1 error"), "{}", bench.text());
    assert!(bench.text().contains("r1 still active"), "{}", bench.text());
    assert_eq!(steps(&bench), 400);
    bench.save("demo.toml", &good.replace("steps = 400", "steps = 500"));
    assert!(bench.text().contains("✓ valid r2"), "{}", bench.text());
    assert_eq!(steps(&bench), 500);
}

#[test]
fn a_saved_base_is_followed_by_what_extends_it() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "mtp2.toml");
    let seq = |bench: &Bench| {
        bench
            .state
            .selected_recipe()
            .unwrap()
            .recipe
            .train
            .seq_length
    };
    let base = bench
        .files
        .iter()
        .find(|(p, _)| p.ends_with("demo.toml"))
        .unwrap()
        .1
        .clone();
    assert_eq!(seq(&bench), 256);
    bench.save(
        "demo.toml",
        &base.replace("seq_length = 256", "seq_length = 128"),
    );
    assert_eq!(seq(&bench), 128);
}

#[test]
fn a_recipe_is_compared_with_its_base_or_two_marked_ones_with_each_other() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "mtp2.toml");
    bench.press("=");
    insta::assert_snapshot!("recipes_diff_120x36", bench.text());
    bench.press("esc");
    select(&mut bench, "demo.toml");
    bench.press("space");
    select(&mut bench, "mtp2.toml");
    bench.press("space =");
    assert!(matches!(bench.state.dialogs.last(), Some(Dialog::View(_))));
}

#[test]
fn launching_asks_and_passes_only_what_differs() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    bench.press("enter");
    insta::assert_snapshot!("launch_120x36", bench.text());
    let effects = bench.press("m i n e tab tab backspace 9 tab 7 enter");
    let request = LaunchRequest {
        recipe: format!("{FOLDER}/demo.toml").into(),
        name: Some("mine".into()),
        sets: vec!["train.steps=409".into(), "train.seed=7".into()],
        check_memory: true,
        tags: vec![],
    };
    // The seed's old text is still before the typed figure.
    let [Effect::Launch(launched)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(
        (&launched.recipe, &launched.name),
        (&request.recipe, &request.name)
    );
    assert_eq!(launched.sets[0], request.sets[0]);
    assert!(launched.sets[1].ends_with('7'));
    bench.press("enter tab tab x enter");
    assert!(
        bench.text().contains("not a whole number"),
        "{}",
        bench.text()
    );
}

/// A machine with this many MiB free on the host and on each GPU.
fn machine(host: u64, gpus: &[u64]) -> Message {
    let gpu = |(index, &free): (usize, &u64)| {
        let driver = Fake {
            gpus: index as u32 + 1,
            ..Fake::default()
        };
        let mut gpu = ask(&driver, false).unwrap().pop().unwrap();
        let total = Bytes(80 << 30);
        let free = Bytes(free << 20);
        let used = Bytes(total.0 - free.0);
        gpu.memory = Ok(Memory { used, free, total });
        gpu
    };
    let none = Err("no NVIDIA driver on this machine".to_owned());
    let some = Ok(gpus.iter().enumerate().map(gpu).collect());
    let total = Bytes(24 << 30);
    let free = Bytes(host << 20);
    Message::Recipes(Recipes::Looked(Box::new(Sample {
        process: None,
        host: Some(Host {
            memory_used: Bytes(total.0 - free.0),
            memory_free: free,
            memory_total: total,
            cpu_percent: 1.0,
            cores: 2,
        }),
        gpus: if gpus.is_empty() { none } else { some },
        cost: std::time::Duration::ZERO,
    })))
}

#[test]
fn launching_shows_free_memory_and_refuses_what_cannot_fit() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    assert_eq!(bench.press("enter"), [Effect::LookAtMachine]);
    assert!(bench.text().contains("looking for free memory"));
    bench.send(machine(20 << 10, &[70 << 10, 10]));
    // The plan of a GPU is tested where it is made; here its place counts.
    insta::with_settings!({filters => vec![(r"(cuda:\d[^║]*planned)[^║]*(fits|short)[^║]*║", "$1 ... $2 ║")]}, {
        insta::assert_snapshot!("launch_120x36_memory", bench.text());
    });
    // Ten MiB are too few for the host, and the dialog stays and says how to go on.
    bench.send(machine(10, &[]));
    let text = bench.text();
    assert!(text.contains("no NVIDIA driver on this machine"), "{text}");
    assert!(text.contains("short"), "{text}");
    assert!(bench.press("tab space enter").is_empty());
    let Some(Dialog::Form(form)) = bench.state.dialogs.last() else {
        panic!("the form stays open");
    };
    let error = form.error.clone().unwrap();
    assert!(
        error.contains("cannot fit on cpu: 10.0 MiB of 24.0 GiB free"),
        "{error}"
    );
    assert!(
        error.contains("memory check") && error.contains("--set train.check_memory=false"),
        "{error}"
    );
    insta::assert_snapshot!("launch_120x36_refused", bench.text());
    // The named key: the toggle in the last row.
    bench.press("S-tab S-tab S-tab space");
    let effects = bench.press("enter");
    let [Effect::Launch(request)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(!request.check_memory);
    // And the last row has the tags.
    bench.press("enter S-tab");
    bench.send(Message::Paste("first try".into()));
    let effects = bench.press("enter");
    let [Effect::Launch(request)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(request.tags, ["first", "try"]);
}

#[test]
fn the_full_gpu_is_refused_and_overrides_are_left_to_the_runtime() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    bench.press("enter");
    bench.send(machine(20 << 10, &[10]));
    // Device: auto, cpu, cuda.
    assert!(bench.press("tab space space enter").is_empty());
    assert!(
        bench.text().contains("cannot fit on cuda:0 H100 0"),
        "{}",
        bench.text()
    );
    bench.press("tab tab tab");
    bench.send(Message::Paste("train.micro_batch_size=1".into()));
    let effects = bench.press("enter");
    let [Effect::Launch(request)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(request.check_memory);
    let entry = bench.state.recipes.selected().unwrap();
    let recipe = entry.good.as_ref().unwrap().recipe.clone();
    // The runtime looks at the resolved recipe, here still the unchanged one, which names the CPU or leaves the choice open.
    let sample = bench.state.recipes.machine.clone().unwrap();
    let mut on_gpu = (*recipe).clone();
    on_gpu.train.device = DeviceChoice::Cuda;
    assert!(request.refusal(&on_gpu, &sample).unwrap().contains("short"));
    // In f32 it takes more than in bf16.
    let planned = |recipe: &trestle::recipe::Recipe| {
        let room = trestle::app::launch::chosen(recipe, "cuda", &sample).unwrap();
        room.needs.unwrap()
    };
    let bf16 = planned(&on_gpu);
    on_gpu.train.precision = PrecisionChoice::F32;
    assert!(planned(&on_gpu) > bf16);
    let unchecked = LaunchRequest {
        check_memory: false,
        ..request.clone()
    };
    assert_eq!(unchecked.refusal(&on_gpu, &sample), None);
}

#[test]
fn a_recipe_with_errors_cannot_be_launched() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "broken.toml");
    assert!(bench.press("enter").is_empty());
    assert!(bench.state.dialogs.is_empty());
    assert!(bench.text().contains("error"), "{}", bench.text());
}

#[test]
fn a_recipe_for_megatron_bridge_says_what_it_is() {
    let bench = for_bridge(120, 36);
    let text = bench.text();
    for said in ["qwen35_vl_2b_peft_1gpu", "world 1 = tp1 pp1 dp1"] {
        assert!(text.contains(said), "{text}");
    }
    assert!(!text.contains("no valid revision"), "{text}");
}

/// The screen with a published recipe for Megatron-Bridge under the cursor.
pub(super) fn for_bridge(width: u16, height: u16) -> Bench {
    let mut bench = Bench::new(width, height);
    select(&mut bench, "broken.toml");
    let path = bench.state.recipes.selected().unwrap().path.clone();
    let published = Path::new("recipes/megatron/qwen35_vl_2b_peft_1gpu_h100_bf16.toml");
    let read = |wanted: &Path| {
        let inside = wanted.strip_prefix(FOLDER).unwrap();
        std::fs::read_to_string(if *wanted == path {
            published.to_owned()
        } else {
            published.with_file_name("").join(inside)
        })
    };
    let outcome = Outcome::read(path.clone(), &read);
    bench.send(Message::Recipes(Recipes::Checked(Box::new(outcome))));
    bench
}

#[test]
fn a_new_recipe_extends_the_selected_one() {
    let mut bench = Bench::new(80, 24);
    select(&mut bench, "mtp2.toml");
    let effects = bench.press("A enter");
    let [Effect::CreateFile { path, text }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(path.file_name().unwrap(), "mtp2-2.toml");
    assert_eq!(text, "extends = \"ablations/mtp2.toml\"\n");
}

#[test]
fn the_filter_narrows_the_list_and_escape_brings_it_back() {
    let mut bench = Bench::new(80, 24);
    bench.press("/ m t p 2");
    assert_eq!(bench.state.recipes.visible().len(), 1);
    assert_eq!(bench.state.recipes.selected().unwrap().name, "mtp2.toml");
    bench.press("enter");
    assert!(bench.state.search.is_none());
    bench.press("esc");
    assert_eq!(bench.state.recipes.visible().len(), 3);
}

#[test]
fn panes_take_the_focus_in_turn_and_one_can_have_the_screen() {
    let mut bench = Bench::new(120, 36);
    bench.press("tab");
    assert_eq!(bench.state.recipes.focus, Pane::Source);
    bench.press("z");
    assert!(!bench.text().contains("Problems"));
    bench.press("esc S-tab");
    assert_eq!(bench.state.recipes.focus, Pane::List);
}

#[test]
fn live_keys_that_differ_from_the_running_trainer_are_offered_and_never_applied_unasked() {
    let mut bench = Bench::new(120, 36);
    select(&mut bench, "demo.toml");
    let train = &mut bench.state.train;
    train.run = Some("/lab/runs/demo-1".into());
    train.recipe = Some(format!("{FOLDER}/demo.toml").into());
    train.is_alive = true;
    train.live = bench
        .state
        .recipes
        .selected()
        .unwrap()
        .good
        .as_ref()
        .unwrap()
        .live
        .clone();
    assert!(bench.press("L").is_empty());
    let good = bench
        .files
        .iter()
        .find(|(p, _)| p.ends_with("demo.toml"))
        .unwrap()
        .1
        .clone();
    bench.save("demo.toml", &format!("{good}\n[optimizer]\nlr = 0.5\n"));
    let text = bench.text();
    assert!(
        text.contains("differ from the running trainer: apply? L"),
        "{text}"
    );
    bench.press("L");
    insta::assert_snapshot!("live_offer_120x36", bench.text());
    let effects = bench.press("y");
    let set = |effect: &Effect| match effect {
        Effect::Request {
            run,
            kind: RequestKind::Set { key, value },
        } => {
            assert_eq!(run, Path::new("/lab/runs/demo-1"));
            format!("{key} = {value}")
        }
        other => panic!("{other:?}"),
    };
    let asked: Vec<String> = effects.iter().map(set).collect();
    assert!(
        asked.contains(&"optimizer.lr = 0.5".to_owned()),
        "{asked:?}"
    );
    bench.press("L n");
    bench.state.train.is_alive = false;
    assert!(bench.press("L").is_empty());
}
