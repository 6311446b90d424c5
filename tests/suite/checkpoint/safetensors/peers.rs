//! Hugging Face's own packages read what we plan, put tensors into the same files, and write what we read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use trestle::base::{DType, Shape};
use trestle::checkpoint::safetensors::{Directory, INDEX, Plan};
use trestle::checkpoint::statistics::hash;

use crate::interop::{python, script, skip};

/// Every type that torch has a name for, in odd extents.
fn tensors() -> Vec<(String, Shape, DType)> {
    let types = [
        DType::F64,
        DType::F32,
        DType::BF16,
        DType::F16,
        DType::F8E4M3,
        DType::F8E5M2,
        DType::I64,
        DType::I32,
        DType::I16,
        DType::I8,
        DType::U8,
        DType::Bool,
    ];
    let shapes = [&[3, 5][..], &[7], &[2, 3, 4], &[100]];
    let pairs = types.iter().enumerate();
    pairs
        .flat_map(|(i, &dtype)| {
            shapes.iter().enumerate().map(move |(j, shape)| {
                let name = format!("layer.{}.{}", (i * 7 + j * 3) % 48, dtype.name());
                (format!("{name}.{j}"), Shape(shape.to_vec()), dtype)
            })
        })
        .collect()
}

fn value(tensor: usize, byte: usize, dtype: DType) -> u8 {
    match dtype {
        DType::Bool => byte.is_multiple_of(3).into(),
        _ => (tensor * 31 + byte * 7) as u8,
    }
}

#[test]
fn hugging_faces_packages_and_we_read_each_other_and_cut_alike() {
    let python = match python("torch, huggingface_hub, safetensors") {
        Ok(python) => python,
        Err(reason) => return skip("huggingface_hub and safetensors were not asked", &reason),
    };
    let given = tensors();
    for limit in [150, 800, 1_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        fs::create_dir(&ours).unwrap();
        let plan = Plan::new(&given, Some(limit));
        write(&ours, &plan, &given);
        let mut child = Command::new(&python)
            .arg(script("safetensors_peer.py"))
            .args([&ours, &theirs])
            .arg(limit.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let names: Vec<&str> = given.iter().map(|(name, ..)| name.as_str()).collect();
        let order = serde_json::to_vec(&names).unwrap();
        child.stdin.take().unwrap().write_all(&order).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();

        let mut total = 0;
        for (i, (name, shape, dtype)) in given.iter().enumerate() {
            let place = plan.tensors[i];
            let bytes: Vec<u8> = (0..place.bytes as usize)
                .map(|byte| value(i, byte, *dtype))
                .collect();
            total += place.bytes;
            let expected = serde_json::json!([
                dtype.name(),
                shape,
                crc32fast::hash(&bytes),
                plan.files[place.file].name
            ]);
            assert_eq!(answer["tensors"][name], expected, "{name}, {limit}");
        }
        assert_eq!(answer["total_size"], total);
        assert_eq!(theirs.join(INDEX).exists(), plan.index.is_some());
        assert_eq!(hashes(&theirs), hashes(&ours), "{limit}");
        if let Some(index) = &plan.index {
            let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let written = fs::read_to_string(theirs.join(INDEX)).unwrap();
            assert_eq!(parsed(index)["weight_map"], parsed(&written)["weight_map"]);
        }
    }
}

/// Writes the planned files, their tensors from the last to the first.
fn write(folder: &Path, plan: &Plan, given: &[(String, Shape, DType)]) {
    let files: Vec<fs::File> = plan
        .files
        .iter()
        .map(|planned| {
            let file = fs::File::create(folder.join(&planned.name)).unwrap();
            file.write_all_at(&planned.header, 0).unwrap();
            file.set_len(planned.bytes).unwrap();
            file
        })
        .collect();
    for (i, place) in plan.tensors.iter().enumerate().rev() {
        let bytes: Vec<u8> = (0..place.bytes as usize)
            .map(|byte| value(i, byte, given[i].2))
            .collect();
        files[place.file]
            .write_all_at(&bytes, place.offset)
            .unwrap();
    }
    if let Some(index) = &plan.index {
        fs::write(folder.join(INDEX), index).unwrap();
    }
}

/// Type, extents and hash of every tensor in a directory.
fn hashes(folder: &Path) -> BTreeMap<String, (DType, Shape, String)> {
    let directory = Directory::open(folder).unwrap();
    let never = AtomicBool::new(false);
    let tensors = directory.tensors.iter();
    tensors
        .map(|tensor| {
            let hash = hash(&directory.files, tensor, &never).unwrap().unwrap();
            (
                tensor.name.clone(),
                (tensor.dtype, tensor.shape.clone(), hash),
            )
        })
        .collect()
}
