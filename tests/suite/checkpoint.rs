//! Weights and training state on disk: exact, complete, and intact whatever happens.

pub(crate) mod convert;
mod layouts;
mod safetensors;
mod seeds;
mod statistics;
mod torch_dist;
pub(crate) mod toy;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use trestle::checkpoint::training::{self, TrainingState};
use trestle::checkpoint::{CheckpointError, huggingface};
use trestle::nn::Parameters;
use trestle::spec::TextConfig;

fn config(depth: usize, tied: bool) -> TextConfig {
    TextConfig::from_json(&json!({
        "model_type": "qwen3_5_text", "vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 4, "linear_value_head_dim": 4, "tie_word_embeddings": tied,
        "rope_parameters": { "rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0] },
        "mtp_num_hidden_layers": depth,
    }))
    .unwrap()
}

fn parameters(config: &TextConfig, seed: u64) -> Parameters {
    let parameters =
        Parameters::from_spec(config, &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    parameters.initialize(seed).unwrap();
    parameters
}

fn weights(parameters: &Parameters) -> Vec<f32> {
    parameters.weights().to_vec1().unwrap()
}

/// Writes a checkpoint of `step` whose moments and progress are told from other steps'.
fn save(
    run: &Path,
    config: &TextConfig,
    parameters: &Parameters,
    step: u64,
    keep: usize,
) -> Result<training::Saved, CheckpointError> {
    let m = Tensor::full(step as f32, parameters.len(), &Device::Cpu).unwrap();
    let v = Tensor::full(step as f32 * 0.5, parameters.len(), &Device::Cpu).unwrap();
    let progress = json!({ "position": step * 3, "note": "exact" });
    training::save(
        run,
        &TrainingState {
            step,
            tokens: step * 100,
            progress,
            config,
            parameters,
            m: &m,
            v: &v,
            keep,
        },
    )
}

#[test]
fn a_directory_reads_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (depth, tied) in [(0, true), (1, true), (2, false)] {
        let config = config(depth, tied);
        let written = parameters(&config, 7);
        huggingface::save(folder.path(), &config, &written).unwrap();
        let again = huggingface::read_config(folder.path()).unwrap();
        assert_eq!(again.mtp_num_hidden_layers, depth);
        let read = parameters(&again, 8);
        huggingface::load(folder.path(), &again, &read).unwrap();
        assert_eq!(weights(&read), weights(&written));
    }
}

/// Rewrites the safetensors file of `folder` through candle, after `change`.
fn rewrite(folder: &Path, change: impl FnOnce(&mut std::collections::HashMap<String, Tensor>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

fn load_error(folder: &Path, config: &TextConfig) -> CheckpointError {
    huggingface::load(folder, config, &parameters(config, 1)).unwrap_err()
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(1, true);
    let model = parameters(&config, 7);
    let fresh = || huggingface::save(folder.path(), &config, &model).unwrap();

    fresh();
    rewrite(folder.path(), |t| {
        drop(t.remove("model.layers.1.mlp.up_proj.weight"));
    });
    let text = load_error(folder.path(), &config).to_string();
    assert!(
        text.contains("lacks a tensor") && text.contains("model.layers.1.mlp.up_proj.weight"),
        "{text}"
    );

    fresh();
    rewrite(folder.path(), |t| {
        t.retain(|name, _| !name.starts_with("mtp."));
    });
    let error = load_error(folder.path(), &config);
    assert!(error.to_string().contains("mtp.fc.weight"), "{error}");
    assert!(
        error.hint().unwrap().contains("mtp_num_hidden_layers = 0"),
        "{:?}",
        error.hint()
    );

    fresh();
    let extra = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    rewrite(folder.path(), |t| {
        drop(t.insert(
            "model.layers.9.input_layernorm.weight".into(),
            extra.clone(),
        ));
    });
    let text = load_error(folder.path(), &config).to_string();
    assert!(
        text.contains("no place for") && text.contains("model.layers.9.input_layernorm.weight"),
        "{text}"
    );

    fresh();
    rewrite(folder.path(), |t| {
        drop(t.insert("model.norm.weight".into(), extra));
    });
    let text = load_error(folder.path(), &config).to_string();
    assert!(
        text.contains("model.norm.weight is [3], but the config makes it [16]"),
        "{text}"
    );

    fresh();
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = load_error(folder.path(), &config);
        let text = error.to_string();
        assert!(text.contains("model.safetensors"), "{length}: {text}");
        assert!(
            matches!(
                error,
                CheckpointError::Safetensors { .. } | CheckpointError::Io { .. }
            ),
            "{length}: {text}"
        );
    }

    fs::remove_file(&path).unwrap();
    assert!(matches!(
        load_error(folder.path(), &config),
        CheckpointError::NoWeights { .. }
    ));
    fs::write(
        folder.path().join("config.json"),
        "{ \"model_type\": \"llama\" }",
    )
    .unwrap();
    let text = huggingface::read_config(folder.path())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("config.json") && text.contains("llama"),
        "{text}"
    );
    fs::write(folder.path().join("config.json"), "{\n  \"a\": ]").unwrap();
    let text = huggingface::read_config(folder.path())
        .unwrap_err()
        .to_string();
    assert!(text.contains("config.json:2:"), "{text}");
}

#[test]
fn shards_prefixes_half_precision_and_a_stored_tied_head_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(1, true);
    let model = parameters(&config, 7);
    huggingface::save(folder.path(), &config, &model).unwrap();
    let whole = folder.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&whole, &Device::Cpu).unwrap();
    fs::remove_file(&whole).unwrap();
    let mut shards = [
        std::collections::HashMap::new(),
        std::collections::HashMap::new(),
    ];
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let stored = name.replace("model.", "model.language_model.");
        let tensor = if i % 3 == 0 {
            tensor.to_dtype(candle_core::DType::BF16).unwrap()
        } else {
            tensor.clone()
        };
        map.insert(
            stored.clone(),
            Value::from(format!("model-{}.safetensors", i % 2)),
        );
        shards[i % 2].insert(stored, tensor);
    }
    let visual = Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap();
    map.insert(
        "model.visual.patch_embed.proj.bias".into(),
        Value::from("model-0.safetensors"),
    );
    shards[0].insert("model.visual.patch_embed.proj.bias".into(), visual);
    let head = shards
        .iter()
        .find_map(|s| s.get("model.language_model.embed_tokens.weight"))
        .unwrap()
        .clone();
    map.insert("lm_head.weight".into(), Value::from("model-0.safetensors"));
    shards[0].insert("lm_head.weight".into(), head);
    for (i, shard) in shards.iter().enumerate() {
        candle_core::safetensors::save(shard, folder.path().join(format!("model-{i}.safetensors")))
            .unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    let read = parameters(&config, 1);
    huggingface::load(folder.path(), &config, &read).unwrap();
    let worst = weights(&read)
        .iter()
        .zip(weights(&model))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        worst > 0.0 && worst < 2e-2,
        "bf16 rounding and no more, found {worst}"
    );

    let other = Tensor::ones((48, 16), candle_core::DType::F32, &Device::Cpu).unwrap();
    shards[0].insert("lm_head.weight".into(), other);
    candle_core::safetensors::save(&shards[0], folder.path().join("model-0.safetensors")).unwrap();
    assert!(matches!(
        load_error(folder.path(), &config),
        CheckpointError::UntiedHead { .. }
    ));

    fs::remove_file(folder.path().join("model-1.safetensors")).unwrap();
    let text = load_error(folder.path(), &config).to_string();
    assert!(text.contains("model-1.safetensors"), "{text}");
}

