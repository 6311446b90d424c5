//! `trestle data` and `trestle tokenizer` as a user runs them, from any folder.

use std::path::Path;
use std::process::{Command, Output};

fn trestle(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trestle"))
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_recipe_beside_its_text_is_counted_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/demo.toml");
    std::fs::create_dir_all(here.join("own")).unwrap();
    std::fs::write(
        here.join("own/mine.toml"),
        format!(
            "extends = {:?}\n[data]\nsources = [\"*.txt\"]\nvalidation_fraction = 0.0\n",
            demo.display().to_string()
        ),
    )
    .unwrap();
    std::fs::write(here.join("own/a.txt"), "one text\n\n\nanother text\n").unwrap();

    let run = trestle(here, &["data", "own/mine.toml", "--json"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(json["train"]["documents"], 2);
    assert_eq!(json["train"]["bytes"], "one textanother text".len());
    assert_eq!(json["built"], true);
    assert_eq!(json["unigram_entropy"], serde_json::Value::Null);

    let run = trestle(here, &["data", "own/mine.toml"]);
    assert!(
        text(&run.stdout).contains("vocabulary       4096 ids"),
        "{}",
        text(&run.stdout)
    );

    std::fs::write(here.join("own/b.txt"), b"caf\xe9").unwrap();
    let run = trestle(here, &["data", "own/mine.toml"]);
    assert_eq!(run.status.code(), Some(4));
    let said = text(&run.stderr);
    assert!(
        said.contains("own/b.txt:1: byte 3 of the file is not UTF-8"),
        "{said}"
    );
    assert!(said.contains("hint: convert it first"), "{said}");
}

#[test]
fn a_tokenizer_is_trained_and_shows_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(
        here.join("t.txt"),
        "the cat and the hat and the mat ".repeat(20),
    )
    .unwrap();
    let run = trestle(
        here,
        &[
            "tokenizer",
            "train",
            "t.txt",
            "--vocab-size",
            "280",
            "--out",
            "own.json",
        ],
    );
    assert!(run.status.success(), "{}", text(&run.stderr));

    let run = trestle(
        here,
        &[
            "tokenizer",
            "encode",
            "the caf\u{e9}",
            "--tokenizer",
            "own.json",
        ],
    );
    let lines = text(&run.stdout);
    assert!(lines.contains("\"the\""), "{lines}");

    let run = trestle(here, &["tokenizer", "encode", "the cat", "--json"]);
    let ids: Vec<u32> = serde_json::from_slice(&run.stdout).unwrap();
    assert!(!ids.is_empty() && ids.iter().all(|&id| id < 4096));

    let run = trestle(
        here,
        &["tokenizer", "encode", "x", "--tokenizer", "none.json"],
    );
    assert_eq!(run.status.code(), Some(4));
    assert!(text(&run.stderr).contains("none.json"));
}
