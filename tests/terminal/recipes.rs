//! Recipes on disk: what is saved is seen.

use std::fs;

use crate::session::{Place, Session};

const DEMO: &str = include_str!("../../recipes/demo.toml");

/// The demo with `line` in place of its number of steps.
pub(crate) fn with_steps(line: &str) -> String {
    let lines: Vec<&str> = DEMO
        .lines()
        .map(|l| if l.starts_with("steps = ") { line } else { l })
        .collect();
    assert!(lines.contains(&line), "the demo has no line `steps = ...`");
    lines.join("\n") + "\n"
}

#[test]
fn a_broken_save_shows_its_problem_and_a_good_one_takes_it_away() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    place.save("demo.toml", &with_steps("stepz = 300"));
    session.wait_for("✗ 1 error");
    session.wait_for("r1 still active");
    place.save("demo.toml", &with_steps("steps = 301"));
    session.wait_gone("r1 still active");
    session.wait_for("✓ valid r2");
    session.quit();
}

#[test]
fn a_new_file_and_a_removed_one_change_the_list() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let mut session = Session::start(&place);
    session.wait_for("Recipes 1");
    place.save("more/second.toml", "extends = \"../demo.toml\"\n");
    session.wait_for("second.toml");
    fs::remove_file(place.path().join("recipes/more/second.toml")).unwrap();
    session.wait_gone("second.toml");
    session.quit();
}

#[test]
fn the_fix_key_mends_the_file() {
    let broken = with_steps("stepz = 300");
    let place = Place::new(&[("demo.toml", &broken)]);
    let mut session = Session::start(&place);
    session.wait_for("✗ 1 error");
    session.type_text("F");
    session.wait_for("✓ valid");
    let text = fs::read_to_string(place.path().join("recipes/demo.toml")).unwrap();
    assert_eq!(text, with_steps("steps = 300"));
    session.quit();
}

#[test]
fn the_editor_gets_the_terminal_and_its_work_is_seen() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let script = place.path().join("editor");
    fs::write(
        &script,
        "#!/bin/sh\nstty -a | grep -q -- ' icanon' && echo line mode\necho editing \"$1\"\nread answer\nsed -i \"s/^steps = .*/steps = $answer/\" \"$2\"\n",
    )
    .unwrap();
    let mut permissions = fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&script, permissions).unwrap();
    let editor = script.to_str().unwrap();
    let mut session = Session::start_with(&place, &[("EDITOR", editor)], (120, 36));
    session.wait_for("✓ valid r1");
    session.type_text("E");
    session.wait_for("editing +1");
    session.wait_for("line mode");
    session.type_text("777\n");
    session.wait_for("✓ valid r2");
    session.wait_for("777");
    session.quit();
}
