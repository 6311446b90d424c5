//! What goes wrong around a trainer: a clear error, nothing lost.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{Place, console, events, exact, finished, records, spawn, steps, wait};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use trestle::event::{Event, layout};
use trestle::train;

#[test]
fn a_second_trainer_is_refused_and_told_who_has_the_run() {
    let place = Place::new();
    let run = place.run(&["train.steps=100000", "train.eval_interval=0"]);
    let mut first = spawn(&run.path);
    wait("step", &run.path, || !steps(&run.path).is_empty());
    let error = train::run(&run.path).expect_err("the run is taken");
    let expected = first.id();
    assert!(
        matches!(error, train::TrainError::Locked { pid: Some(pid), .. } if pid == expected),
        "{error}"
    );
    assert!(error.to_string().contains(&expected.to_string()), "{error}");
    assert!(!spawn(&run.path).wait().expect("ended").success());
    assert!(
        console(&run.path).contains("another process"),
        "{}",
        console(&run.path)
    );
    first.kill().expect("it lives");
    first.wait().expect("ended");
    let started = events(&run.path)
        .iter()
        .filter(|e| matches!(e, Event::Started { .. }))
        .count();
    assert_eq!(started, 1);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_said_and_the_run_ends_the_same() {
    let place = Place::new();
    let sets = &["train.steps=8", "checkpoint.interval=2"];
    let unbroken = place.run(sets);
    train::run(&unbroken.path).expect("trains");
    let run = place.run(sets);
    train::run(&run.path).expect("trains");
    let damaged = layout::checkpoint(&run.path, 8).join("training.safetensors");
    let mut bytes = fs::read(&damaged).expect("the last step was saved");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&damaged, bytes).expect("writable");

    train::run(&run.path).expect("goes on from step 6");
    let events = events(&run.path);
    let again = events
        .iter()
        .position(|e| matches!(e, Event::Started { segment: 1, .. }))
        .expect("taken up again");
    assert!(matches!(&events[again], Event::Started { step: 6, .. }));
    assert!(
        events[again..].iter().any(|e| matches!(
            e,
            Event::Warning { code, message, .. }
                if code == "checkpoint_damaged" && message.contains("step-00000008")
        )),
        "{:?}",
        &events[again..]
    );
    assert_eq!(finished(&run.path), finished(&unbroken.path));
}

#[test]
fn a_torn_last_line_is_cut_off_and_said() {
    let place = Place::new();
    let run = place.run(&["train.steps=4", "checkpoint.interval=2"]);
    train::run(&run.path).expect("trains");
    let path = run.path.join(layout::EVENTS);
    let whole = records(&run.path).len();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("there is one");
    file.write_all(b"{\"v\":1,\"seq\":99,\"ty")
        .expect("writable");
    train::run(&run.path).expect("takes it up again");
    // `records` fails on lines that are none and on gaps in their numbers.
    let records = records(&run.path);
    assert!(matches!(
        &records[whole].event,
        Event::Started {
            segment: 1,
            step: 4,
            ..
        }
    ));
    assert!(
        matches!(&records[whole + 1].event, Event::Warning { code, .. } if code == "torn_line")
    );
    assert_eq!(finished(&run.path).expect("finished").0, "completed");
}

#[test]
fn events_of_a_newer_version_are_kept_and_counted() {
    let place = Place::new();
    let run = place.run(&["train.steps=4", "checkpoint.interval=2"]);
    train::run(&run.path).expect("trains");
    let next = records(&run.path).len();
    let path = run.path.join(layout::EVENTS);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("there is one");
    let line = format!(
        "{{\"v\":9,\"seq\":{next},\"time_ms\":1,\"type\":\"step\",\"step\":{{\"a\":1}}}}\n"
    );
    file.write_all(line.as_bytes()).expect("writable");
    train::run(&run.path).expect("takes it up again");
    let records = records(&run.path);
    assert!(matches!(&records[next].event, Event::Unknown(value) if value["type"] == "step"));
    assert!(matches!(
        &records[next + 1].event,
        Event::Started { segment: 1, .. }
    ));
}

#[test]
fn cuda_that_is_not_there_is_said_with_its_exit_code() {
    let place = Place::new();
    let run = place.run(&["train.device=cuda"]);
    let status = spawn(&run.path).wait().expect("ended");
    assert_eq!(status.code(), Some(5), "{}", console(&run.path));
    let Some(Event::Failed {
        error,
        hint: Some(hint),
        ..
    }) = events(&run.path).pop()
    else {
        panic!("{:?}", events(&run.path));
    };
    assert!(
        error.contains("cuda") && hint.contains("cpu"),
        "{error}; {hint}"
    );
}

