//! `trestle runs` and the commands that steer a run, with a stand-in for its trainer.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;
use trestle::event::{
    Event, Record, Request, RequestKind, StopKind, VERSION, layout, parse_request,
};
use trestle::run::{CreateRun, RunDirectory, create};

use super::trestle;

fn new_run(runs: &std::path::Path) -> RunDirectory {
    let new = CreateRun {
        name: "demo".into(),
        recipe_toml: "[train]\n".into(),
        ..CreateRun::default()
    };
    create(runs, new).unwrap()
}

/// Waits for one request, answers it, and gives it back.
fn answer_one(run: &RunDirectory, ok: bool, message: &str) -> Request {
    let start = Instant::now();
    let request = loop {
        let text = fs::read_to_string(run.join(layout::CONTROL)).unwrap();
        if let Some(line) = text.lines().last() {
            break parse_request(line).unwrap();
        }
        assert!(start.elapsed() < Duration::from_mins(1), "nobody asked");
        thread::sleep(Duration::from_millis(10));
    };
    let event = Event::Answer {
        request: request.id.clone(),
        step: 7,
        ok,
        message: message.into(),
    };
    let record = Record {
        v: VERSION,
        seq: 0,
        time_ms: 0,
        event,
    };
    let mut events = OpenOptions::new()
        .append(true)
        .open(run.join(layout::EVENTS))
        .unwrap();
    events.write_all(record.to_line().as_bytes()).unwrap();
    request
}

#[test]
fn a_request_waits_for_its_answer_and_a_refusal_is_a_failure() {
    let cases: [(&[&str], RequestKind); 4] = [
        (&["pause"], RequestKind::Pause),
        (&["checkpoint"], RequestKind::Checkpoint),
        (
            &["stop"],
            RequestKind::Stop {
                how: StopKind::Save,
            },
        ),
        (
            &["mark"],
            RequestKind::Mark {
                note: "spike".into(),
            },
        ),
    ];
    for (command, kind) in cases {
        for ok in [true, false] {
            let runs = tempdir().unwrap();
            let run = new_run(runs.path());
            let mut arguments = vec!["--runs", runs.path().to_str().unwrap()];
            arguments.extend(command);
            arguments.push("last");
            if command == ["mark"] {
                arguments.push("spike");
            }
            // Held until the command has ended.
            let lock = File::create(run.join(layout::LOCK)).unwrap();
            lock.lock().unwrap();
            let output = thread::scope(|scope| {
                let command = scope.spawn(|| trestle(&arguments));
                let request = answer_one(&run, ok, "as you say");
                assert_eq!(request.kind, kind);
                command.join().unwrap()
            });
            drop(lock);
            let (out, err) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            if ok {
                assert_eq!(out, "demo-1 at step 7: as you say\n", "{err}");
            } else {
                assert!(
                    err.contains("refused: demo-1 at step 7: as you say"),
                    "{err}"
                );
            }
            assert_eq!(output.status.code(), Some(i32::from(!ok)));
        }
    }
}

#[test]
fn without_a_trainer_or_a_run_the_reason_is_said() {
    let runs = tempdir().unwrap();
    let folder = runs.path().to_str().unwrap();
    let said = |arguments: &[&str]| {
        let output = trestle(&[&["--runs", folder], arguments].concat());
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = said(&["pause", "last"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("no run `last`"), "{text}");
    new_run(runs.path());
    let (code, text) = said(&["pause", "demo"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("no trainer works on demo-1 (new)"), "{text}");
    let (code, text) = said(&["set", "demo", "train.seed=3"]);
    assert_eq!(code, Some(2), "{text}");
}

#[test]
fn runs_are_listed_for_people_and_programs() {
    let runs = tempdir().unwrap();
    let folder = runs.path().to_str().unwrap();
    let empty = trestle(&["--runs", folder, "runs"]);
    assert!(String::from_utf8_lossy(&empty.stdout).starts_with("no runs in "));
    new_run(runs.path());
    new_run(runs.path());
    let table = String::from_utf8(trestle(&["--runs", folder, "runs"]).stdout).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
    let json = trestle(&["--runs", folder, "runs", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(json[0]["status"]["state"], "new");
}
