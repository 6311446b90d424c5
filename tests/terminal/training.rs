//! A run from the launch dialog to its end, with everything that can happen to it on the way.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};

use crate::session::{Place, Session, wait_until};

const DEMO: &str = include_str!("../../recipes/demo.toml");
const TINY: &str = include_str!("../../recipes/tiny-smoke.toml");
/// A run that no test waits out.
const LONG: &str = "\
extends = \"tiny-smoke.toml\"
[train]
steps = 1_000_000
eval_interval = 50
[schedule]
kind = \"constant\"
[checkpoint]
interval = 20
keep = 2
";

fn place() -> Place {
    Place::new(&[
        ("demo.toml", DEMO),
        ("tiny-smoke.toml", TINY),
        ("long.toml", LONG),
    ])
}

/// Picks a recipe by the filter, launches it, and gives its run's folder.
fn launch(session: &mut Session, place: &Place, name: &str) -> PathBuf {
    session.wait_for(&format!("{name}.toml"));
    session.type_text(&format!("/{name}\r"));
    session.wait_for(&format!("▸ {name}.toml"));
    session.wait_for("✓ valid");
    session.type_text("\r");
    session.wait_for(&format!("Launch {name}.toml"));
    let before = place.runs();
    session.type_text("\r");
    session.wait_for("[4 Train]");
    let new = place.runs().into_iter().find(|run| !before.contains(run));
    new.expect("launching made a run")
}

/// The step in the tab bar: `step 1 234/20 000`.
fn step(screen: &str) -> Option<u64> {
    let line = screen.lines().next()?;
    let text = &line[line.find(" step ")? + 6..];
    text[..text.find('/')?].replace(' ', "").parse().ok()
}

/// The main loss in the pane of MTP losses.
fn loss(screen: &str) -> Option<f64> {
    let text = &screen[screen.find(" main ")? + 6..];
    text.split_whitespace().next()?.parse().ok()
}

/// The loss of the run's first step.
fn first_loss(run: &Path) -> f64 {
    let events = events(run);
    let step = events
        .lines()
        .find(|line| line.contains("\"type\":\"step\""));
    let step: serde_json::Value = serde_json::from_str(step.unwrap()).unwrap();
    step["loss"].as_f64().unwrap()
}

fn wait_step(session: &Session, at_least: u64) -> u64 {
    let screen = session.wait_until(&format!("step {at_least}"), |screen| {
        step(screen).is_some_and(|step| step >= at_least)
    });
    step(&screen).unwrap()
}

fn events(run: &Path) -> String {
    fs::read_to_string(run.join("events.jsonl")).unwrap_or_default()
}

#[test]
fn a_tiny_run_is_launched_and_its_losses_fall_to_the_end() {
    let place = place();
    let mut session = Session::start(&place);
    let run = launch(&mut session, &place, "tiny-smoke");
    session.wait_for("✓ done");
    // The run is quicker than a look at the screen may be, so its own words say where it began.
    let first = first_loss(&run);
    session.wait_until("a lower loss", |screen| {
        loss(screen).is_some_and(|last| last < first) && screen.contains("mtp1")
    });
    assert!(events(&run).contains("\"finished\""));
    wait_until("the trainer's end", || Place::trainer(&run).is_none());
    session.quit();
    assert!(!session.text().contains("goes on training"));
}

#[test]
fn a_run_is_paused_edited_live_noted_stopped_and_resumed() {
    let place = place();
    let mut session = Session::start(&place);
    let run = launch(&mut session, &place, "long");
    session.wait_for("running");
    wait_step(&session, 3);

    session.type_text(" ");
    session.wait_for("paused");
    session.type_text(" ");
    session.wait_for("running");
    let at = step(&session.text()).unwrap();
    wait_step(&session, at + 2);

    session.type_text("E");
    session.wait_for("Edit long-1 live");
    let live = trestle::recipe::KEYS.iter().filter(|key| key.live);
    let fields = live.take_while(|key| key.path != "optimizer.lr").count();
    session.type_text(&"\t".repeat(fields));
    session.type_text("\x150.00125\r");
    session.wait_gone("Edit long-1 live");
    wait_until("the live change", || {
        let events = events(&run);
        events.contains("\"live_change\"") && events.contains("0.00125")
    });

    session.type_text("M");
    session.wait_for("Note at step");
    session.type_text("looks good\r");
    session.wait_for("looks good");

    session.type_text("S");
    session.wait_for("Stop long-1");
    session.type_text("1");
    session.wait_for("stopped");
    wait_until("the trainer's end", || Place::trainer(&run).is_none());
    let stopped = step(&session.text()).unwrap();

    session.type_text("R");
    session.wait_for("running");
    wait_step(&session, stopped + 2);
    assert!(events(&run).contains("\"segment\":1"));
    session.type_text("S");
    session.wait_for("Stop long-1");
    session.type_text("3");
    session.wait_until("the end", |screen| !screen.contains("running"));
    session.quit();
}

