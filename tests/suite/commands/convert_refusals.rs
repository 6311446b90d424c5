//! What `trestle convert` refuses before it touches anything: places where something would be lost, and configs of other models.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::trestle;
use crate::checkpoint::convert::goldens;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Standard error of a failure with this exit code.
fn refused(code: i32, arguments: &[&str]) -> String {
    let output = trestle(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    error
}

fn done(arguments: &[&str]) {
    let output = trestle(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
}

/// The weights of one golden case with the config of another, changed.
fn model(at: &Path, weights: &str, config: &str, changes: &[(&str, Value)]) -> PathBuf {
    let file = ["hf.safetensors", "hf-fused.safetensors"]
        .map(|name| goldens().join(weights).join(name))
        .into_iter()
        .find(|path| path.exists())
        .unwrap();
    fs::create_dir_all(at).unwrap();
    fs::copy(file, at.join("model.safetensors")).unwrap();
    let json = fs::read_to_string(goldens().join(config).join("config.json")).unwrap();
    let mut json: Value = serde_json::from_str(&json).unwrap();
    for (key, value) in changes {
        json[key] = value.clone();
    }
    fs::write(at.join("config.json"), json.to_string()).unwrap();
    at.to_owned()
}

#[test]
fn a_config_of_another_model_is_told_in_a_line_and_not_tensor_by_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("model");
    let out = folder.path().join("out");
    let said = |weights, config, changes: &[(&str, Value)]| {
        model(&at, weights, config, changes);
        let error = refused(4, &["convert", "import", text(&at), text(&out)]);
        error
            .strip_prefix(&format!("error: {}: ", at.display()))
            .unwrap()
            .to_owned()
    };
    for (weights, config, expected) in [
        (
            "vl-dense",
            "dense",
            "a text-only model, but the weights are of a vision-language",
        ),
        (
            "dense",
            "vl-dense",
            "a vision-language model, but the weights are of a text-only",
        ),
        (
            "moe",
            "dense",
            "a dense model, but the weights are of a mixture of experts",
        ),
        (
            "dense",
            "moe",
            "a mixture-of-experts model, but the weights are of a dense",
        ),
    ] {
        let error = said(weights, config, &[]);
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 2, "a line and a hint: {error}");
    }
    let kinds = |layers: usize| -> Value {
        let kind = |i| {
            if i % 4 == 3 {
                "full_attention"
            } else {
                "linear_attention"
            }
        };
        (0..layers).map(kind).collect()
    };
    for (changes, expected, hint) in [
        (
            vec![
                ("num_hidden_layers", json!(8)),
                ("layer_types", kinds(8)),
                ("num_experts", json!(4)),
            ],
            "num_hidden_layers is 8 in the config, but 4 in the weights; num_experts is 4 in the config, but 8 in the weights\n",
            "different models",
        ),
        (
            vec![("hidden_size", json!(64))],
            "hidden_size is 64 in the config, but 32 in the weights\n",
            "different models",
        ),
        (
            vec![("mtp_num_hidden_layers", json!(0))],
            "mtp_num_hidden_layers is 0 in the config, but 1 in the weights\n",
            "set mtp_num_hidden_layers",
        ),
        (
            vec![("mtp_num_hidden_layers", json!(2))],
            "mtp_num_hidden_layers is 2 in the config, but 1 in the weights\n",
            "set mtp_num_hidden_layers",
        ),
    ] {
        let error = said("moe", "moe", &changes);
        assert!(error.starts_with(expected), "{error}");
        assert!(
            error.lines().last().unwrap().contains(hint) && error.lines().count() <= 5,
            "{error}"
        );
    }
    assert!(!out.exists());
}

#[test]
fn an_output_that_would_take_its_input_away_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("outer/hf"), "dense", "dense", &[]);
    let inside = model(&at("new.partial/hf"), "dense", "dense", &[]);
    symlink(&hf, at("link")).unwrap();
    for (input, output) in [
        (&hf, &hf),
        (&hf, &at("outer")),
        (&hf, &at("link")),
        (&at("link"), &hf),
        (&inside, &at("new")),
    ] {
        let arguments = [
            "convert",
            "import",
            text(input),
            text(output),
            "--overwrite",
            "--restart",
        ];
        let error = refused(4, &arguments);
        assert!(
            error.contains("model.safetensors lies in") && error.contains("of its own"),
            "{error}"
        );
        assert!(hf.join("model.safetensors").exists() && inside.join("model.safetensors").exists());
    }
}

#[test]
fn what_is_not_ours_beside_the_output_is_neither_used_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("hf"), "dense", "dense", &[]);
    for (name, file) in [("out.partial", "mine"), ("out.replaced", "mine")] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join(file), "kept").unwrap();
    }
    let import = ["convert", "import", text(&hf), text(&at("out"))].map(str::to_owned);
    let import: Vec<&str> = import.iter().map(String::as_str).collect();
    for flags in [&[][..], &["--restart"], &["--overwrite"]] {
        let error = refused(1, &[&import[..], flags].concat());
        assert!(
            error.contains("out.partial is in the way") && error.contains("move it away"),
            "{error}"
        );
    }
    fs::rename(at("out.partial"), at("elsewhere")).unwrap();
    done(&import);
    done(&[&import[..], &["--overwrite", "--format", "shards"]].concat());
    assert!(at("out/layout.json").exists() && !at("out/iter_0000000").exists());
    assert!(!at("out/.trestle-lock").exists() && !at("out.partial").exists());
    assert_eq!(fs::read_to_string(at("out.replaced/mine")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(at("elsewhere/mine")).unwrap(), "kept");
}

#[test]
fn an_output_that_is_a_link_to_a_folder_is_that_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("hf"), "dense", "dense", &[]);
    fs::create_dir(at("disk")).unwrap();
    fs::create_dir(at("disk/real")).unwrap();
    symlink(at("disk/real"), at("link")).unwrap();
    done(&["convert", "import", text(&hf), text(&at("link"))]);
    assert!(at("link").is_symlink() && at("disk/real/config.json").exists());
}

#[test]
fn other_models_in_the_directory_do_not_go_along_and_loops_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("hf"), "dense", "dense", &[]);
    fs::create_dir(at("hf/assets")).unwrap();
    fs::write(at("hf/assets/note.txt"), "kept").unwrap();
    let (inside, back) = (at("hf/megatron"), at("hf/back"));
    done(&["convert", "import", text(&hf), text(&inside)]);
    let export = ["convert", "export", text(&inside), text(&back), "--hf"];
    done(&[&export[..], &[text(&hf)]].concat());
    assert!(back.join("assets/note.txt").exists() && !back.join("megatron").exists());
    symlink(at("hf"), at("hf/assets/up")).unwrap();
    let again = at("again");
    let export = ["convert", "export", text(&inside), text(&again), "--hf"];
    let error = refused(1, &[&export[..], &[text(&hf)]].concat());
    assert!(
        error.contains("assets/up") && error.contains("leads back to itself"),
        "{error}"
    );
    assert!(!again.exists() && !at("again.partial").exists());
}
