//! `trestle convert` and `trestle verify` as a user calls them, and what goes wrong.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::trestle;
use crate::checkpoint::convert::{cases, content, goldens, sources};
use crate::checkpoint::toy;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output of a success.
fn said(arguments: &[&str]) -> String {
    let output = trestle(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a failure with this exit code.
fn refused(code: i32, arguments: &[&str]) -> String {
    let output = trestle(arguments);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    error
}

/// A golden case as a directory of its own, with the companions that a real one has.
fn directory(case: &Path, source: &Path, folder: &Path) -> PathBuf {
    let at = folder.join(source.file_stem().unwrap());
    fs::create_dir_all(at.join("assets")).unwrap();
    fs::copy(source, at.join("model.safetensors")).unwrap();
    fs::copy(case.join("config.json"), at.join("config.json")).unwrap();
    fs::write(at.join("tokenizer.json"), "{}").unwrap();
    fs::write(at.join("assets/note.txt"), "kept").unwrap();
    at
}

#[test]
fn every_case_goes_to_torch_dist_and_back_with_its_companions() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        for source in sources(&case) {
            let hf = directory(&case, &source, folder.path());
            let (there, back) = (hf.with_extension("megatron"), hf.with_extension("back"));
            said(&["convert", "import", text(&hf), text(&there)]);
            let verified = said(&["verify", text(&hf), text(&there)]);
            assert!(verified.starts_with("same: "), "{verified}");
            said(&[
                "convert",
                "export",
                text(&there),
                text(&back),
                "--hf",
                text(&hf),
            ]);
            let file = "model.safetensors";
            assert!(
                content(&hf.join(file)) == content(&back.join(file)),
                "{case:?}"
            );
            let read = |path: &str| fs::read_to_string(back.join(path)).unwrap();
            assert_eq!(
                (read("tokenizer.json"), read("assets/note.txt")),
                ("{}".into(), "kept".into())
            );
            let config = |at: &Path| {
                let text = fs::read_to_string(at.join("config.json")).unwrap();
                serde_json::from_str::<Value>(&text).unwrap()
            };
            assert_eq!(config(&hf), config(&back));
        }
    }
}

#[test]
fn checkpoints_of_megatron_core_are_those_of_the_same_weights() {
    for (case, layout, hf) in [
        ("dense", "tp1", "hf.safetensors"),
        ("dense", "tp2", "hf.safetensors"),
        ("moe", "tp2-ep2", "hf-per-expert.safetensors"),
    ] {
        let stored = goldens().join("torch_dist").join(case).join(layout);
        let hf = goldens().join(case).join(hf);
        let said = said(&["verify", text(&stored), text(&hf)]);
        assert!(
            said.starts_with("same: ") && !said.contains("rounding"),
            "{said}"
        );
        // Its model is read off its shapes where nothing else tells it.
        let folder = tempfile::tempdir().unwrap();
        let ranks = folder.path().join("ranks");
        let reshard = [
            "convert",
            "reshard",
            text(&stored),
            text(&ranks),
            "--format",
            "shards",
        ];
        let two = ["--tp", "2", "--ep", "2"];
        let degrees = if case == "moe" { &two[..] } else { &two[..2] };
        self::said(&[&reshard[..], degrees].concat());
        let golden = goldens()
            .join(case)
            .join(if case == "moe" { "tp2-ep2" } else { "tp2" });
        for entry in fs::read_dir(golden).unwrap() {
            let file = entry.unwrap().path();
            let made = content(&ranks.join(file.file_name().unwrap()));
            assert!(made == content(&file), "{}", file.display());
        }
    }
}

#[test]
fn a_shard_size_makes_an_index_that_the_next_import_reads() {
    let folder = tempfile::tempdir().unwrap();
    let case = goldens().join("moe");
    let hf = directory(&case, &sources(&case)[0], folder.path());
    let (there, back) = (folder.path().join("mg"), folder.path().join("back"));
    said(&["convert", "import", text(&hf), text(&there)]);
    let export = [
        "convert",
        "export",
        text(&there),
        text(&back),
        "--hf",
        text(&hf),
    ];
    said(&[&export[..], &["--max-shard-size", "100KB"]].concat());
    assert!(back.join("model.safetensors.index.json").exists());
    assert!(back.join("model-00001-of-00004.safetensors").exists());
    assert!(said(&["verify", text(&back), text(&hf)]).starts_with("same: "));
}

