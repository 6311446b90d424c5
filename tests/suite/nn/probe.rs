//! `trestle probe` end to end, and the batch files it reads.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

use candle_core::{Device, Tensor, safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;
use trestle::nn::{Batch, BatchFile};
use trestle::ops::CuSeqlens;

use super::golden::{Case, Comparison, integers, relative_l2, sampled, values};

/// How a model directory is laid out.
#[derive(Clone, Copy)]
enum Layout {
    OneFile,
    /// Two files with an index, under the multimodal class's names and config.
    Sharded,
}

/// The case's model as a Hugging Face directory, and its batch as `batch.safetensors` in it.
fn model_dir(case: &Case, layout: Layout, keep: impl Fn(&str) -> bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = case.folder.join(case.json["config"].as_str().unwrap());
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(config).unwrap()).unwrap();
    let mut weights: Vec<(String, Tensor)> = Vec::new();
    for file in case.json["weights"].as_array().unwrap() {
        let path = case.folder.join(file.as_str().unwrap());
        weights.extend(safetensors::load(path, &Device::Cpu).unwrap());
    }
    weights.retain(|(name, _)| keep(name));
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    match layout {
        Layout::OneFile => {
            let weights: HashMap<_, _> = weights.into_iter().collect();
            safetensors::save(&weights, folder.path().join("model.safetensors")).unwrap();
        }
        Layout::Sharded => {
            config = json!({
                "architectures": ["Qwen3_5ForConditionalGeneration"],
                "model_type": "qwen3_5",
                "tie_word_embeddings": config["tie_word_embeddings"],
                "text_config": config,
            });
            let mut index = serde_json::Map::new();
            let half = weights.len() / 2;
            for (shard, part) in [&weights[..half], &weights[half..]].into_iter().enumerate() {
                let file = format!("model-0000{}-of-00002.safetensors", shard + 1);
                let mut named = HashMap::new();
                for (name, weight) in part {
                    let name = match name.strip_prefix("model.") {
                        Some(rest) => format!("model.language_model.{rest}"),
                        None => name.clone(),
                    };
                    index.insert(name.clone(), json!(file));
                    named.insert(name, weight.clone());
                }
                safetensors::save(&named, folder.path().join(file)).unwrap();
            }
            let index = json!({ "metadata": {}, "weight_map": index }).to_string();
            std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        }
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let batch: HashMap<&str, Tensor> = ["input_ids", "labels", "loss_mask", "cu_seqlens"]
        .into_iter()
        .filter_map(|key| Some((key, case.tensors.get(key)?.clone())))
        .collect();
    safetensors::save(&batch, folder.path().join("batch.safetensors")).unwrap();
    folder
}

fn trestle(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trestle"))
        .arg("probe")
        .arg(folder)
        .arg("--batch")
        .arg(folder.join("batch.safetensors"))
        .arg("--out")
        .arg(folder.join("out.safetensors"))
        .args(more)
        .output()
        .unwrap()
}

fn probe(folder: &Path, more: &[&str]) -> HashMap<String, Tensor> {
    let output = trestle(folder, more);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    safetensors::load(folder.join("out.safetensors"), &Device::Cpu).unwrap()
}

fn check(golden: &str, name: &str, layout: Layout) {
    let case = Case::open(golden, name);
    let folder = model_dir(&case, layout, |_| true);
    let lambda = case.json["lambda"].as_f64().unwrap_or(0.1).to_string();
    let out = probe(folder.path(), &["--grads", "--mtp-loss-scale", &lambda]);
    let mut comparison = Comparison::new(format!("probe {golden}/{name}"));

    let none = Vec::new();
    let depths = case.json["mtp"].as_array().unwrap_or(&none);
    for k in 0..=depths.len() {
        let (logits, loss) = if depths.is_empty() {
            ("logits".to_owned(), "loss".to_owned())
        } else {
            (format!("logits.{k}"), format!("loss.{k}"))
        };
        let (got, want) = (&out[&format!("logits.{k}")], &case.tensors[&logits]);
        assert_eq!(got.dims(), want.dims());
        let tolerance = &case.json["tolerance"];
        comparison.tensor(
            "logits",
            &logits,
            &values(got),
            &values(want),
            &tolerance[&logits],
        );
        let want = match (k, depths.is_empty()) {
            (0, true) => case.number("/loss"),
            (0, false) => case.number("/main/loss"),
            _ => depths[k - 1]["loss"].as_f64().unwrap(),
        };
        let got = out[&format!("loss.{k}")].to_scalar::<f32>().unwrap();
        let error = (f64::from(got) - want).abs();
        comparison.at_most(
            "loss",
            &loss,
            error,
            tolerance[&loss]["max_abs"].as_f64().unwrap(),
        );
        if k > 0 {
            let depth = &depths[k - 1];
            let want = ["correct", "total"].map(|key| depth[key].as_i64().unwrap());
            assert_eq!(integers(&out[&format!("accept.{k}")]), want);
        }
    }
    for (name, tolerance) in case.json["grad_tolerance_rel_l2"].as_object().unwrap() {
        let got = sampled(
            &values(&out[&format!("grad.{name}")]),
            &case.json["grad_storage"],
        );
        let want = values(&case.tensors[&format!("grad.{name}")]);
        if want.iter().any(|v| *v != 0.0) {
            let error = relative_l2(&got, &want);
            comparison.at_most("gradient rel l2", name, error, tolerance.as_f64().unwrap());
        } else {
            assert!(got.iter().all(|v| *v == 0.0), "{name}");
        }
    }
    comparison.finish();
}

#[test]
fn a_model_without_mtp_matches_the_golden() {
    check("forward/dense", "packed", Layout::OneFile);
}

#[test]
fn a_tied_model_with_mtp_matches_the_golden() {
    check("mtp/dense", "depth1", Layout::OneFile);
}

#[test]
fn a_sharded_multimodal_directory_matches_the_golden() {
    check("mtp/dense", "packed2", Layout::Sharded);
    check("mtp/dense_untied", "depth1", Layout::Sharded);
}

#[test]
fn gradients_are_written_only_on_demand() {
    let case = Case::open("mtp/dense", "depth1");
    let folder = model_dir(&case, Layout::OneFile, |_| true);
    let mut names: Vec<String> = probe(folder.path(), &[]).into_keys().collect();
    names.sort();
    assert_eq!(
        names,
        ["accept.1", "logits.0", "logits.1", "loss.0", "loss.1"]
    );
}

#[test]
fn a_config_with_mtp_and_weights_without_is_an_error_that_names_them() {
    let case = Case::open("mtp/dense", "depth1");
    let folder = model_dir(&case, Layout::OneFile, |name| !name.starts_with("mtp."));
    let output = trestle(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("mtp.fc.weight"), "{stderr}");
}

#[test]
fn wrong_batches_and_options_have_exit_codes() {
    let case = Case::open("forward/dense", "short");
    let folder = model_dir(&case, Layout::OneFile, |_| true);
    let output = trestle(folder.path(), &["--mtp-loss-scale=-1"]);
    assert_eq!(output.status.code(), Some(2));
    let ids = Tensor::new(&[[1i64, 2, 600]], &Device::Cpu).unwrap();
    let batch = HashMap::from([("input_ids", ids)]);
    safetensors::save(&batch, folder.path().join("batch.safetensors")).unwrap();
    let output = trestle(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("input_ids has 600 at place 2"), "{stderr}");
    std::fs::write(folder.path().join("batch.safetensors"), "torn").unwrap();
    assert_eq!(trestle(folder.path(), &[]).status.code(), Some(4));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so() {
    let case = Case::open("forward/dense", "short");
    let folder = model_dir(&case, Layout::OneFile, |_| true);
    let output = trestle(folder.path(), &["--device", "cuda"]);
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cuda is not available"), "{stderr}");
}

fn batch(tensors: &[(&str, Tensor)]) -> Result<BatchFile, String> {
    let tensors = tensors
        .iter()
        .map(|(name, t)| ((*name).to_owned(), t.clone()))
        .collect();
    BatchFile::from_tensors(&tensors, 100).map_err(|error| error.to_string())
}

fn rows<const N: usize>(values: &[[i64; N]]) -> Tensor {
    let flat = values.concat();
    Tensor::from_vec(flat, (values.len(), N), &Device::Cpu).unwrap()
}

fn row(values: &[i64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

#[test]
fn labels_masks_and_positions_follow_from_ids_and_borders() {
    let ids = rows(&[[11, 12, 13, 21, 22]]);
    let file = batch(&[("input_ids", ids), ("cu_seqlens", row(&[0, 3, 5]))]).unwrap();
    assert_eq!((file.rows, file.seq_length), (1, 5));
    let Batch {
        labels,
        loss_mask,
        position_ids,
        ..
    } = file.batch;
    assert_eq!(labels, [12, 13, 0, 22, 0]);
    assert_eq!(loss_mask, [1.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(position_ids[2], [0, 1, 2, 0, 1]);

    let file = batch(&[("input_ids", rows(&[[1, 2], [3, 4]]))]).unwrap();
    assert_eq!(file.batch.cu_seqlens, CuSeqlens::uniform(2, 2));
    assert_eq!(file.batch.labels, [2, 0, 4, 0]);
}

#[test]
fn ignored_labels_are_masked_and_int32_is_read() {
    let to_i32 = |t: Tensor| t.to_dtype(candle_core::DType::I32).unwrap();
    let ids = to_i32(row(&[5, 6, 7]));
    let labels = to_i32(row(&[6, -100, 8]));
    let mask = Tensor::new(&[0.5f32, 1.0, 1.0], &Device::Cpu).unwrap();
    let file = batch(&[("input_ids", ids), ("labels", labels), ("loss_mask", mask)]).unwrap();
    assert_eq!(file.batch.labels, [6, 0, 8]);
    assert_eq!(file.batch.loss_mask, [0.5, 0.0, 1.0]);
}

#[test]
fn positions_come_in_three_shapes() {
    let ids = ("input_ids", rows(&[[1, 2], [3, 4]]));
    let of = |positions: Tensor| {
        batch(&[ids.clone(), ("position_ids", positions)])
            .unwrap()
            .batch
            .position_ids
    };
    assert_eq!(of(rows(&[[7, 8], [7, 9]]))[1], [7, 8, 7, 9]);
    let three = Tensor::arange(0i64, 12, &Device::Cpu).unwrap();
    assert_eq!(of(three.reshape((3, 2, 2)).unwrap())[1], [4, 5, 6, 7]);
    assert_eq!(of(three.reshape((3, 4)).unwrap())[2], [8, 9, 10, 11]);
}

#[test]
fn a_batch_that_is_written_is_read_back() {
    let ids = rows(&[[1, 2, 3], [4, 5, 6]]);
    let positions = Tensor::arange(0i64, 18, &Device::Cpu)
        .unwrap()
        .reshape((3, 2, 3))
        .unwrap();
    let cu = row(&[0, 1, 3, 6]);
    let file = batch(&[
        ("input_ids", ids),
        ("position_ids", positions),
        ("cu_seqlens", cu),
    ])
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch.safetensors");
    file.write(&path).unwrap();
    let again = BatchFile::read(&path, 100).unwrap();
    assert_eq!(again.batch.input_ids, file.batch.input_ids);
    assert_eq!(again.batch.labels, file.batch.labels);
    assert_eq!(again.batch.loss_mask, file.batch.loss_mask);
    assert_eq!(again.batch.position_ids, file.batch.position_ids);
    assert_eq!(again.batch.cu_seqlens, file.batch.cu_seqlens);
}

#[test]
fn borders_that_do_not_fit_are_refused_with_both_numbers() {
    let ids = ("input_ids", rows(&[[1, 2, 3], [4, 5, 6]]));
    let error = batch(&[ids.clone(), ("cu_seqlens", row(&[0, 3, 5]))]).unwrap_err();
    assert!(error.contains("end at 5, but input_ids have 6"), "{error}");
    let error = batch(&[ids.clone(), ("cu_seqlens", row(&[0, 4, 6]))]).unwrap_err();
    assert!(error.contains("lack 3"), "{error}");
    let error = batch(&[ids, ("labels", row(&[1]))]).unwrap_err();
    assert!(error.contains("labels is [1], expected [2, 3]"), "{error}");
}