#[test]
fn a_killed_trainer_is_shown_and_its_run_resumed() {
    let place = place();
    let mut session = Session::start(&place);
    let run = launch(&mut session, &place, "long");
    wait_until("a checkpoint", || events(&run).contains("\"checkpoint\""));
    let pid = Place::trainer(&run).expect("the trainer lives");
    kill_process(pid, Signal::KILL).unwrap();
    session.wait_for("killed");
    session.type_text("R");
    session.wait_for("running");
    wait_until("the second segment", || {
        events(&run).contains("\"segment\":1")
    });
    let next = step(&session.text()).unwrap_or(0);
    wait_step(&session, next + 1);
    session.quit();
    assert!(
        session.text().contains("long-1 goes on training"),
        "{}",
        session.text()
    );
}

#[test]
fn who_leaves_and_comes_back_finds_the_live_run() {
    let place = place();
    let mut session = Session::start(&place);
    let run = launch(&mut session, &place, "long");
    let left_at = wait_step(&session, 2);
    session.quit();
    assert!(session.text().contains("long-1 goes on training"));
    assert!(
        Place::trainer(&run).is_some(),
        "the trainer outlives the workbench"
    );
    let mut session = Session::start(&place);
    session.wait_for("[1 Recipes]");
    session.type_text("4");
    session.wait_for("[4 Train]");
    session.wait_for("long-1");
    wait_step(&session, left_at + 1);
    session.quit();
}

#[test]
fn the_terminals_end_is_not_the_trainers() {
    let place = place();
    let mut session = Session::start(&place);
    let run = launch(&mut session, &place, "long");
    let step = wait_step(&session, 2);
    session.signal(Signal::HUP);
    session.wait_end();
    assert!(Place::trainer(&run).is_some());
    let written = events(&run).lines().count();
    wait_until("more steps", || {
        events(&run).lines().count() > written + step as usize
    });
}

#[test]
fn a_saved_live_key_is_offered_to_the_running_trainer() {
    let place = place();
    let mut session = Session::start(&place);
    let run = launch(&mut session, &place, "long");
    wait_step(&session, 2);
    session.type_text("1");
    session.wait_for("[1 Recipes]");
    place.save(
        "long.toml",
        &format!("{LONG}[optimizer]\nclip_grad = 0.375\n"),
    );
    session.wait_for("apply? L");
    assert!(!events(&run).contains("\"live_change\""));
    session.type_text("L");
    session.wait_for("Apply to long-1");
    session.type_text("y");
    wait_until("the live change", || {
        let events = events(&run);
        events.contains("\"live_change\"") && events.contains("0.375")
    });
    session.wait_gone("live keys differ");
    session.quit();
}

#[test]
#[ignore = "prints figures, which a busy machine would make any bound of fail: run with --ignored figures"]
fn figures_idle_with_a_finished_run_open() {
    let place = place();
    let mut session = Session::start(&place);
    launch(&mut session, &place, "tiny-smoke");
    session.wait_for("✓ done");
    crate::figures::idle(
        &session,
        "idle_finished_run",
        "Train screen with a finished run, 3 x 10 s",
    );
    session.quit();
}

#[test]
fn the_machine_is_looked_at_while_a_run_goes_on_and_before_the_next_one() {
    let place = place();
    let mut session = Session::start(&place);
    let run = launch(&mut session, &place, "long");
    session.wait_for("running");
    wait_step(&session, 2);
    // Back two panes, from the main chart to the devices, which get the whole screen: the trainer's part is their last row.
    session.type_text("\x1b[Z\x1b[Zz");
    session.wait_until("the trainer's processors", |screen| {
        screen.contains("trainer ") && screen.contains(" cores, ") && screen.contains(" resident")
    });
    session.type_text("d");
    session.wait_for("Details of ");
    session.wait_for("sampling");
    session.type_text("\x1b");
    session.wait_gone("Details of ");
    // Every step so far as a table, beside the recipes.
    session.type_text("x");
    session.wait_for("Export ");
    let file = place.path().join("steps.csv");
    session.type_text("\x15");
    session.type_text(&format!("{}\r", file.display()));
    session.wait_for("steps to ");
    let table = fs::read_to_string(&file).unwrap();
    assert!(
        table.starts_with("run,step,tokens,time_ms,loss,"),
        "{table}"
    );
    assert!(table.lines().count() > 2);
    session.type_text("1\r");
    session.wait_for("free, planned");
    session.type_text("\x1b");
    session.wait_gone("Launch ");
    session.type_text("4S");
    session.wait_for("stop now");
    session.type_text("3");
    wait_until("the trainer's end", || Place::trainer(&run).is_none());
    session.quit();
}
