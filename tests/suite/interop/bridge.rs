//! Megatron-Bridge's own configuration classes take our overrides, and we read what they print.
//!
//! The published package is older than some recipes: it does not have the options of [`NEWER`], and its adapters cannot be overridden at all. Every
//! other option of every published recipe must be taken, with the value that we wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};
use trestle::recipe::{Known, Megatron, Published, Value, from_yaml, load, overrides, settings};

use super::{script, skip};
use crate::recipe::published::published;

/// Options that megatron-bridge 0.3.1 does not have.
const NEWER: [&str; 19] = [
    "dataset.defer_in_batch_packing_to_step",
    "dataset.do_validation",
    "dataset.enable_in_batch_packing",
    "dataset.in_batch_packing_pad_to_multiple_of",
    "dataset.pad_to_max_length",
    "dataset.prompt",
    "dataset.source.dataset_name",
    "ddp.fsdp_db_use_persist_buf_on_alloc_fail",
    "ddp.megatron_fsdp_max_pool_double_buffer",
    "model.cuda_graph_modules",
    "model.high_priority_a2a_comm_stream",
    "model.max_vision_cuda_graph_seq_length",
    "model.moe_flex_dispatcher_num_sms",
    "model.moe_hybridep_num_sms_preprocessing",
    "model.moe_permute_fusion_into_hybridep",
    "model.overlap_dispatch_backward_with_experts_wgrad",
    "model.vision_cuda_graph_impl",
    "model.vision_cuda_graph_scope",
    "tokenizer.use_tokenizer_vocab_size",
];

/// Whether megatron-bridge 0.3.1 can override an option.
fn is_known(path: &str) -> bool {
    !NEWER.contains(&path) && !path.starts_with("peft.") && !path.starts_with("validation.")
}

/// A Python, and a folder with the package.
fn environment() -> Result<(PathBuf, PathBuf), String> {
    let output = Command::new("python3")
        .arg(script("megatron_bridge_environment.py"))
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.trim().lines().last().unwrap_or_default().into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().rev();
    match (lines.next(), lines.next()) {
        (Some(folder), Some(python)) => Ok((python.into(), folder.into())),
        _ => Err("no paths were printed".into()),
    }
}

/// What Bridge holds after the overrides of each recipe.
fn ask((python, folder): (&Path, &Path), works: &[(&Megatron, Vec<String>)]) -> Vec<Json> {
    let mut child = Command::new(python)
        .arg(script("megatron_bridge_peer.py"))
        .env("PYTHONPATH", folder)
        .env("HF_HUB_OFFLINE", "1")
        .env("CUDA_VISIBLE_DEVICES", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = String::new();
    for (recipe, overrides) in works {
        let work = json!({
            "name": recipe.recipe, "moe": recipe.model.text.moe.is_some(),
            "peft": recipe.text("megatron.mode") == Some("peft"),
            // Bridge's converter takes it from the model.
            "depth": recipe.model.text.mtp_num_hidden_layers,
            "overrides": overrides,
        });
        lines += &work.to_string();
        lines.push('\n');
    }
    // The works are larger than a pipe holds, and so may the answers be.
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let answers = text.lines().map(|line| serde_json::from_str(line).unwrap());
    answers.collect()
}

fn as_json(value: Option<&Value>) -> Json {
    value.map_or(Json::Null, |value| serde_json::to_value(value).unwrap())
}

/// The same number whether it has a point or not.
fn same(a: &Json, b: &Json) -> bool {
    a == b || a.is_number() && b.is_number() && a.as_f64() == b.as_f64()
}

#[test]
fn bridges_own_classes_take_every_override_that_they_know_and_we_read_their_yaml() {
    let environment = match environment() {
        Ok(environment) => environment,
        Err(reason) => {
            skip(
                "Megatron-Bridge's configuration classes were not asked",
                &reason,
            );
            return;
        }
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/megatron");
    let published = published();
    let recipes: Vec<&Megatron> = published.values().collect();
    let mut works: Vec<(&Megatron, Vec<String>)> = recipes
        .iter()
        .map(|recipe| (*recipe, overrides(recipe, None)))
        .collect();
    // And a change against the recipe that it changes, another precision among it.
    let base = recipes[0];
    let fp8 = "bf16_with_fp8_current_scaling_mixed";
    let path = folder
        .join(base.recipe.trim_end_matches("_config"))
        .with_extension("toml");
    let sets = [format!("megatron.precision={fp8}"), "train.steps=7".into()];
    let changed = load(&path, &sets, &|path: &Path| std::fs::read_to_string(path));
    let changed = changed.megatron.unwrap();
    works.push((&changed, overrides(&changed, Some(base))));
    let mut answers = ask((&environment.0, &environment.1), &works);
    assert_eq!(answers.len(), works.len());
    let values = &answers.pop().unwrap()["values"];
    assert_eq!(
        *values,
        json!({ "train.train_iters": 7, "mixed_precision": fp8 })
    );
    let mut taken = 0;
    for (recipe, answer) in recipes.iter().zip(&answers) {
        let name = &recipe.recipe;
        assert_eq!(answer["name"], **name);
        let unknown: BTreeSet<&str> = answer["unknown"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| path.as_str().unwrap())
            .collect();
        let written = settings(recipe);
        for (path, value) in &written {
            assert_eq!(
                unknown.contains(path.as_str()),
                !is_known(path),
                "{name}: {path}"
            );
            if is_known(path) {
                let (held, ours) = (&answer["values"][path], as_json(value.as_ref()));
                assert!(same(held, &ours), "{name}: {path} is {held}, not {ours}");
                taken += 1;
            }
        }
        // What Bridge prints then is read as the same options.
        let yaml = answer["yaml"].as_str().unwrap();
        // A recipe that does not name its model leaves it to the one that it is.
        let base = Published {
            path: folder
                .join(name.trim_end_matches("_config"))
                .with_extension("toml"),
            recipe: (*recipe).clone(),
        };
        let (bases, known) = if recipe.get("megatron.model.hf_model_id").is_some() {
            (&[][..], "\n[megatron]\nrecipe = \"any\"\ngpus = 1\n")
        } else {
            (std::slice::from_ref(&base), "\n[megatron]\n")
        };
        let told = Known {
            recipe: (!bases.is_empty()).then(|| name.clone()),
            gpus: None,
        };
        let imported = from_yaml(Path::new("dump.yaml"), yaml, bases, &told).unwrap();
        assert_eq!(imported.extends.is_some(), !bases.is_empty());
        let main = Path::new("imported.toml");
        let toml = imported.toml.replacen("\n[megatron]\n", known, 1);
        let loaded = load(main, &[], &|path: &Path| {
            if path == main {
                return Ok(toml.clone());
            }
            std::fs::read_to_string(path)
        });
        let again = loaded
            .megatron
            .unwrap_or_else(|| panic!("{name}: {:#?}\n{}", loaded.diagnostics, imported.toml));
        let read: BTreeMap<_, _> = settings(&again).into_iter().collect();
        for (path, value) in written.iter().filter(|(path, _)| is_known(path)) {
            let ours = read.get(path).cloned().flatten();
            let held = &answer["values"][path];
            assert!(
                same(&as_json(ours.as_ref()), held),
                "{name}: {path} is read as {ours:?}, not {value:?}"
            );
        }
        assert_eq!(again.model.text, recipe.model.text, "{name}");
    }
    assert!(taken > 2000, "{taken} options were taken");
}
