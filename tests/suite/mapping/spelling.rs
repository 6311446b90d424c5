//! Both spellings of MTP's inner layer, and fused or own norms, mean one tensor; either is written.

use std::fs;
use std::path::{Path, PathBuf};

use trestle::mapping::{Spelling, Table, View, key};
use trestle::spec::{ExpertStyle, ModelConfig};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/mapping")
        .join(name)
}

fn table(case: &str, style: ExpertStyle) -> Table {
    let text = fs::read_to_string(golden(case).join("config.json")).unwrap();
    let json = serde_json::from_str(&text).unwrap();
    Table::new(&ModelConfig::from_json(&json).unwrap(), style)
}

#[test]
fn both_spellings_resolve_to_the_peers_hugging_face_names() {
    let text = fs::read_to_string(golden("mtp_spellings.tsv")).unwrap();
    let mut renamed = 0;
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [model, style, in_memory, in_torch_dist, sources, _] = fields[..] else {
            panic!("six fields: {line}");
        };
        let style = match style {
            "fused-mtp-fused" => ExpertStyle::QWEN3_6,
            _ => ExpertStyle::QWEN3_5,
        };
        let table = table(model, style);
        let entry = table.find(in_memory).expect(in_memory);
        assert_eq!(table.find(in_torch_dist), Some(entry), "{in_torch_dist}");
        let ours = table.entries()[entry].source_names().join("|");
        assert_eq!(ours, sources, "{in_memory}");
        renamed += usize::from(in_memory != in_torch_dist);
    }
    assert_eq!(text.lines().count(), 72);
    assert!(renamed > 50, "{renamed}");
}

#[test]
fn either_spelling_is_written_and_no_tensor_twice() {
    for (case, vocab) in [("dense", 128), ("moe", 128), ("vl-moe", 128)] {
        let table = table(case, ExpertStyle::QWEN3_5);
        let names = |spelling| -> Vec<String> {
            let view = View::torch_dist(&table, vocab, spelling);
            view.tensors.into_iter().map(|t| t.name).collect()
        };
        let own = names(Spelling::MtpModelLayer);
        let other = names(Spelling::TransformerLayer);
        assert!(own.iter().any(|n| n.contains(".mtp_model_layer.")));
        assert!(!own.iter().any(|n| n.contains(".transformer_layer.")));
        assert!(!other.iter().any(|n| n.contains(".mtp_model_layer.")));
        let keys = |names: &[String]| -> Vec<String> {
            let mut keys: Vec<String> = names.iter().map(|n| key(n).into_owned()).collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&own), keys(&other), "{case}");
        let mut once = keys(&own);
        once.dedup();
        assert_eq!(once.len(), own.len(), "{case}");
    }
}