#[test]
fn a_broken_recipe_and_missing_text_fail_with_their_exit_codes() {
    let place = Place::new();
    let run = place.run(&[]);
    fs::remove_file(place.path().join("text/a.jsonl")).expect("removed");
    assert_eq!(
        spawn(&run.path).wait().expect("ended").code(),
        Some(4),
        "{}",
        console(&run.path)
    );
    fs::write(run.path.join(layout::RECIPE), "[model\nname = 3").expect("writable");
    assert_eq!(
        spawn(&run.path).wait().expect("ended").code(),
        Some(3),
        "{}",
        console(&run.path)
    );
    let failed = events(&run.path)
        .into_iter()
        .filter(|e| matches!(e, Event::Failed { .. }))
        .count();
    assert_eq!(failed, 2);
}

#[test]
fn a_read_only_run_is_refused_and_left_as_it_was() {
    let place = Place::new();
    let run = place.run(&["train.steps=4"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle"));
    if rustix::process::geteuid().is_root() {
        // Root may write everything; the trainer becomes nobody, with a copy of the program that nobody may read.
        let program = place.path().join("trestle");
        fs::copy(env!("CARGO_BIN_EXE_trestle"), &program).expect("copied");
        for path in [
            place.path(),
            &place.path().join("runs"),
            &run.path,
            &program,
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("own file");
        }
        command = Command::new(program);
        command.uid(65534).gid(65534);
    } else {
        fs::set_permissions(&run.path, fs::Permissions::from_mode(0o555)).expect("own folder");
        for file in [layout::EVENTS, layout::CONTROL] {
            fs::set_permissions(run.join(file), fs::Permissions::from_mode(0o444))
                .expect("own file");
        }
    }
    let output = command
        .arg("trainer")
        .arg(&run.path)
        .output()
        .expect("the program starts");
    fs::set_permissions(&run.path, fs::Permissions::from_mode(0o755)).expect("own folder");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cannot write") && said.contains("hint"),
        "{said}"
    );
    assert_eq!(fs::read(run.join(layout::EVENTS)).expect("readable"), b"");
}

#[test]
fn with_a_full_disk_training_goes_on_and_nothing_is_lost() {
    let place = Place::new();
    let sets = [
        "train.steps=100000",
        "train.eval_interval=0",
        "checkpoint.interval=20",
        "logging.tensorboard=false",
    ];
    let run = place.run(&sets);
    let mut trainer = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .arg("trainer")
        .arg(&run.path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    wait("checkpoint", &run.path, || {
        layout::checkpoint(&run.path, 20).is_dir()
    });
    // No file may grow beyond what the events have now: neither they nor a checkpoint fit any more.
    let pid = Pid::from_child(&trainer);
    let before = getrlimit(Resource::Fsize);
    let size = fs::metadata(run.join(layout::EVENTS))
        .expect("there is one")
        .len();
    let full = Rlimit {
        current: Some(size + 700),
        maximum: before.maximum,
    };
    prlimit(Some(pid), Resource::Fsize, full).expect("own child");
    // Some more steps are done in memory; what is in the file stays whole.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(
        trainer.try_wait().expect("asked").is_none(),
        "{}",
        console(&run.path)
    );
    let limited = steps(&run.path).len();
    assert!(
        fs::metadata(run.join(layout::EVENTS))
            .expect("there is one")
            .len()
            <= size + 700
    );
    prlimit(Some(pid), Resource::Fsize, before).expect("own child");
    wait("step", &run.path, || steps(&run.path).len() > limited + 40);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    assert!(trainer.wait().expect("ended").success());
    // Steps without a gap, although the disk was full for a while.
    let all = steps(&run.path);
    assert_eq!(
        all.keys().copied().collect::<Vec<_>>(),
        (1..=all.len() as u64).collect::<Vec<_>>()
    );
    let warned = |wanted: &str| {
        let events = events(&run.path);
        events
            .iter()
            .any(|e| matches!(e, Event::Warning { code, .. } if code == wanted))
    };
    assert!(warned("disk_full"));
    // And the run is the one that it would have been with space.
    let goal = format!("train.steps={}", all.len().min(60));
    let other = place.run(&[
        &goal,
        "schedule.decay_steps=100000",
        "train.eval_interval=0",
        "checkpoint.interval=0",
        "schedule.warmup_steps=3",
    ]);
    train::run(&other.path).expect("trains");
    for (step, record) in steps(&other.path) {
        assert_eq!(exact(&record), exact(&all[&step]), "step {step}");
    }
}
