//! Requests and trainers as processes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;
use trestle::backend::local;
use trestle::event::{Event, RequestKind, StopKind, layout, parse_request};
use trestle::run::{RunError, Tail, request, wait_for_answer};

use super::{append, new_run, record};

#[test]
fn requests_are_lines_with_ids_of_their_own() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    let pause = request(&run, RequestKind::Pause).unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(run.join(layout::CONTROL))
        .unwrap();
    file.write_all(b"{\"id\":\"torn").unwrap();
    let stop = request(
        &run,
        RequestKind::Stop {
            how: StopKind::Save,
        },
    )
    .unwrap();
    let text = fs::read_to_string(run.join(layout::CONTROL)).unwrap();
    let read: Vec<_> = text.lines().map(parse_request).collect();
    assert_eq!(read.len(), 3);
    let first = read[0].as_ref().unwrap();
    assert_eq!((&first.id, &first.kind), (&pause, &RequestKind::Pause));
    assert!(read[1].is_err());
    let last = read[2].as_ref().unwrap();
    assert_eq!(
        (&last.id, &last.kind),
        (
            &stop,
            &RequestKind::Stop {
                how: StopKind::Save
            }
        )
    );
    assert_ne!(pause, stop);
}

#[test]
fn an_answer_is_waited_for_while_the_trainer_lives() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    let mut tail = Tail::from_end(&run.path).unwrap();
    let short = Duration::from_millis(60);
    assert!(matches!(
        wait_for_answer(&run, &mut tail, "x", short),
        Err(RunError::Ended { .. })
    ));
    let lock = File::create(run.join(layout::LOCK)).unwrap();
    lock.lock().unwrap();
    assert!(matches!(
        wait_for_answer(&run, &mut tail, "x", short),
        Err(RunError::NoAnswer { .. })
    ));
    let answer = Event::Answer {
        request: "x".to_owned(),
        step: 7,
        ok: true,
        message: "paused".to_owned(),
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            append(&run, &[record(0, answer)]);
        });
        let heard = wait_for_answer(&run, &mut tail, "x", Duration::from_secs(20)).unwrap();
        assert_eq!(
            (heard.step, heard.ok, heard.message.as_str()),
            (7, true, "paused")
        );
    });
}

#[test]
fn a_trainer_leads_its_own_session_and_speaks_into_the_console() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    fs::write(run.join(layout::CONSOLE), "before\n").unwrap();
    let program = runs.path().join("program");
    fs::write(&program, "#!/bin/sh\necho \"$1 $2\"; echo oops >&2; cut -d' ' -f1,6 /proc/$$/stat; read x || echo no input\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let pid = local::spawn_program(&program, &run).unwrap();
    let start = Instant::now();
    let expected = format!(
        "before\ntrainer {}\noops\n{pid} {pid}\nno input\n",
        run.path.display()
    );
    loop {
        let console = fs::read_to_string(run.join(layout::CONSOLE)).unwrap();
        // The waiter takes note of the end, so no zombie stays.
        if console == expected && !fs::exists(format!("/proc/{pid}")).unwrap() {
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{console:?} instead of {expected:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_that_is_not_there_is_an_error_that_names_it() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    let error = local::spawn_program(&runs.path().join("absent"), &run).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}