#[test]
fn a_config_without_mtp_leaves_the_files_mtp_weights_out() {
    let folder = tempfile::tempdir().unwrap();
    let with = config(1, true);
    huggingface::save(folder.path(), &with, &parameters(&with, 7)).unwrap();
    let without = config(0, true);
    let read = parameters(&without, 1);
    huggingface::load(folder.path(), &without, &read).unwrap();
    assert_eq!(
        weights(&read)[..],
        weights(&parameters(&with, 7))[..read.len()]
    );
}

#[test]
fn training_state_reads_back_and_old_ones_rotate_away() {
    let run = tempfile::tempdir().unwrap();
    let config = config(1, true);
    let model = parameters(&config, 7);
    assert_eq!(training::latest(run.path()).unwrap(), None);
    for step in [10, 20, 30, 40] {
        let saved = save(run.path(), &config, &model, step, 2).unwrap();
        assert_eq!(
            training::latest(run.path()).unwrap(),
            Some(saved.path.clone())
        );
        assert_eq!(saved.weights_hash, training::weights_hash(&model).unwrap());
        assert_eq!(
            saved.removed.len(),
            usize::from(step > 20),
            "{:?}",
            saved.removed
        );
    }
    let steps: Vec<u64> = training::list(run.path())
        .unwrap()
        .into_iter()
        .map(|(s, _)| s)
        .collect();
    assert_eq!(steps, [30, 40]);

    let path = training::latest(run.path()).unwrap().unwrap();
    let read = parameters(&config, 1);
    let m = Tensor::zeros(read.len(), candle_core::DType::F32, &Device::Cpu).unwrap();
    let v = m.zeros_like().unwrap();
    let loaded = training::load(&path, &config, &read, &m, &v).unwrap();
    assert_eq!(weights(&read), weights(&model));
    assert_eq!(m.to_vec1::<f32>().unwrap(), vec![40.0; read.len()]);
    assert_eq!(v.to_vec1::<f32>().unwrap(), vec![20.0; read.len()]);
    assert_eq!(loaded.progress, json!({ "position": 120, "note": "exact" }));

    // A rewind: step 20 again, with the abandoned 30 and 40 going first.
    let saved = save(run.path(), &config, &model, 20, 2).unwrap();
    assert_eq!(saved.removed, ["checkpoints/step-00000030"]);
    assert_eq!(training::latest(run.path()).unwrap(), Some(saved.path));
}