#[test]
fn a_type_is_cast_and_the_round_trip_says_by_how_much_it_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    toy::Toy::dense().published_types().write(&hf);
    let there = folder.path().join("mg");
    let import = ["convert", "import", text(&hf), text(&there)];
    said(&[&import[..], &["--dtype", "bf16"]].concat());
    let back = folder.path().join("back");
    said(&[
        "convert",
        "export",
        text(&there),
        text(&back),
        "--hf",
        text(&hf.join("config.json")),
    ]);
    // A_log and the norm are f32 again, as published, with what bf16 left of their values.
    for (name, (dtype, _, _)) in content(&back.join("model.safetensors")) {
        let is_f32 = name.ends_with("A_log") || name.ends_with("linear_attn.norm.weight");
        assert_eq!(dtype == "f32", is_f32, "{name}");
    }
    let output = trestle(&["verify", text(&hf), text(&back), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for tensor in report["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let expected = match name {
            name if name.ends_with("linear_attn.norm.weight") => "rounded",
            name if name.ends_with("A_log") => "differs",
            _ => "exact",
        };
        assert_eq!(tensor["verdict"], expected, "{tensor}");
        if expected == "rounded" {
            assert!(tensor["ulp"].as_f64().unwrap() <= 1.0, "{tensor}");
        }
    }
    // The same in memory, where nothing is published anew.
    let output = trestle(&["verify", "--round-trip", text(&hf), "--tp", "2", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["same"], true);
}

#[test]
fn a_size_of_the_registry_says_which_types_are_wider() {
    let folder = tempfile::tempdir().unwrap();
    let (hf, there) = (folder.path().join("hf"), folder.path().join("mg"));
    let mut toy = toy::Toy::dense();
    toy.config = trestle::spec::find("toy").unwrap().model.clone();
    toy.dtype = |_| trestle::base::DType::BF16;
    toy.write(&hf);
    said(&["convert", "import", text(&hf), text(&there)]);
    let back = folder.path().join("back");
    said(&[
        "convert",
        "export",
        text(&there),
        text(&back),
        "--hf",
        "toy",
    ]);
    let keeps_f32 = trestle::spec::find("toy").unwrap().keeps_f32;
    let (dtype, ..) = &content(&back.join("model.safetensors"))["model.layers.0.linear_attn.A_log"];
    assert_eq!(dtype == "f32", keeps_f32);
}

#[test]
fn the_norm_shift_is_that_of_the_peer() {
    let golden = content(&goldens().join("norm_shift.safetensors"));
    let mut cases: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in golden.keys() {
        let (case, part) = name.rsplit_once('.').unwrap();
        cases.entry(case).or_default().push(part);
    }
    assert!(cases.len() >= 3, "{cases:?}");
    for case in cases.keys() {
        let (from, to) = case.split_once("-to-").unwrap();
        let part = |part: &str| golden[&format!("{case}.{part}")].clone();
        let (dtype, shape, values) = part("hf");
        assert_eq!(dtype, from);
        let folder = tempfile::tempdir().unwrap();
        let hf = folder.path().join("hf");
        let mut toy = toy::Toy::dense();
        toy.config.text.linear_value_head_dim = shape[0];
        toy.replace("linear_attn.norm.weight", from, values)
            .write(&hf);
        let there = folder.path().join("ranks");
        said(&[
            "convert",
            "import",
            text(&hf),
            text(&there),
            "--format",
            "shards",
            "--dtype",
            to,
        ]);
        let made = content(&there.join("tp0-pp0-ep0-etp0.safetensors"));
        let norm = &made["decoder.layers.0.self_attention.out_norm.weight"];
        assert!(*norm == part("megatron"), "{case}");
        let back = folder.path().join("back");
        let export = [
            "convert",
            "export",
            text(&there),
            text(&back),
            "--hf",
            text(&hf),
            "--dtype",
            to,
        ];
        said(&export);
        let made = content(&back.join("model.safetensors"));
        assert!(
            made["model.layers.0.linear_attn.norm.weight"] == part("back"),
            "{case}"
        );
    }
}

/// Runs a command and kills it as soon as its journal names some bands.
fn kill_midway(arguments: &[&str], journal: &Path) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while fs::read_to_string(journal).map_or(0, |text| text.lines().count()) < 4 {
        assert!(began.elapsed() < Duration::from_mins(1), "no journal");
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn a_killed_conversion_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    let mut toy = toy::Toy::dense();
    toy.config.text.vocab_size = 1 << 20;
    toy.write(&hf);
    let out = folder.path().join("out");
    let arguments = ["convert", "import", text(&hf), text(&out), "--json"];
    // A conversion that ended before the signal reached it is tried again.
    let was_caught = (0..5).any(|_| {
        let _ = fs::remove_dir_all(&out);
        kill_midway(
            &arguments,
            &folder.path().join("out.partial/.trestle-journal"),
        );
        !out.exists()
    });
    assert!(was_caught, "five conversions ended before they were killed");
    let other = refused(
        1,
        &[
            "convert",
            "import",
            text(&hf),
            text(&out),
            "--dtype",
            "bf16",
        ],
    );
    assert!(
        other.contains("interrupted conversion") && other.contains("--restart"),
        "{other}"
    );
    // A byte that was lost with the power is noticed: its band is made again.
    let file = folder.path().join("out.partial/iter_0000000/__0_0.distcp");
    let mut bytes = fs::read(&file).unwrap();
    // In the first band, which is the first to be done.
    bytes[1 << 20] ^= 0xff;
    fs::write(&file, bytes).unwrap();
    let report: Value = serde_json::from_str(&said(&arguments)).unwrap();
    let (resumed, bytes) = (
        report["resumed"].as_u64().unwrap(),
        report["bytes"].as_u64().unwrap(),
    );
    assert!(resumed > 0 && resumed < bytes, "{report}");
    assert!(said(&["verify", text(&hf), text(&out)]).starts_with("same: "));
    assert!(!folder.path().join("out.partial").exists());
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    toy::Toy::dense().write(&hf);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "mine").unwrap();
    let import = ["convert", "import", text(&hf), text(&out)];
    let error = refused(1, &import);
    assert!(
        error.contains("exists") && error.contains("--overwrite"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(out.join("thesis.txt")).unwrap(), "mine");
    said(&[&import[..], &["--overwrite"]].concat());
    assert!(!out.join("thesis.txt").exists());
    assert!(said(&["verify", text(&hf), text(&out)]).starts_with("same: "));
}

#[test]
fn a_dry_run_says_what_it_would_write_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    toy::Toy::moe().write(&hf);
    let out = folder.path().join("out");
    let import = [
        "convert",
        "import",
        text(&hf),
        text(&out),
        "--format",
        "shards",
    ];
    let dry = [
        &import[..],
        &["--tp", "2", "--ep", "2", "--dry-run", "--json"],
    ]
    .concat();
    let plan: Value = serde_json::from_str(&said(&dry)).unwrap();
    let files: Vec<&str> = plan["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "tp0-pp0-ep0-etp0.safetensors",
            "tp1-pp0-ep1-etp0.safetensors"
        ]
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn bad_input_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (out, import) = (at("out"), "import");
    let toy = || toy::Toy::dense();
    let convert = |hf: &Path| refused(4, &["convert", import, text(hf), text(&out)]);

    toy().without("mtp.fc.weight").write(&at("no-fc"));
    let error = convert(&at("no-fc"));
    assert!(
        error.contains("`mtp.fc.weight` is missing") && error.contains("eh_proj"),
        "{error}"
    );

    toy().without("mtp.").write(&at("no-mtp"));
    let error = convert(&at("no-mtp"));
    assert!(error.contains("mtp_num_hidden_layers"), "{error}");

    toy().without("model.layers.2.").write(&at("gap"));
    let error = convert(&at("gap"));
    assert!(error.contains("decoder layer 2 of 4 is missing"), "{error}");

    toy().renamed("up_proj", "upproj").write(&at("typo"));
    let error = convert(&at("typo"));
    assert!(
        error.contains("the nearest name is `model.layers.0.mlp.upproj.weight`"),
        "{error}"
    );

    toy()
        .doubled("model.norm.weight", "model.extra_norm.weight")
        .write(&at("extra"));
    let error = convert(&at("extra"));
    assert!(
        error.contains("`model.extra_norm.weight` has no place"),
        "{error}"
    );

    let mut wrong = toy();
    wrong.shapes_of = Some(Box::new(|config| config.text.intermediate_size += 2));
    wrong.write(&at("shape"));
    let error = convert(&at("shape"));
    assert!(error.contains("but the model makes it"), "{error}");

    toy().write(&at("family"));
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(at("family/config.json")).unwrap()).unwrap();
    config["model_type"] = json!("deepseek_v3");
    config["architectures"] = json!(["DeepseekV3ForCausalLM"]);
    fs::write(at("family/config.json"), config.to_string()).unwrap();
    let error = convert(&at("family"));
    assert!(error.contains("deepseek_v3"), "{error}");

    toy::Toy::moe().write(&at("mixed"));
    let mixed = at("mixed/model.safetensors");
    let bytes = fs::read(&mixed).unwrap();
    let (from, to) = (
        b"layers.1.mlp.experts.down_proj",
        b"layers.1.mlp.experts.0.up_proj",
    );
    let place = bytes.windows(from.len()).position(|w| w == from).unwrap();
    let mut bytes = bytes;
    bytes[place..place + to.len()].copy_from_slice(to);
    fs::write(&mixed, bytes).unwrap();
    let error = convert(&at("mixed"));
    assert!(
        error.contains("either all fused or all one by one"),
        "{error}"
    );

    toy().write(&at("cut"));
    let file = at("cut/model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    let error = convert(&at("cut"));
    assert!(error.contains("model.safetensors"), "{error}");
    assert!(!out.exists() && !at("out.partial").exists());
}

