//! The Mapping screen on real files: a directory opened, read, verified, exported.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use trestle::mapping::{Table, View};
use trestle::spec::{ExpertStyle, find};

use crate::session::{Place, Session};

const DEMO: &str = include_str!("../../recipes/demo.toml");
const TINY: &str = include_str!("../../recipes/tiny-smoke.toml");

/// Writes the toy as a Hugging Face directory, without the tensors whose name has `without` in it.
fn toy(folder: &Path, without: &str) {
    let config = find("toy").unwrap().text_only();
    let view = View::huggingface(&Table::new(&config, ExpertStyle::QWEN3_5));
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in view
        .tensors
        .iter()
        .filter(|t| without.is_empty() || !t.name.contains(without))
    {
        let start = data.len();
        for at in 0..tensor.shape.elements() {
            // Small numbers of both signs in bf16.
            let value = (at % 251) as f32 / 500.0 - 0.25;
            data.extend_from_slice(&value.to_bits().to_le_bytes()[2..]);
        }
        header.insert(
            tensor.name.clone(),
            json!({ "dtype": "BF16", "shape": tensor.shape.0, "data_offsets": [start, data.len()] }),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
    fs::write(folder.join("config.json"), config.to_json().to_string()).unwrap();
}

/// Opens a directory by its path.
fn open(session: &mut Session, path: &str) {
    session.type_text("o");
    session.wait_for("Open a model");
    session.type_text("d");
    session.wait_for("Open files");
    session.type_text(path);
    session.type_text("\r");
}

/// Searches for a name and leaves the tree at it. An escape and a letter in one go would be that letter with alt, so it waits in between.
fn go_to(session: &mut Session, name: &str) {
    session.type_text(&format!("/{name}\r"));
    session.wait_gone("equal ones once");
    session.type_text("\x1b");
    session.wait_for("equal ones once");
}

#[test]
fn a_directory_is_opened_read_verified_and_exported() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    toy(&place.path().join("whole"), "");
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    session.type_text("2");
    session.wait_for("Megatron side");
    open(&mut session, "whole");
    session.wait_for("Hugging Face side, whole");
    session.wait_for("✗ 0 unmapped");
    go_to(&mut session, "layers.3.self_attn.q_proj");
    session.wait_for("gated qkv");
    session.type_text("i");
    session.wait_for("elements");
    session.wait_for("min -0.2");
    session.type_text("+v");
    session.wait_until("the end of the round trip", |screen| {
        screen.contains("bit-exact") && screen.contains("0 different")
    });
    session.type_text("\t");
    session.wait_for("Megatron side, whole");
    session.type_text("x");
    session.wait_for("Export the table");
    session.type_text("\r");
    session.wait_for("wrote whole-mapping.csv");
    let table = fs::read_to_string(place.path().join("whole-mapping.csv")).unwrap();
    assert!(table.contains("decoder.layers.3.self_attention.linear_qkv.weight"));
    // A second time there is such a file.
    session.type_text("x\r");
    session.wait_for("cannot write");
    session.quit();
}

#[test]
fn a_directory_with_a_gap_shows_it() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    toy(&place.path().join("gap"), "layers.1.mlp.up_proj");
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    session.type_text("2");
    session.wait_for("Megatron side");
    open(&mut session, "nowhere");
    session.wait_for("nowhere");
    open(&mut session, "gap");
    session.wait_for("1 problem");
    session.type_text("]");
    session.wait_for("1 of 1");
    session.wait_for("up_proj.weight");
    session.type_text("v");
    session.wait_for("the files have problems");
    session.quit();
}

#[test]
fn megatron_directories_are_opened_with_their_own_layout() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    toy(&place.path().join("whole"), "");
    for (out, arguments) in [
        (
            "ranks",
            &["--format", "shards", "--tp", "2", "--pp", "2"][..],
        ),
        ("dist", &["--format", "torch_dist"][..]),
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_trestle"))
            .args(["convert", "import", "whole", out])
            .args(arguments)
            .current_dir(place.path())
            .env("HOME", place.path())
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{}",
            String::from_utf8_lossy(&status.stderr)
        );
    }
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    session.type_text("2");
    session.wait_for("Megatron side");
    open(&mut session, "ranks");
    session.wait_for("Megatron side, ranks");
    session.wait_for("[tp2] pp2 vpp1 ep1 etp1 of the files");
    go_to(&mut session, "layers.3.mlp.linear_fc1.weight");
    session.wait_for("tp1-pp1-ep0-etp0");
    session.type_text("i");
    session.wait_for("elements");
    session.type_text("v");
    session.wait_until("the end of the round trip", |screen| {
        screen.contains("bit-exact") && screen.contains("0 different")
    });
    open(&mut session, "dist");
    session.wait_until("the other directory", |screen| {
        screen.contains("dist") && !screen.contains("side, ranks")
    });
    session.wait_for("✗ 0 unmapped");
    session.quit();
}

#[test]
fn a_run_s_latest_checkpoint_is_opened_and_goes_round() {
    let place = Place::new(&[("demo.toml", DEMO), ("tiny-smoke.toml", TINY)]);
    let trained = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .args(["train", "recipes/tiny-smoke.toml"])
        .current_dir(place.path())
        .env("HOME", place.path())
        .output()
        .unwrap();
    assert!(
        trained.status.success(),
        "{}",
        String::from_utf8_lossy(&trained.stderr)
    );
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    session.type_text("5");
    session.wait_for("tiny-smoke-1");
    session.type_text("2");
    session.wait_for("Megatron side");
    session.type_text("o");
    session.wait_for("Open a model");
    session.type_text("l");
    session.wait_for("Hugging Face side, tiny-smoke-1 step-00000020");
    session.wait_for("✗ 0 unmapped");
    session.type_text("v");
    session.wait_for("0 different");
    session.quit();
}
