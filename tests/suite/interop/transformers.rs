//! What `transformers` computes with models that went through us.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{python, script, skip};

/// Class and style of the toys, which are folders of the goldens and files in them.
const TOYS: [&str; 5] = [
    "dense/hf",
    "moe/hf-fused",
    "moe/hf-per-expert",
    "vl-dense/hf",
    "vl-moe/hf-fused",
];

/// What the script says.
fn run(python: &Path, arguments: &[&Path]) -> String {
    let output = Command::new(python)
        .arg(script("transformers_export.py"))
        .args(arguments)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes the toys in a folder.
fn make(python: &Path, folder: &Path, toys: &[&str]) {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mapping");
    let mut arguments = vec![Path::new("make"), &goldens, folder];
    arguments.extend(toys.iter().map(Path::new));
    run(python, &arguments);
}

/// What transformers finds in each pair of folders.
fn compare(python: &Path, pairs: &[(PathBuf, PathBuf)]) -> Vec<Value> {
    let mut arguments = vec![Path::new("compare")];
    arguments.extend(pairs.iter().flat_map(|(a, b)| [a.as_path(), b.as_path()]));
    serde_json::from_str(&run(python, &arguments)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Flips the sign of one weight of a tensor, the first shard that has it.
fn flip_a_sign(folder: &Path, tensor: &str) {
    let index = fs::read(folder.join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let shard = folder.join(index["weight_map"][tensor].as_str().unwrap());
    let mut bytes = fs::read(&shard).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let begin = json[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[header + begin + 1] ^= 0x80;
    fs::write(shard, bytes).unwrap();
}

/// Runs the program on a conversion.
fn convert(arguments: &[&Path]) {
    let output = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .arg("convert")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn transformers_computes_the_same_logits_with_our_export() {
    let python = match python("torch, transformers, safetensors") {
        Ok(python) => python,
        Err(reason) => return skip("transformers compared no logits", &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    make(&python, &here.join("hf"), &TOYS);
    let pairs = TOYS.map(|toy| {
        let path = |kind: &str| here.join(kind).join(toy);
        let (hf, megatron, back) = (path("hf"), path("megatron"), path("back"));
        for parent in [&megatron, &back].map(|path| path.parent().unwrap()) {
            fs::create_dir_all(parent).unwrap();
        }
        let import = [Path::new("import"), &hf, &megatron, Path::new("--format")];
        convert(&[&import[..], &[Path::new("torch_dist")]].concat());
        let export = [
            Path::new("export"),
            &megatron,
            &back,
            Path::new("--hf"),
            &hf,
        ];
        convert(&export);
        (hf, back)
    });
    for (toy, found) in TOYS.iter().zip(compare(&python, &pairs)) {
        let none = serde_json::json!([]);
        assert_eq!(found["logits_equal"], true, "{toy}: {found}");
        assert_eq!(found["names_that_differ"], none, "{toy}");
        assert_eq!(found["tensors_that_differ"], none, "{toy}");
        assert_eq!(found["files_that_differ"], none, "{toy}");
        // `A_log` and the norm of each of the three gated delta layers.
        assert_eq!(found["float32_tensors"], 6, "{toy}");
        let has_image = toy.starts_with("vl");
        assert_eq!(found["batches"], if has_image { 2 } else { 1 }, "{toy}");
        assert!(found["mtp_tensors"].as_u64().unwrap() >= 15, "{toy}");
    }
}

/// The comparison that the other test rests on can fail.
#[test]
fn transformers_sees_one_weight_that_changed() {
    let python = match python("torch, transformers, safetensors") {
        Ok(python) => python,
        Err(reason) => return skip("transformers compared no logits", &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    make(&python, folder.path(), &TOYS[..1]);
    let toy = folder.path().join(TOYS[0]);
    let [same, body, mtp] = ["same", "body", "mtp"].map(|name| folder.path().join(name));
    for other in [&same, &body, &mtp] {
        copy(&toy, other);
    }
    flip_a_sign(&body, "model.layers.3.self_attn.v_proj.weight");
    flip_a_sign(&mtp, "mtp.fc.weight");
    fs::write(mtp.join("tokenizer_config.json"), "{}").unwrap();

    let pairs = [same, body, mtp].map(|other| (toy.clone(), other));
    let found = compare(&python, &pairs);
    assert_eq!(found[0]["logits_equal"], true, "{}", found[0]);
    assert_eq!(found[0]["tensors_that_differ"], serde_json::json!([]));
    assert_eq!(found[1]["logits_equal"], false, "{}", found[1]);
    assert_eq!(
        found[1]["tensors_that_differ"],
        serde_json::json!(["model.layers.3.self_attn.v_proj.weight"])
    );
    // transformers does not run MTP.
    assert_eq!(found[2]["logits_equal"], true, "{}", found[2]);
    assert_eq!(
        found[2]["tensors_that_differ"],
        serde_json::json!(["mtp.fc.weight"])
    );
    assert_eq!(
        found[2]["files_that_differ"],
        serde_json::json!(["tokenizer_config.json"])
    );
}
