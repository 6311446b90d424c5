//! Help, completions, manual, usage errors.

use super::{snapshot, trestle};

#[test]
fn help_reads_like_a_good_tools() {
    snapshot!("help", ["--help"]);
    snapshot!("help_train", ["train", "--help"]);
    snapshot!("help_check", ["check", "-h"]);
}

#[test]
fn every_subcommand_has_help_with_its_arguments_explained() {
    let help = String::from_utf8(trestle(&["--help"]).stdout).unwrap();
    let names: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        let output = trestle(&[name, "--help"]);
        assert!(output.status.success(), "{name}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Usage: trestle"), "{name}:\n{text}");
    }
}

#[test]
fn usage_errors_have_exit_code_two() {
    snapshot!("usage_unknown_subcommand", ["trian"]);
    snapshot!("usage_missing_argument", ["check"]);
    snapshot!("usage_unknown_option", ["show", "a.toml", "--jsn"]);
}

#[test]
fn completions_and_manual_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = trestle(&["completions", shell]);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("tokenizer") && text.contains("checkpoint"),
            "{shell}"
        );
    }
    let page = String::from_utf8(trestle(&["man"]).stdout).unwrap();
    assert!(page.starts_with(".ie") && page.contains(".TH trestle 1"));
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("man1");
    assert!(
        trestle(&["man", "--dir", dir.to_str().unwrap()])
            .status
            .success()
    );
    assert!(dir.join("trestle-train.1").is_file());
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .args(["keys", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
}