#[test]
fn an_output_that_cannot_be_written_is_told_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    toy::Toy::dense().write(&hf);
    let shut = folder.path().join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o555)).unwrap();
    let out = shut.join("out");
    let output = trestle(&["convert", "import", text(&hf), text(&out)]);
    // Root may write anywhere.
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("cannot create"),
            "{}",
            stderr(&output)
        );
    }
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refused(
        1,
        &["convert", "import", text(&hf), text(&file.join("out"))],
    );
    assert!(error.contains("cannot create"), "{error}");
}

#[test]
fn a_full_disk_ends_it_before_it_begins_and_what_was_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    toy::Toy::dense().write(&hf);
    let small = folder.path().join("small");
    fs::create_dir(&small).unwrap();
    // A file system of its own, in a mount namespace that ends with the command.
    let script = format!(
        "mount -t tmpfs -o size=100k none {0} && {1} convert import {2} {0}/out; code=$?; ls -A {0}; exit $code",
        small.display(),
        env!("CARGO_BIN_EXE_trestle"),
        hf.display()
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output();
    let Ok(output) = output else { return };
    let error = stderr(&output);
    if error.contains("unshare") || error.contains("mount") {
        println!("SKIPPED: no small file system can be mounted here: {error}");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("needs") && error.contains("are free"),
        "{error}"
    );
}

