//! Requests: each is answered once, refused ones with a reason.

use std::fs;
use std::io::Write;

use super::{Place, answers, ask, copy, events, exact, finished, spawn, steps, wait};
use trestle::event::{Event, RequestKind, StopKind, layout};
use trestle::run::{self, RunDirectory};
use trestle::train;

/// Long enough that it is still running when the last request arrives.
const LONG: [&str; 3] = [
    "train.steps=100000",
    "train.eval_interval=0",
    "schedule.kind=constant",
];

fn set(key: &str, value: &str) -> RequestKind {
    RequestKind::Set {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn answered(run: &RunDirectory, id: &str) -> Option<(bool, String)> {
    let mut answers = answers(&run.path)
        .into_iter()
        .filter(|answer| answer.0 == id);
    let (_, ok, message) = answers.next()?;
    assert!(answers.next().is_none(), "{id} was answered twice");
    Some((ok, message))
}

#[test]
fn every_request_is_answered_once() {
    let place = Place::new();
    let run = place.run(&LONG);
    let mut trainer = spawn(&run.path);
    let say = |kind: RequestKind| {
        let id = ask(&run, kind);
        wait("answer", &run.path, || answered(&run, &id).is_some());
        answered(&run, &id).expect("just seen")
    };
    wait("step", &run.path, || steps(&run.path).len() > 2);

    let (ok, message) = say(RequestKind::Continue);
    assert!(!ok && message.contains("not paused"), "{message}");
    assert!(say(RequestKind::Pause).0);
    let here = *steps(&run.path).keys().last().expect("steps");
    assert!(say(RequestKind::Pause).1.contains("already"));
    assert!(
        say(RequestKind::Mark {
            note: "look, \"here\"\n".to_owned()
        })
        .0
    );
    let (ok, message) = say(RequestKind::Checkpoint);
    assert!(ok, "{message}");
    assert!(layout::checkpoint(&run.path, here).is_dir());
    assert_eq!(
        steps(&run.path).keys().last(),
        Some(&here),
        "it goes on while paused"
    );

    assert!(say(set("optimizer.lr", "2e-3")).0);
    let (ok, message) = say(set("optimizer.lr", "2e-3"));
    assert!(ok && message.contains("already"), "{message}");
    for (key, value, expected) in [
        ("optimizer.lr", "-1", "optimizer.lr"),
        ("optimizer.lr", "fast", "optimizer.lr"),
        ("model.hidden_size", "64", "cannot be changed"),
        ("optimizer.lrr", "1", "optimizer.lr"),
    ] {
        let (ok, message) = say(set(key, value));
        assert!(
            !ok && message.contains(expected),
            "{key} = {value}: {message}"
        );
    }
    // Somebody else's program writes what this one does not know.
    let mut control = fs::OpenOptions::new()
        .append(true)
        .open(run.path.join(layout::CONTROL))
        .expect("there is one");
    control
        .write_all(b"{\"id\":\"x1\",\"time_ms\":0,\"type\":\"dance\"}\nno json\n")
        .expect("writable");
    wait("answer", &run.path, || answered(&run, "x1").is_some());
    assert!(!answered(&run, "x1").expect("just seen").0);
    assert!(say(RequestKind::Continue).0);
    wait("step", &run.path, || {
        steps(&run.path).len() as u64 > here + 2
    });
    assert!(
        say(RequestKind::Stop {
            how: StopKind::Save
        })
        .0
    );
    assert!(trainer.wait().expect("ended").success());

    let steps = steps(&run.path);
    assert_eq!(steps[&here].lr, 1e-2);
    assert_eq!(steps[&(here + 1)].lr, 2e-3);
    let events = events(&run.path);
    let count = |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|e| wanted(e)).count();
    assert_eq!(
        count(&|e| matches!(e, Event::Mark { note, .. } if note.contains("\"here\"\n"))),
        1
    );
    assert_eq!(
        count(&|e| matches!(e, Event::Paused { step } if *step == here)),
        1
    );
    assert_eq!(
        count(&|e| matches!(e, Event::LiveChange { step, .. } if *step == here + 1)),
        1
    );
    assert_eq!(
        count(&|e| matches!(e, Event::Warning { code, .. } if code == "bad_request")),
        1
    );
    let last = *steps.keys().last().expect("steps");
    assert!(layout::checkpoint(&run.path, last).is_dir());
    assert_eq!(finished(&run.path).expect("finished").0, "stopped");

    // The next trainer answers nothing again, and refuses what was meant for the one before.
    let before = answers(&run.path).len();
    let stop = ask(
        &run,
        RequestKind::Stop {
            how: StopKind::Step,
        },
    );
    let mut control = fs::read_to_string(run.path.join(layout::CONTROL)).expect("readable");
    let at = control
        .rfind("\"time_ms\":")
        .expect("the request has a time")
        + 10;
    let end = at + control[at..].find(',').expect("more follows");
    control.replace_range(at..end, "1000");
    fs::write(run.path.join(layout::CONTROL), control).expect("writable");
    let mut trainer = spawn(&run.path);
    wait("answer", &run.path, || answered(&run, &stop).is_some());
    let (ok, message) = answered(&run, &stop).expect("just seen");
    assert!(!ok && message.contains("earlier trainer"), "{message}");
    let begin = super::steps(&run.path).len();
    wait("step", &run.path, || {
        super::steps(&run.path).len() > begin + 1
    });
    assert_eq!(answers(&run.path).len(), before + 1);
    assert_eq!(
        super::steps(&run.path)[&(last + 1)].lr,
        2e-3,
        "a live change lives on in the checkpoint"
    );
    let now = ask(&run, RequestKind::Stop { how: StopKind::Now });
    assert!(trainer.wait().expect("ended").success());
    assert!(answered(&run, &now).expect("answered").0);
}

#[test]
fn a_signal_saves_and_stops() {
    let place = Place::new();
    let run = place.run(&LONG);
    let mut trainer = spawn(&run.path);
    wait("step", &run.path, || steps(&run.path).len() > 2);
    let pid = rustix::process::Pid::from_child(&trainer);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    assert!(trainer.wait().expect("ended").success());
    let last = *steps(&run.path).keys().last().expect("steps");
    assert!(layout::checkpoint(&run.path, last).is_dir());
    assert_eq!(finished(&run.path).expect("finished").0, "stopped");
}

#[test]
fn changes_after_the_last_checkpoint_are_made_again_after_a_kill() {
    let place = Place::new();
    let run = place.run(&[
        "train.steps=100000",
        "train.eval_interval=0",
        "checkpoint.interval=5",
    ]);
    let mut trainer = spawn(&run.path);
    wait("step", &run.path, || steps(&run.path).len() > 6);
    let id = ask(&run, set("optimizer.lr", "3e-3"));
    wait("answer", &run.path, || answered(&run, &id).is_some());
    let id = ask(&run, set("mtp.loss_scale", "0.7"));
    wait("answer", &run.path, || answered(&run, &id).is_some());
    let changed = events(&run.path)
        .into_iter()
        .filter_map(|event| match event {
            Event::LiveChange { step, .. } => Some(step),
            _ => None,
        })
        .max()
        .expect("two changes");
    let goal = changed + 9;
    ask(&run, set("train.steps", &goal.to_string()));
    assert!(trainer.wait().expect("ended").success());
    let whole = finished(&run.path).expect("finished");

    // What a kill right after the change would have left: nothing that was saved or said later.
    let killed = copy(&run.path, &place.path().join("runs/killed"));
    let first_change = events(&run.path)
        .into_iter()
        .find_map(|event| match event {
            Event::LiveChange { step, .. } => Some(step),
            _ => None,
        })
        .expect("a change");
    let keep = (first_change - 1) / 5 * 5;
    for entry in fs::read_dir(killed.join(layout::CHECKPOINTS)).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path
            .file_name()
            .expect("named")
            .to_string_lossy()
            .into_owned();
        if layout::checkpoint_step(&name).is_some_and(|step| step > keep) {
            fs::remove_dir_all(path).expect("removed");
        }
    }
    let tracker = names_tracker(&killed);
    let folder = layout::checkpoint(&killed, keep);
    fs::write(
        tracker,
        folder
            .file_name()
            .expect("named")
            .to_string_lossy()
            .as_bytes(),
    )
    .expect("writable");
    let text = fs::read_to_string(killed.join(layout::EVENTS)).expect("readable");
    let end = text
        .find("\"key\":\"train.steps\"")
        .expect("the last change");
    let end = text[..end].rfind('\n').expect("lines") + 1;
    // The kill tears the line that is being written.
    fs::write(killed.join(layout::EVENTS), &text[..end + 20]).expect("writable");
    let outcome = train::run(&killed).expect("goes on");
    assert_eq!(outcome.step, goal);
    assert_eq!(finished(&killed).expect("finished"), whole);
    let (whole, again) = (steps(&run.path), steps(&killed));
    for (step, record) in &whole {
        assert_eq!(exact(record), exact(&again[step]), "step {step}");
    }
    assert!(
        events(&killed)
            .iter()
            .any(|e| matches!(e, Event::Warning { code, .. } if code == "torn_line"))
    );
}

