//! map: both sides of a model, one element's way, what has no partner, refused layouts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{snapshot, transcript, trestle};

const GOLDEN: &str = "tests/golden/mapping";

/// One JSON object a line.
fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = trestle(arguments).stdout;
    let text = String::from_utf8(output).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A directory with a golden's weights under the usual name, after `change` to their header.
fn directory(
    case: &str,
    file: &str,
    change: impl FnOnce(&mut serde_json::Map<String, Value>),
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(GOLDEN)
        .join(case);
    fs::copy(
        golden.join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let bytes = fs::read(golden.join(file)).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(header.as_object_mut().unwrap());
    let mut header = serde_json::to_vec(&header).unwrap();
    while !header.len().is_multiple_of(8) {
        header.push(b' ');
    }
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(&bytes[8 + length..]);
    fs::write(folder.path().join("model.safetensors"), out).unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

fn rename(header: &mut serde_json::Map<String, Value>, from: &str, to: &str) {
    let entry = header.remove(from).unwrap();
    header.insert(to.into(), entry);
}

#[test]
fn the_table_has_both_sides() {
    snapshot!("map_toy", ["map", "toy", "--tensor", "*layers.3.*"]);
    snapshot!(
        "map_layout",
        [
            "map",
            "toy-moe",
            "--tp",
            "2",
            "--pp",
            "2",
            "--ep",
            "4",
            "--spelling",
            "transformer_layer",
            "--tensor",
            "mtp.*",
        ]
    );
    snapshot!(
        "map_tied",
        ["map", "0.8b", "--pp", "2", "--tensor", "embed"]
    );
    snapshot!(
        "map_uneven",
        [
            "map",
            "35b-a3b",
            "--pp",
            "2",
            "--first-stage-layers",
            "17",
            "--last-stage-layers",
            "23",
            "--ep",
            "8",
            "--text-only",
            "--tensor",
            "*layers.17.mlp*",
        ]
    );
}

#[test]
fn an_element_is_followed_there_and_back() {
    snapshot!(
        "map_trace",
        [
            "map",
            "35b-a3b",
            "--tp",
            "2",
            "--ep",
            "4",
            "--trace",
            "model.layers.0.linear_attn.in_proj_qkv.weight[5000,7]",
        ]
    );
    snapshot!(
        "map_trace_expert",
        [
            "map",
            "toy-moe",
            "--ep",
            "4",
            "--cp",
            "2",
            "--trace",
            "decoder.layers.2.mlp.experts.linear_fc1.weight5[40,3]",
        ]
    );
    snapshot!(
        "map_trace_unknown",
        [
            "map",
            "toy",
            "--trace",
            "model.layers.3.self_attn.qproj.weight[0,0]"
        ]
    );
    snapshot!(
        "map_trace_outside",
        ["map", "toy", "--trace", "model.norm.weight[64]"]
    );
    snapshot!(
        "map_trace_no_index",
        ["map", "toy", "--trace", "model.norm.weight"]
    );
}

#[test]
fn the_way_back_ends_where_the_way_there_began() {
    for (model, element) in [
        ("toy", "model.layers.3.self_attn.q_proj.weight[17,5]"),
        ("toy", "model.layers.0.linear_attn.conv1d.weight[33,0,2]"),
        ("toy-moe", "model.layers.1.mlp.experts.down_proj[6,9,31]"),
        ("toy-moe", "mtp.layers.0.mlp.experts.3.up_proj.weight[1,2]"),
        ("0.8b", "model.visual.blocks.5.attn.qkv.bias[800]"),
        ("0.8b", "mtp.fc.weight[3,1500]"),
    ] {
        let traced = &lines(&["map", model, "--tp", "2", "--trace", element, "--json"])[0];
        let (name, index) = element.trim_end_matches(']').split_once('[').unwrap();
        let index: Vec<usize> = index.split(',').map(|n| n.parse().unwrap()).collect();
        assert_eq!(traced["back"], json!({"name": name, "index": index}));
        assert_eq!(traced["huggingface"], traced["back"]);
        assert!(!traced["ranks"].as_array().unwrap().is_empty());
    }
}

#[test]
fn layouts_that_cannot_be_are_refused_with_their_two_numbers() {
    let refusals: [&[&str]; 9] = [
        &["map", "0.8b", "--tp", "3"],
        &["map", "toy", "--tp", "4"],
        &["map", "toy", "--pp", "3"],
        &[
            "map",
            "toy",
            "--pp",
            "2",
            "--first-stage-layers",
            "1",
            "--last-stage-layers",
            "1",
        ],
        &["map", "toy-moe", "--ep", "3"],
        &["map", "toy", "--ep", "2"],
        &["map", "toy-moe", "--tp", "2", "--ep", "4", "--world", "6"],
        &["map", "toy", "--pipeline-layout", "Ettt|tmL", "--pp", "4"],
        &["map", "toy", "--tp", "2", "--cp", "2"],
    ];
    let text: Vec<String> = refusals.iter().map(|r| transcript(r)).collect();
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("map_refusals", text.join("\n"));
    });
}

