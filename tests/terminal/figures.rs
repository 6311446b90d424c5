//! Figures of the workbench: first frame, idle cost, save to screen. They measure and do not judge, so they run only when asked:
//!
//! `cargo test --release --test terminal -- --ignored --test-threads 1 --nocapture figures`

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::session::{Place, Session};

const DEMO: &str = include_str!("../../recipes/demo.toml");

fn median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}

/// Says a figure, and appends it to the file of `TRESTLE_FIGURES` as a line of JSON if there is one.
fn say(name: &str, unit: &str, middle: f64, worst: f64, note: &str) {
    let line = format!(
        "{{\"figure\": \"{name}\", \"unit\": \"{unit}\", \"median\": {middle:.3}, \"worst\": {worst:.3}, \"note\": \"{note}\"}}\n"
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("TRESTLE_FIGURES") {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

#[test]
#[ignore = "prints figures, which a busy machine would make any bound of fail: run with --ignored figures"]
fn figures_first_frame() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let times = (0..21)
        .map(|_| {
            let start = Instant::now();
            let mut session = Session::start(&place);
            session.wait_for("[1 Recipes]");
            let time = start.elapsed().as_secs_f64() * 1e3;
            session.quit();
            time
        })
        .collect();
    let (middle, worst) = median(times);
    let note = "from fork to the tab bar on the screen model, 21 starts";
    say("first_frame", "ms", middle, worst, note);
}

#[test]
#[ignore = "prints figures, which a busy machine would make any bound of fail: run with --ignored figures"]
fn figures_save_to_screen() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    let times = (0..20)
        .map(|i| {
            // Apart, so that no save falls into the debounce of the one before.
            std::thread::sleep(Duration::from_millis(400));
            let start = Instant::now();
            place.save(
                "demo.toml",
                &crate::recipes::with_steps(&format!("steps = {}", 1001 + i)),
            );
            session.wait_for(&format!(
                "steps {} {:03}",
                (1001 + i) / 1000,
                (1001 + i) % 1000
            ));
            start.elapsed().as_secs_f64() * 1e3 - 250.0
        })
        .collect();
    session.quit();
    let (middle, worst) = median(times);
    let note = "from rename to the new value in the preview, less the debounce of 250 ms, 20 saves";
    say("save_to_screen", "ms", middle, worst, note);
}

/// Seconds of CPU that a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let nanoseconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    nanoseconds * 1e-9
}

/// CPU time of all threads; `schedstat` counts one thread each.
fn all_threads(pid: u32) -> f64 {
    fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(cpu_seconds)
        .sum()
}

#[test]
#[ignore = "prints figures, which a busy machine would make any bound of fail: run with --ignored figures"]
fn figures_idle() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    idle(&session, "idle_recipes", "Recipes screen, 30 s");
    session.quit();
}

pub(crate) fn idle(session: &Session, name: &str, note: &str) {
    let pid = session.pid().as_raw_nonzero().get() as u32;
    std::thread::sleep(Duration::from_secs(5));
    let shares = (0..3)
        .map(|_| {
            let (before, start, bytes) = (all_threads(pid), Instant::now(), session.bytes());
            std::thread::sleep(Duration::from_secs(10));
            assert_eq!(session.bytes(), bytes, "it wrote while nothing happened");
            100.0 * (all_threads(pid) - before) / start.elapsed().as_secs_f64()
        })
        .collect();
    let (middle, worst) = median(shares);
    say(name, "% of a core", middle, worst, note);
}