/// The file that names the newest checkpoint, wherever it lies.
fn names_tracker(run: &std::path::Path) -> std::path::PathBuf {
    let inside = run.join(layout::CHECKPOINTS).join(layout::TRACKER);
    if inside.exists() {
        inside
    } else {
        run.join(layout::TRACKER)
    }
}

#[test]
fn a_fork_starts_at_the_checkpoint_with_its_changes() {
    let place = Place::new();
    let run = place.run(&["train.steps=12"]);
    train::run(&run.path).expect("trains");
    let forked = std::process::Command::new(env!("CARGO_BIN_EXE_trestle"))
        .args([
            "fork",
            run.id(),
            "--step",
            "8",
            "--set",
            "optimizer.lr=5e-3",
        ])
        .arg("--runs")
        .arg(place.path().join("runs"))
        .output()
        .expect("the program starts");
    assert!(forked.status.success(), "{forked:?}");
    let forks = run::list(&place.path().join("runs")).expect("runs");
    assert_eq!(forks.len(), 2);
    let path = place.path().join("runs/tiny-2");
    let (parent, fork) = (steps(&run.path), steps(&path));
    assert_eq!(fork.keys().copied().collect::<Vec<_>>(), [9, 10, 11, 12]);
    assert_eq!(
        fork[&9].loss, parent[&9].loss,
        "the same weights on the same batch"
    );
    assert_ne!(fork[&12].loss, parent[&12].loss);
    assert!(fork[&9].lr < parent[&9].lr);
    let Event::Started {
        step: 8,
        resumed_from: Some(from),
        ..
    } = &events(&path)[0]
    else {
        panic!("{:?}", events(&path)[0]);
    };
    assert!(from.contains("step-"), "{from}");
    assert!(
        layout::checkpoint(&path, 8).is_dir(),
        "a fork does not need its parent's files"
    );
}