#[test]
fn a_changed_byte_is_noticed() {
    let run = tempfile::tempdir().unwrap();
    let config = config(1, true);
    let model = parameters(&config, 7);
    let saved = save(run.path(), &config, &model, 5, 0).unwrap();
    let file = saved.path.join("training.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let m = Tensor::zeros(model.len(), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error =
        training::load(&saved.path, &config, &model, &m, &m.zeros_like().unwrap()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Damaged { problem, .. } if problem.contains("the v have")),
        "{error}"
    );
}

#[test]
fn the_newest_intact_checkpoint_is_found_behind_damaged_ones() {
    let run = tempfile::tempdir().unwrap();
    let config = config(1, true);
    let model = parameters(&config, 7);
    assert!(training::newest_intact(run.path()).unwrap().is_none());
    let folders: Vec<_> = [1, 2, 3, 4]
        .map(|step| save(run.path(), &config, &model, step, 0).unwrap().path)
        .into();
    for folder in &folders {
        training::verify(folder).unwrap();
    }
    let change = |folder: &Path, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let file = folder.join(name);
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        fs::write(&file, bytes).unwrap();
    };
    change(&folders[3], "model.safetensors", &|bytes| {
        *bytes.last_mut().unwrap() ^= 1;
    });
    change(&folders[2], "training.safetensors", &|bytes| {
        bytes.truncate(bytes.len() / 2);
    });
    let found = training::newest_intact(run.path()).unwrap().unwrap();
    assert_eq!(found.path, folders[1]);
    let passed_over: Vec<&Path> = found.passed_over.iter().map(|u| &*u.path).collect();
    assert_eq!(passed_over, [&*folders[3], &*folders[2]]);
    assert!(
        matches!(&found.passed_over[0].error, CheckpointError::Damaged { problem, .. } if problem.contains("the weights have"))
    );

    // A step above the tracked one is of an abandoned segment, intact or not.
    fs::write(run.path().join("checkpoints/latest"), "step-00000001\n").unwrap();
    let found = training::newest_intact(run.path()).unwrap().unwrap();
    assert_eq!(found.path, folders[0]);
    assert!(found.passed_over.is_empty());

    // With nothing left to go on from, the newest one's error is told.
    change(&folders[0], "training.json", &|bytes| bytes.truncate(20));
    let error = training::newest_intact(run.path()).unwrap_err();
    assert!(error.to_string().contains("step-00000001"), "{error}");
}

#[test]
fn a_failure_in_the_middle_leaves_the_previous_checkpoint() {
    let run = tempfile::tempdir().unwrap();
    let config = config(1, true);
    let model = parameters(&config, 7);
    let first = save(run.path(), &config, &model, 1, 1).unwrap();
    let folder = run.path().join("checkpoints");

    // What a kill leaves behind is passed over and cleaned up.
    fs::create_dir(folder.join(".tmp-step-00000002")).unwrap();
    fs::write(folder.join(".tmp-step-00000002/model.safetensors"), "half").unwrap();
    fs::create_dir(folder.join("step-00000003")).unwrap();
    assert_eq!(
        training::latest(run.path()).unwrap(),
        Some(first.path.clone())
    );
    fs::remove_file(folder.join("latest")).unwrap();
    assert_eq!(
        training::latest(run.path()).unwrap(),
        Some(first.path.clone())
    );
    save(run.path(), &config, &model, 1, 0).unwrap();
    assert!(!folder.join(".tmp-step-00000002").exists());

    // A folder that cannot be written into; root may write anywhere, so this is tried with a file in the way as well.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if let Err(error) = save(run.path(), &config, &model, 4, 0) {
        assert!(error.hint().unwrap().contains("writable"), "{error}");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join(".tmp-step-00000005"), "in the way").unwrap();
    let error = save(run.path(), &config, &model, 5, 1).unwrap_err();
    assert!(error.to_string().contains("step-00000005"), "{error}");
    assert!(
        first.path.join("model.safetensors").exists(),
        "an earlier checkpoint is gone"
    );
}

#[test]
fn a_full_disk_leaves_the_previous_checkpoint_and_no_half_one() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED a_full_disk_...: this machine does not let tests mount a tmpfs");
        return;
    };
    let config = config(1, true);
    let model = parameters(&config, 7);
    let first = save(disk.path(), &config, &model, 1, 0).unwrap();
    let mut step = 2;
    let error = loop {
        match save(disk.path(), &config, &model, step, 0) {
            Ok(_) => step += 1,
            Err(error) => break error,
        }
        assert!(step < 1000, "the disk never filled");
    };
    assert!(error.hint().unwrap().contains("free some space"), "{error}");
    assert_eq!(training::list(disk.path()).unwrap().len() as u64, step - 1);
    let m = Tensor::zeros(model.len(), candle_core::DType::F32, &Device::Cpu).unwrap();
    for (_, path) in training::list(disk.path()).unwrap() {
        training::load(&path, &config, &model, &m, &m.zeros_like().unwrap()).unwrap();
    }
    assert!(first.path.exists());
    let left: Vec<_> = fs::read_dir(disk.path().join("checkpoints"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with(".tmp")),
        "{left:?}"
    );
}

/// A tmpfs of 256 KiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|o| o.status.success());
        mounted.then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .output();
    }
}
