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

#[test]
fn which_iteration_is_read_is_never_a_guess() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("hf"), "dense", "dense", &[]);
    let (steps, other) = (at("steps"), at("other"));
    let import = |out: &Path, step: &str| {
        done(&[
            "convert",
            "import",
            text(&hf),
            text(out),
            "--iteration",
            step,
        ]);
    };
    import(&steps, "100");
    import(&other, "50");
    let verify = ["verify", text(&steps), text(&hf)];
    let tracker = steps.join("latest_checkpointed_iteration.txt");
    // The only one there needs no tracker.
    fs::remove_file(&tracker).unwrap();
    done(&verify);
    fs::write(&tracker, "200\n").unwrap();
    let error = refused(4, &verify);
    assert!(
        error.contains("lacks iter_0000200") && error.contains("it has iter_0000100"),
        "{error}"
    );
    fs::rename(other.join("iter_0000050"), steps.join("iter_0000050")).unwrap();
    fs::remove_file(&tracker).unwrap();
    let error = refused(4, &verify);
    assert!(
        error.contains("iter_0000050, iter_0000100") && error.contains("folder of one iteration"),
        "{error}"
    );
    done(&["verify", text(&steps.join("iter_0000050")), text(&hf)]);
    fs::create_dir(at("empty")).unwrap();
    let error = refused(4, &["verify", text(&at("empty")), text(&hf)]);
    assert!(
        error.contains("holds no checkpoint") && error.contains("tp0-pp0-ep0-etp0"),
        "{error}"
    );
}

#[test]
fn ranks_of_an_interleaved_pipeline_need_their_layout_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("hf"), "dense", "dense", &[]);
    let ranks = at("ranks");
    let import = [
        "convert",
        "import",
        text(&hf),
        text(&ranks),
        "--format",
        "shards",
    ];
    let layout = ["--pp", "2", "--pipeline-layout", "Et|t|tt|mL"];
    done(&[&import[..], &layout].concat());
    let verify = ["verify", text(&ranks), text(&hf)];
    done(&verify);
    fs::remove_file(ranks.join("layout.json")).unwrap();
    let error = refused(4, &verify);
    assert!(
        error.contains("without layout.json each stage is taken to hold a run of layers"),
        "{error}"
    );
    assert!(!error.contains("used by  in"), "{error}");
    // Where layers are of the same kinds only values tell, so the guess is said.
    done(&[&import[..], &["--pp", "2", "--vpp", "2", "--overwrite"]].concat());
    fs::remove_file(ranks.join("layout.json")).unwrap();
    let output = trestle(&verify);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("warning: ") && said.contains("has no layout.json"),
        "{said}"
    );
    // Degrees that names alone make up.
    fs::rename(
        ranks.join("tp0-pp0-ep0-etp0.safetensors"),
        ranks.join("tp6-pp0-ep0-etp0.safetensors"),
    )
    .unwrap();
    let error = refused(4, &verify);
    assert!(
        error.contains("the names of its files make up no layout") && error.contains("tp = 7"),
        "{error}"
    );
}

/// Puts a value over the first one of a tensor of a safetensors file.
fn poke(file: &Path, tensor: &str, value: f32) {
    let mut bytes = fs::read(file).unwrap();
    let header = trestle::checkpoint::safetensors::Header::read(file).unwrap();
    let found = header.tensors.iter().find(|t| t.name == tensor).unwrap();
    let at = found.extents[0].offset as usize;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn values_that_are_no_numbers_are_told_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("hf"), "dense", "dense", &[]);
    let file = hf.join("model.safetensors");
    let said = |arguments: &[&str]| {
        let output = trestle(arguments);
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let import = |out: &str| said(&["convert", "import", text(&hf), text(&at(out))]);
    assert!(!import("clean").contains("warning"));
    poke(&file, "model.layers.1.linear_attn.norm.weight", f32::NAN);
    poke(&file, "model.norm.weight", f32::NEG_INFINITY);
    let text_out = import("out");
    assert!(
        text_out.contains("warning: NaN or infinite values in 2 tensors")
            && text_out.contains("decoder.final_layernorm.weight (1)"),
        "{text_out}"
    );
    let verified = said(&["verify", text(&hf), text(&at("out"))]);
    assert!(
        verified.starts_with("same") && verified.contains("warning: NaN"),
        "{verified}"
    );
    // 1e30 is a number in f32 and none in f16.
    poke(&file, "model.norm.weight", 1e30);
    let arguments = ["convert", "import", text(&hf), text(&at("half"))].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = said(&[&arguments[..], &["--dtype", "float16", "--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    let names: Vec<&str> = report["not_finite"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"decoder.final_layernorm.weight"),
        "{report}"
    );
}

#[test]
fn of_a_run_the_newest_complete_checkpoint_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let newest = model(&at("run/checkpoints/step-00000012"), "dense", "dense", &[]);
    let older = model(&at("run/checkpoints/step-00000009"), "moe", "moe", &[]);
    let torn = model(&at("run/checkpoints/step-00000020"), "moe", "moe", &[]);
    for complete in [&newest, &older] {
        fs::write(complete.join("training.json"), "{}").unwrap();
    }
    assert!(!torn.join("training.json").exists());
    done(&["convert", "import", text(&at("run")), text(&at("out"))]);
    done(&["verify", text(&newest), text(&at("out"))]);
}

#[test]
fn more_ranks_than_files_may_be_open_at_first_are_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let hf = model(&at("hf"), "moe", "moe", &[]);
    let command = format!(
        "ulimit -Sn 40; set -e; {bin} convert import {hf} {out} --format shards --pp 4 --ep 8 --etp 2; {bin} verify {out} {hf}",
        bin = env!("CARGO_BIN_EXE_trestle"),
        hf = hf.display(),
        out = at("ranks").display(),
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &command])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("in 64 files") && said.contains("same: "),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
