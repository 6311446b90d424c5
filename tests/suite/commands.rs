//! The program as others call it: standard output, standard error, exit code.

mod bench;
mod control;
mod convert;
mod convert_refusals;
mod help;
mod inspect;
mod launch;
mod map;
mod recipes;
mod yaml;

use std::path::Path;
use std::process::{Command, Output};

/// Runs the built program in the package's folder, without the user's terminal, colours and keymap.
fn trestle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trestle"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("NO_COLOR")
        .env(
            "XDG_CONFIG_HOME",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("no-such-folder"),
        )
        .env("TERM", "xterm-256color")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

/// What a command said, in a form for snapshots.
fn transcript(arguments: &[&str]) -> String {
    let output = trestle(arguments);
    format!(
        "$ trestle {}\n--- stdout\n{}--- stderr\n{}--- exit code {}\n",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status.code().unwrap_or(-1),
    )
}

macro_rules! snapshot {
    ($name:literal, $arguments:expr) => {
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!($name, super::transcript(&$arguments));
        });
    };
}
use snapshot;
