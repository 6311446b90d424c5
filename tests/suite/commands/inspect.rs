//! `trestle inspect` on every kind of directory, and on what is none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use super::{snapshot, trestle};

const GOLDEN: &str = "tests/golden/mapping";

/// Standard output of a success.
fn said(arguments: &[&str]) -> String {
    let output = trestle(&[&["inspect"], arguments].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&said(&[arguments, &["--json"]].concat())).unwrap()
}

/// Standard error of bad data.
fn refused(arguments: &[&str]) -> String {
    let output = trestle(&[&["inspect"], arguments].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{arguments:?}: {error}");
    error
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder with the golden dense model of one file, and its config.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dense = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(GOLDEN)
        .join("dense");
    for (from, to) in [
        ("hf.safetensors", "model.safetensors"),
        ("config.json", "config.json"),
    ] {
        fs::copy(dense.join(from), folder.path().join(to)).unwrap();
    }
    folder
}

#[test]
fn a_file_is_listed() {
    snapshot!(
        "inspect_file",
        ["inspect", "tests/golden/mapping/norm_shift.safetensors"]
    );
}

#[test]
fn statistics_and_histograms_are_beside_the_tensors() {
    snapshot!(
        "inspect_statistics",
        [
            "inspect",
            "tests/golden/mapping/norm_shift.safetensors",
            "--tensor",
            "bf16-to-*",
            "--stats",
            "--histogram",
            "--hash"
        ]
    );
}

#[test]
fn ranks_are_listed_with_their_files() {
    snapshot!(
        "inspect_shards",
        [
            "inspect",
            "tests/golden/mapping/dense/tp2-pp2",
            "--tensor",
            "*.layers.0.self_attention.*proj.weight"
        ]
    );
}

#[test]
fn a_megatron_checkpoint_is_listed() {
    snapshot!(
        "inspect_torch_dist",
        [
            "inspect",
            "tests/golden/mapping/torch_dist/dense/tp2",
            "--tensor",
            "*.layers.3.*"
        ]
    );
}

#[test]
fn a_model_is_named_and_its_tensors_hash_the_same_in_every_format() {
    let folder = model();
    let found = json(&[text(folder.path()), "--hash", "--stats"]);
    assert_eq!(found["kind"], "hugging_face");
    assert_eq!(found["model"]["model_type"], "qwen3_5_text");
    assert_eq!(found["dtypes"][0]["dtype"], "F32");
    let bytes: u64 = found["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(found["bytes"], bytes);
    let megatron = json(&[
        &format!("{GOLDEN}/torch_dist/dense/tp2"),
        "--hash",
        "--stats",
    ]);
    assert_eq!(megatron["kind"], "torch_dist");
    let tensor = |whole: &Value, name: &str| -> Value {
        let all = whole["tensors"].as_array().unwrap();
        all.iter().find(|t| t["name"] == name).unwrap().clone()
    };
    for (hf, mg) in [
        (
            "model.layers.1.mlp.down_proj.weight",
            "decoder.layers.1.mlp.linear_fc2.weight",
        ),
        (
            "model.embed_tokens.weight",
            "embedding.word_embeddings.weight",
        ),
        ("mtp.fc.weight", "mtp.layers.0.eh_proj.weight"),
        (
            "model.layers.3.self_attn.o_proj.weight",
            "decoder.layers.3.self_attention.linear_proj.weight",
        ),
    ] {
        let (a, b) = (tensor(&found, hf), tensor(&megatron, mg));
        assert!(b["chunks"].as_u64().unwrap() > 1, "{mg} is in one piece");
        assert_eq!(a["blake3"], b["blake3"], "{hf}");
        assert_eq!(a["statistics"], b["statistics"], "{hf}");
    }
    assert!(said(&[text(folder.path())]).contains("qwen3_5_text: 4 layers of 32, MTP of depth 1"));

    // A config of another family is said, and the tensors are listed all the same.
    fs::write(
        folder.path().join("config.json"),
        r#"{"model_type":"llama"}"#,
    )
    .unwrap();
    let found = said(&[text(folder.path())]);
    assert!(
        found.contains("unknown:") && found.contains("llama"),
        "{found}"
    );
    assert!(found.contains("model.embed_tokens.weight"));
}

#[test]
fn a_run_shows_its_newest_checkpoint() {
    let run = tempfile::tempdir().unwrap();
    let model = model();
    fs::write(run.path().join("run.json"), "{}").unwrap();
    for step in [20, 40] {
        let folder = run.path().join(format!("checkpoints/step-000000{step}"));
        fs::create_dir_all(&folder).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::copy(model.path().join(name), folder.join(name)).unwrap();
        }
        fs::write(folder.join("training.safetensors"), [0; 2048]).unwrap();
        let state = format!(r#"{{"step":{step},"tokens":1234567}}"#);
        fs::write(folder.join("training.json"), state).unwrap();
    }
    let found = said(&[text(run.path())]);
    for expected in [
        "checkpoint of a run, a Hugging Face directory with training state",
        "checkpoints/step-00000040\n",
        "step 40, 1.23 M tokens seen, optimizer 2.0 KiB",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    assert_eq!(json(&[text(run.path())])["kind"], "checkpoint");
}

#[test]
fn nan_is_reported_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let header = r#"{"good":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"bad\u001b[31m":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
    bytes.extend([0xc0, 0x7f, 0x80, 0xff]);
    fs::write(&path, bytes).unwrap();
    let found = said(&[text(&path), "--stats"]);
    assert!(
        found.ends_with("a tensor has NaN or infinite elements: bad\\u{1b}[31m\n"),
        "{found}"
    );
    assert!(!found.contains('\x1b'), "an escape reaches the terminal");
    let found = json(&[text(&path), "--stats"]);
    let bad = &found["tensors"][1]["statistics"];
    assert_eq!(
        (&bad["nan"], &bad["negative_infinity"]),
        (&1.into(), &1.into())
    );
    assert_eq!(bad["min"], Value::Null);
    assert_eq!(found["tensors"][0]["statistics"]["mean"], 1.5);
}

#[test]
fn what_cannot_be_opened_has_a_reason_a_hint_and_code_4() {
    let folder = model();
    let here = folder.path();
    let whole = here.join("model.safetensors");
    let bytes = fs::read(&whole).unwrap();
    fs::write(&whole, &bytes[..bytes.len() - 7]).unwrap();
    let error = refused(&[text(here)]);
    assert!(error.contains("7 are missing"), "{error}");
    assert!(error.contains("hint: the file was cut off"), "{error}");

    fs::rename(&whole, here.join("model-00001-of-00002.safetensors")).unwrap();
    let index = here.join("model.safetensors.index.json");
    fs::write(
        &index,
        r#"{"weight_map":{"a":"model-00002-of-00002.safetensors"}}"#,
    )
    .unwrap();
    let error = refused(&[text(here)]);
    assert!(
        error.contains("model-00002-of-00002.safetensors: No such file"),
        "{error}"
    );
    assert!(error.contains("every file that its index names"), "{error}");

    fs::remove_file(&index).unwrap();
    let error = refused(&[text(here)]);
    assert!(error.contains("hint: inspect takes"), "{error}");

    let link = here.join("link");
    symlink("link", &link).unwrap();
    let error = refused(&[text(&link)]);
    assert!(error.contains("leads back to itself"), "{error}");

    fs::write(here.join("events.jsonl"), "").unwrap();
    let error = refused(&[text(here)]);
    assert!(error.contains("has no checkpoint"), "{error}");

    let error = refused(&["no/such/folder"]);
    assert!(error.contains("hint:"), "{error}");
    let file = format!("{GOLDEN}/norm_shift.safetensors");
    let error = refused(&[&file, "--tensor", "to-f32"]);
    assert!(error.contains("try --tensor '*to-f32*'"), "{error}");
    let output = trestle(&["inspect", &file, "--tensor", "[a"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_folder_of_iterations_is_opened_where_it_is_clear_which_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let stored = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(GOLDEN)
        .join("torch_dist/dense/tp1");
    let place = |step: &str| {
        let at = folder.path().join(step);
        fs::create_dir(&at).unwrap();
        for entry in fs::read_dir(&stored).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, at.join(from.file_name().unwrap())).unwrap();
        }
    };
    place("iter_0000005");
    let opened = || {
        json(&[text(folder.path())])["path"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(opened().ends_with("/iter_0000005"));
    place("iter_0000009");
    let error = refused(&[text(folder.path())]);
    assert!(
        error.contains("iter_0000005") && error.contains("iter_0000009"),
        "{error}"
    );
    fs::write(folder.path().join("latest_checkpointed_iteration.txt"), "9").unwrap();
    assert!(
        json(&[text(folder.path())])
            .to_string()
            .contains("iter_0000009")
    );
}