#[test]
fn json_has_an_object_for_each_tensor() {
    let tensors = lines(&[
        "map",
        "toy-moe",
        "--tp",
        "2",
        "--ep",
        "2",
        "--sequential-experts",
        "--json",
    ]);
    assert_eq!(tensors.len(), 143);
    let qkv = tensors.iter().find(|t| t["rule"] == "gated qkv").unwrap();
    assert_eq!(qkv["rank_shape"], json!([96, 64]));
    assert_eq!(qkv["huggingface"].as_array().unwrap().len(), 3);
    assert_eq!(
        qkv["permutation"][1],
        json!({"row": 16, "source": 0, "source_row": 32, "rows": 16})
    );
    let expert = tensors.iter().find(|t| t["expert"] == 5).unwrap();
    assert_eq!(
        expert["megatron"],
        "decoder.layers.0.mlp.experts.local_experts.5.linear_fc1.weight"
    );
    assert_eq!(
        expert["held_by"],
        json!([{
            "stage": 0,
            "name": "decoder.layers.0.mlp.experts.local_experts.1.linear_fc1.weight",
            "ranks": "1",
        }])
    );
    assert_eq!(expert["huggingface"][0]["rows"], json!([320, 384]));
}

#[test]
fn names_on_ranks_and_shapes_are_those_of_the_goldens() {
    for (case, layout) in [
        ("dense", vec!["--tp", "2", "--pp", "2"]),
        ("dense-tied", vec!["--tp", "2", "--pp", "2"]),
        ("dense-tied-no-mtp", vec!["--tp", "2", "--pp", "2"]),
        ("moe", vec!["--tp", "2", "--ep", "2", "--etp", "2"]),
        (
            "moe-sequential",
            vec!["--tp", "2", "--ep", "2", "--sequential-experts"],
        ),
        ("vl-moe", vec!["--tp", "2", "--ep", "2"]),
    ] {
        let config = format!("{GOLDEN}/{case}/config.json");
        let mut arguments = vec!["map", config.as_str(), "--json"];
        arguments.extend(&layout);
        let mut ours: Vec<String> = Vec::new();
        for tensor in lines(&arguments) {
            for holder in tensor["held_by"].as_array().unwrap() {
                let ranks = holder["ranks"].as_str().unwrap();
                for rank in expand(ranks) {
                    let name = holder["name"].as_str().unwrap();
                    ours.push(format!("{rank} {name} {}", tensor["rank_shape"]));
                }
            }
        }
        ours.sort();
        let folder = match case {
            "moe" => "tp2-etp2-ep2",
            "moe-sequential" | "vl-moe" => "tp2-ep2",
            _ => "tp2-pp2",
        };
        let theirs = on_ranks(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(GOLDEN)
                .join(case)
                .join(folder),
            case,
        );
        assert_eq!(ours, theirs, "{case}");
    }
}

#[test]
fn names_and_cuts_are_those_of_megatrons_modules() {
    for case in [
        "dense",
        "dense-tied",
        "dense-tied-no-mtp",
        "moe",
        "moe-sequential",
        "vl-dense",
        "vl-moe",
    ] {
        let config = format!("{GOLDEN}/{case}/config.json");
        let mut arguments = vec!["map", config.as_str(), "--json"];
        if case == "moe-sequential" {
            arguments.push("--sequential-experts");
        }
        let ours: BTreeSet<String> = lines(&arguments)
            .iter()
            .map(|t| {
                format!(
                    "{} {}",
                    t["megatron"].as_str().unwrap(),
                    t["cut"].as_str().unwrap()
                )
            })
            .collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(GOLDEN)
            .join(case)
            .join("kinds.tsv");
        let theirs: BTreeSet<String> = fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| {
                let fields: Vec<&str> = line.split('\t').collect();
                // The file has the module's cut; a row-parallel module has its bias whole.
                let cut = match fields[4] {
                    "row" if fields[1].rsplit('.').next() == Some("bias") => "replicated",
                    cut => cut,
                };
                format!("{} {cut}", fields[1])
            })
            .collect();
        assert_eq!(ours, theirs, "{case}");
    }
}

/// `0-2,5` as numbers.
fn expand(ranks: &str) -> Vec<usize> {
    let parts = ranks.split(',').map(|run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap()
    });
    parts.flatten().collect()
}