#[test]
fn a_disk_that_fills_in_the_middle_keeps_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    let megatron = folder.path().join("megatron");
    toy::Toy::dense().write(&hf);
    said(&["convert", "import", text(&hf), text(&megatron)]);
    // The tensors fit and the tokenizer does not.
    fs::write(hf.join("tokenizer.json"), vec![b' '; 1 << 20]).unwrap();
    let small = folder.path().join("small");
    fs::create_dir(&small).unwrap();
    let export = format!(
        "{} convert export {} {}/out --hf {}",
        env!("CARGO_BIN_EXE_trestle"),
        megatron.display(),
        small.display(),
        hf.display()
    );
    let script = format!(
        "mount -t tmpfs -o size=600k none {0} && {{ {export}; echo code $?; ls {0}; \
         mount -o remount,size=4m {0}; {export}; echo code $?; ls {0}; }}",
        small.display()
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output();
    let Ok(output) = output else { return };
    let (said, error) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    if error.contains("unshare") || error.contains("mount:") {
        println!("SKIPPED: no small file system can be mounted here: {error}");
        return;
    }
    assert!(error.contains("No space left on device"), "{error}");
    assert!(said.contains("code 1\nout.partial\n"), "{said}");
    assert!(said.ends_with("code 0\nout\n"), "{said}");
    assert!(said.contains("of them from before"), "{said}");
}

#[test]
fn nan_weights_are_carried_over_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    let mut toy = toy::Toy::dense();
    toy.value = Some(f32::NAN);
    toy.write(&hf);
    let out = folder.path().join("out");
    said(&["convert", "import", text(&hf), text(&out)]);
    let verified = said(&["verify", text(&hf), text(&out)]);
    assert!(verified.starts_with("same: "), "{verified}");
}

#[test]
fn different_weights_are_told_with_place_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    toy::Toy::dense().write(&a);
    let mut other = toy::Toy::dense();
    other.seed = 1;
    other.write(&b);
    let output = trestle(&["verify", text(&a), text(&b)]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("model.embed_tokens.weight  differs: "),
        "{said}"
    );
    assert!(said.contains("\ndifferent: 0 tensors bit-exact"), "{said}");
}

#[test]
fn a_tied_head_that_is_stored_must_be_the_embedding() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("hf");
    let tied = || {
        let mut toy = toy::Toy::dense();
        toy.config.text.tie_word_embeddings = true;
        toy
    };
    tied()
        .doubled("model.embed_tokens.weight", "lm_head.weight")
        .write(&hf);
    let out = folder.path().join("out");
    said(&["convert", "import", text(&hf), text(&out)]);
    let other = folder.path().join("other");
    tied()
        .added("lm_head.weight", "model.embed_tokens.weight")
        .write(&other);
    let error = refused(
        4,
        &[
            "convert",
            "import",
            text(&other),
            text(&folder.path().join("x")),
        ],
    );
    assert!(
        error.contains("lm_head.weight differs from the embedding"),
        "{error}"
    );
}
