//! The tensor list of published sizes, against names and shapes from transformers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Instant;

use ring::digest::{SHA256, digest};
use trestle::spec::{ExpertStyle, TensorSpec, find, model_tensors};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mapping/registry")
}

/// One line a tensor, name and comma-separated extents, sorted.
fn lines(tensors: &[TensorSpec]) -> Vec<String> {
    let mut lines: Vec<String> = tensors
        .iter()
        .map(|tensor| {
            let extents: Vec<String> = tensor.shape.0.iter().map(ToString::to_string).collect();
            format!("{}\t{}", tensor.name, extents.join(","))
        })
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn names_shapes_and_digests_are_those_of_transformers() {
    let digests = std::fs::read_to_string(directory().join("digests.json")).expect("a golden");
    let digests: serde_json::Value = serde_json::from_str(&digests).expect("JSON");
    let mut compared = 0;
    for file in std::fs::read_dir(directory()).expect("goldens") {
        let path = file.expect("readable").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("UTF-8");
        let Some(size) = name.strip_suffix(".hf.tsv.gz") else {
            continue;
        };
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&path).expect("readable"))
            .read_to_string(&mut text)
            .expect("gzip");
        let entry = find(size).expect("a published size");
        let tensors = model_tensors(&entry.model, entry.experts);
        let lines = lines(&tensors);

        let theirs: BTreeSet<&str> = text.lines().collect();
        let ours: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
        let missing: Vec<_> = theirs.difference(&ours).take(5).collect();
        let extra: Vec<_> = ours.difference(&theirs).take(5).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{size}: missing {missing:?}, extra {extra:?}"
        );

        let golden = &digests[size];
        assert_eq!(golden["hf_tensors"], lines.len(), "{size}");
        let elements: u64 = tensors.iter().map(|t| t.shape.elements()).sum();
        assert_eq!(golden["hf_elements"], elements, "{size}");
        let text = lines.join("\n") + "\n";
        let digest = digest(&SHA256, text.as_bytes());
        let mut hex = String::new();
        for byte in digest.as_ref() {
            write!(hex, "{byte:02x}").expect("a string takes it");
        }
        assert_eq!(golden["hf_sha256"], hex, "{size}");
        let mtp = if entry.experts == ExpertStyle::QWEN3_6 {
            "fused"
        } else {
            "per expert"
        };
        assert_eq!(golden["mtp_experts"], mtp, "{size}");
        compared += 1;
    }
    assert_eq!(compared, 5);
}

#[test]
fn the_longest_list_is_made_in_an_instant() {
    let entry = find("397b-a17b").expect("known");
    let start = Instant::now();
    let tensors = model_tensors(&entry.model, ExpertStyle::PER_EXPERT);
    let took = start.elapsed();
    // 61 layers of 512 experts with three matrices each, and 17 tensors less two fused ones a layer beside them.
    let fused = model_tensors(&entry.model, ExpertStyle::QWEN3_6).len();
    assert_eq!(tensors.len(), fused + 61 * (512 * 3 - 2));
    // Unoptimised code on a busy machine; a release build takes 20 ms.
    assert!(took.as_millis() < 2000, "{took:?}");
    println!("{} tensors in {took:?}", tensors.len());
}