/// Every tensor of every rank's golden file: rank, name, extents.
fn on_ranks(folder: &Path, case: &str) -> Vec<String> {
    let mut all = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let place: Vec<usize> = name
            .split('-')
            .map(|part| {
                part.trim_start_matches(char::is_alphabetic)
                    .parse()
                    .unwrap()
            })
            .collect();
        let rank = match case {
            // Four ranks: (tp, ep, etp) is (0,0,0) (1,0,1) (0,1,0) (1,1,1).
            "moe" => 2 * place[2] + place[3],
            _ => 2 * place[1] + place[0],
        };
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        for (name, tensor) in header.as_object().unwrap() {
            if name != "__metadata__" {
                all.push(format!("{rank} {name} {}", tensor["shape"]));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_directory_with_all_tensors_has_nothing_unmapped() {
    for (case, file, tensors, megatron) in [
        ("dense", "hf.safetensors", 71, 53),
        ("vl-dense", "hf.safetensors", 104, 86),
        ("moe", "hf-fused.safetensors", 113, 143),
        ("moe", "hf-fused-mtp-fused.safetensors", 91, 143),
        ("moe", "hf-per-expert.safetensors", 201, 143),
    ] {
        let (_folder, path) = directory(case, file, |_| {});
        let output = trestle(&["map", path.to_str().unwrap(), "--unmapped"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text,
            format!(
                "every one of {tensors} Hugging Face and {megatron} Megatron tensors has its partner\n"
            ),
            "{case} {file}"
        );
        assert_eq!(output.status.code(), Some(0), "{case} {file}");
    }
}

#[test]
fn what_is_missing_left_over_or_of_another_shape_or_type_is_named() {
    let (_folder, path) = directory("vl-dense", "hf.safetensors", |header| {
        rename(header, "mtp.fc.weight", "mtp.fcc.weight");
        rename(
            header,
            "model.visual.pos_embed.weight",
            "model.visual.deepstack.weight",
        );
        header["model.language_model.norm.weight"]["shape"] = json!([16, 2]);
        header["lm_head.weight"]["dtype"] = "I32".into();
    });
    let path = path.to_str().unwrap();
    let output = trestle(&["map", path, "--unmapped"]);
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "`mtp.fc.weight` is missing; used by `language_model.mtp.layers.0.eh_proj.weight` (direct); the nearest name is `mtp.fcc.weight`",
        "`mtp.fcc.weight` has no place in this model; the nearest name is `mtp.fc.weight`",
        "`model.visual.pos_embed.weight` is missing; used by `vision_model.pos_embed.weight` (direct)",
        "`model.visual.deepstack.weight` has no place in this model",
        "`model.language_model.norm.weight` is [16, 2], but the model makes it [32]",
        "`lm_head.weight` has the type i32; weights are f32, bf16 or f16",
        "6 problems of 104 Hugging Face and 86 Megatron tensors",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    // Without --unmapped the table comes as well, and the problems are an error.
    let output = trestle(&["map", path]);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: 6 problems\n"), "{stderr}");
    assert!(output.stdout.len() > 1000);
    let problems = lines(&["map", path, "--unmapped", "--json"]);
    assert_eq!(problems.len(), 6);
    assert!(problems.iter().any(|p| p["nearest"] == "mtp.fcc.weight"));
}

#[test]
fn transposed_experts_and_a_repeated_head_are_remarked() {
    let (_folder, path) = directory("moe", "hf-fused.safetensors", |header| {
        // [8, 16, 32] and [8, 32, 8] as other writers have them.
        for (name, shape) in [("gate_up_proj", [8, 32, 16]), ("down_proj", [8, 8, 32])] {
            let name = format!("model.layers.0.mlp.experts.{name}");
            header[name.as_str()]["shape"] = json!(shape);
        }
    });
    let config = path.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let tied = text.replace(
        "\"tie_word_embeddings\": false",
        "\"tie_word_embeddings\": true",
    );
    assert_ne!(tied, text);
    fs::write(&config, tied).unwrap();
    let output = trestle(&["map", path.to_str().unwrap(), "--unmapped"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for expected in [
        "2 tensors of experts lie transposed, `model.layers.0.mlp.experts.gate_up_proj` the first",
        "`lm_head.weight` repeats the embedding, to which it is tied, and is not read",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn experts_in_both_styles_are_refused() {
    let (_folder, path) = directory("moe", "hf-fused.safetensors", |header| {
        rename(
            header,
            "model.layers.1.mlp.experts.down_proj",
            "model.layers.1.mlp.experts.0.down_proj.weight",
        );
    });
    let output = trestle(&["map", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("experts are either all fused or all one by one"),
        "{stderr}"
    );
}

#[test]
fn directories_of_other_families_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"model_type": "llama", "mtp_num_hidden_layers": 1});
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let output = trestle(&["map", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("this is a `llama` config"), "{stderr}");
}
