//! recipes import, recipes export.

use super::trestle;

const NINE: &str = "recipes/megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml";

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_recipe_goes_out_as_yaml_and_comes_back_as_a_file_that_checks() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("ConfigContainer.yaml");
    let toml = folder.path().join("mine.toml");
    let output = trestle(&[
        "recipes",
        "export",
        NINE,
        "--yaml",
        "--set",
        "train.steps=40",
    ]);
    assert!(output.status.success());
    std::fs::write(&yaml, &output.stdout).unwrap();
    let (yaml, toml) = (yaml.to_str().unwrap(), toml.to_str().unwrap());
    let output = trestle(&["recipes", "import", yaml, "-o", toml]);
    assert!(output.status.success(), "{}", text(output.stderr));
    assert_eq!(text(output.stderr), "");
    let written = std::fs::read_to_string(toml).unwrap();
    assert!(written.contains("steps = 40"), "{written}");
    assert!(written.contains(&format!("{NINE}\"]")), "{written}");
    // The path in `extends` is seen from the new file's folder.
    let output = trestle(&["check", toml]);
    assert!(output.status.success(), "{}", text(output.stdout));
    let output = trestle(&["recipes", "export", toml, "--base", NINE]);
    assert_eq!(text(output.stdout), "train.train_iters=40\n");
    let output = trestle(&["recipes", "export", toml, "--changed"]);
    assert_eq!(text(output.stdout), "train.train_iters=40\n");
    // What is there is left alone.
    let output = trestle(&["recipes", "import", yaml, "-o", toml]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(toml).unwrap(), written);
}

#[test]
fn overrides_are_one_a_line_and_all_of_them_without_a_base() {
    let output = trestle(&["recipes", "export", NINE, "--overrides"]);
    let lines = text(output.stdout);
    for line in [
        "model.tensor_model_parallel_size=4",
        "model.virtual_pipeline_model_parallel_size=null",
        "model.params_dtype=torch.bfloat16",
        "optimizer.adam_eps=1e-8",
    ] {
        assert!(
            lines.lines().any(|known| known == line),
            "{line} in\n{lines}"
        );
    }
    let output = trestle(&["recipes", "export", "recipes/demo.toml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(output.stderr).contains("no recipe for Megatron-Bridge"));
}

#[test]
fn a_file_that_is_no_configuration_ends_with_the_place_and_exit_code_three() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let name = path.to_str().unwrap();
    for (bytes, words) in [
        (&b"model:\n  a: [1\ntrain: 2\n"[..], ":3:"),
        (&b"\xff\xfe\x00"[..], "is not UTF-8 text"),
        (&vec![b'a'; (5 << 20) + 7], "has at most"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let output = trestle(&["recipes", "import", name]);
        assert_eq!(output.status.code(), Some(3));
        let said = text(output.stderr);
        assert!(said.contains(words) && said.contains(name), "{said}");
        assert_eq!(output.stdout, b"");
    }
    let output = trestle(&["recipes", "import", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn what_a_dry_run_prints_comes_through_a_pipe() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .args(["recipes", "import", "-", "--alone", "--gpus", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(b"train:\n  train_iters: 5\n  train_itres: 6\n")
        .unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let toml = text(output.stdout);
    assert!(
        toml.contains("steps = 5") && toml.contains("gpus = 2"),
        "{toml}"
    );
    let warned = text(output.stderr);
    assert!(
        warned.contains("-:3:3") && warned.contains("nearest: train.train_iters"),
        "{warned}"
    );
}
