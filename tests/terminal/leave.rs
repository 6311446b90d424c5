//! However the program ends, the terminal is as it was.

use rustix::process::Signal;

use crate::session::{Place, Session, wait_until};

const TINY: &str = include_str!("../../recipes/tiny-smoke.toml");
const DEMO: &str = include_str!("../../recipes/demo.toml");

fn place() -> Place {
    Place::new(&[("demo.toml", DEMO), ("tiny-smoke.toml", TINY)])
}

#[test]
fn quit_gives_the_terminal_back() {
    let place = place();
    let mut session = Session::start(&place);
    session.wait_for("[1 Recipes]");
    assert!(!session.is_restored());
    session.quit();
}

#[test]
fn ctrl_c_leaves_as_q_does() {
    let place = place();
    let mut session = Session::start(&place);
    session.wait_for("demo.toml");
    session.type_text("\x03");
    assert!(session.wait_end().success());
}

#[test]
fn signals_that_end_programs_give_the_terminal_back() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let place = place();
        let mut session = Session::start(&place);
        session.wait_for("demo.toml");
        session.signal(signal);
        assert!(session.wait_end().success());
    }
}

#[test]
fn a_panic_of_the_loop_or_of_a_worker_is_printed_on_a_restored_terminal() {
    for culprit in ["ui", "worker"] {
        let place = place();
        let mut session = Session::start_with(&place, &[("TRESTLE_PANIC", culprit)], (120, 36));
        session.wait_for("demo.toml");
        session.type_text("\x1b[24~");
        assert_eq!(session.wait_end().exit_code(), 101);
        let text = session.text();
        assert!(text.contains("panic on demand"), "{text}");
    }
}

#[test]
fn stopped_and_continued_it_draws_itself_again() {
    for by_key in [true, false] {
        let place = place();
        let mut session = Session::start(&place);
        session.wait_for("demo.toml");
        if by_key {
            session.type_text("\x1a");
        } else {
            session.signal(Signal::TSTP);
        }
        wait_until("the program to stop", || session.process_state() == 'T');
        wait_until("the terminal", || session.is_restored());
        session.signal(Signal::CONT);
        session.wait_for("demo.toml");
        assert!(!session.is_restored());
        session.type_text("?");
        session.wait_for("Help, Recipes screen");
        session.type_text("\x1b");
        session.wait_gone("Help, Recipes screen");
        session.quit();
    }
}

#[test]
fn a_storm_of_sizes_is_survived() {
    let place = place();
    let mut session = Session::start(&place);
    session.wait_for("demo.toml");
    for i in 0..200u16 {
        session.resize(i * 37 % 150, i * 13 % 50);
    }
    session.resize(20, 4);
    session.wait_for("needs 30x6");
    session.resize(100, 30);
    session.wait_for("tiny-smoke.toml");
    session.quit();
}

#[test]
fn without_news_nothing_is_written() {
    let place = place();
    let mut session = Session::start(&place);
    session.wait_for("✓ valid");
    let before = std::cell::Cell::new(session.bytes());
    // Once quiet for a second, it stays quiet.
    wait_until("a quiet second", || {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let now = session.bytes();
        before.replace(now) == now
    });
    session.quit();
}

#[test]
fn poor_terminals_get_plain_text() {
    for env in [("LANG", "C"), ("TERM", "dumb"), ("TRESTLE_ASCII", "1")] {
        let place = place();
        let mut session = Session::start_with(&place, &[env, ("NO_COLOR", "1")], (80, 24));
        let text = session.wait_for("demo.toml");
        assert!(text.is_ascii(), "{text}");
        session.quit();
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let place = place();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_trestle"))
        .current_dir(place.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("needs a terminal") && said.contains("hint:"),
        "{said}"
    );
}
