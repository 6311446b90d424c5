//! A run that another program trains: opened with a key, listed, followed, its console read where it is looked at.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write;

use crate::session::{Place, Session};

const TINY: &str = include_str!("../../recipes/tiny-smoke.toml");
/// More than the screen holds of a console, and than it reads at a time.
const STEPS: u64 = 45_000;

fn line(step: u64) -> String {
    format!(
        " [2026-01-15 {:02}:{:02}:{:02}] iteration {step:>8}/ 1000000 | consumed samples: {:>12} | elapsed time per iteration (ms): 1000.0 | learning rate: 1.000000E-05 | global batch size:    32 | lm loss: 2.000000E+00 | global_load_balancing_loss: 1.084211E+00 | loss scale: 1.0 | grad norm: 1.000 | number of skipped iterations:   0 | number of nan iterations:   0 |\n",
        step / 3600 % 24,
        step / 60 % 60,
        step % 60,
        step * 32,
    )
}

#[test]
fn a_foreign_log_is_opened_listed_followed_and_read_from_end_to_end() {
    let place = Place::new(&[("tiny-smoke.toml", TINY)]);
    let log = place.path().join("job.out");
    let mut text = String::new();
    for step in 1..=STEPS {
        text += &line(step);
        if step == 20_000 {
            let _ = writeln!(text, "the needle of iteration 20000");
        }
    }
    fs::write(&log, text).unwrap();
    let mut session = Session::start(&place);
    session.wait_for("tiny-smoke.toml");
    session.type_text("5");
    session.wait_for("no run yet");
    session.type_text("W");
    session.wait_for("Watch a run of another program");
    session.type_text("job.out\r");
    let screen = session.wait_for("running");
    assert!(screen.contains("job.out-"), "{screen}");
    session.wait_for("45000/1000000");
    // It goes on, and the list with it.
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(line(STEPS + 1).as_bytes()).unwrap();
    session.wait_for("45001/1000000");
    session.type_text("\r");
    session.wait_for("step 45 001/1 000 000");
    session.wait_for("global load balancing loss 1.084");
    session.type_text("6");
    session.wait_for("45001/ 1000000");
    file.write_all(line(STEPS + 2).as_bytes()).unwrap();
    session.wait_for("45002/ 1000000");
    // From the end to the beginning, over what no screen holds, and to a line in the middle.
    session.type_text("gg");
    session.wait_for("       1/ 1000000");
    // Tab: as a part of the text, letter by letter.
    session.type_text("/needle\t\rn");
    session.wait_for("▸the needle of iteration 20000");
    file.write_all(b"exiting program at iteration 45002\n")
        .unwrap();
    session.type_text("G");
    session.wait_for("exiting program at iteration 45002");
    session.type_text("5");
    session.wait_for("stopped");
    session.quit();
}
