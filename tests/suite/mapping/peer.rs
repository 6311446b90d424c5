//! The peer's own table of rules: kinds and cuts.

use std::fs;

use trestle::mapping::{Arithmetic, Entry, Kind, Shard, Table};
use trestle::spec::{ExpertStyle, ModelConfig};

use crate::checkpoint::convert::{cases, goldens, json};

fn table(case: &str, style: &str) -> Table {
    let config = ModelConfig::from_json(&json(&goldens().join(case).join("config.json")));
    let style = match style {
        "fused-mtp-fused" => ExpertStyle::QWEN3_6,
        "per-expert" => ExpertStyle::PER_EXPERT,
        _ => ExpertStyle::QWEN3_5,
    };
    Table::new(&config.unwrap(), style)
}

/// The classes of the peer that a kind of ours may have.
fn classes(entry: &Entry) -> &'static [&'static str] {
    match entry.kind() {
        Kind::Direct => &["AutoMapping", "ReplicatedMapping"],
        Kind::GatedQkv => &["QKVMapping"],
        Kind::HeadQkv => &["ConcatenatedQKVMapping"],
        Kind::GdnFuse => &["GDNLinearMappingSeparate"],
        Kind::GdnConv => &["GDNConv1dMapping"],
        Kind::GatedConcat => &["GatedMLPMapping"],
        Kind::ExpertGatedSlice => &["FusedGatedExpertMapping"],
        Kind::ExpertSlice => &["FusedExpertMapping"],
        Kind::NormShift => &["RMSNorm2ZeroCenteredRMSNormMapping"],
    }
}

#[test]
fn kinds_and_cuts_are_those_of_the_peer() {
    let mut seen = 0;
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(case.join("kinds.tsv")).unwrap();
        let mut tables: Vec<(String, Table)> = Vec::new();
        for line in text.lines() {
            let [style, megatron, class, module, cut] = line.split('\t').collect::<Vec<_>>()[..]
            else {
                panic!("{line}");
            };
            if !tables.iter().any(|(known, _)| known == style) {
                tables.push((style.to_owned(), table(name, style)));
            }
            let (_, table) = tables.iter().find(|(known, _)| known == style).unwrap();
            let entry = &table.entries()[table.find(megatron).expect(megatron)];
            assert!(
                classes(entry).contains(&class),
                "{megatron}: {class}, {:?}",
                entry.kind()
            );
            // The peer names the module's cut; the bias of a row-parallel one is whole on every rank.
            let cut = if cut == "row" && megatron.rsplit('.').next() == Some("bias") {
                "replicated"
            } else {
                cut
            };
            assert_eq!(entry.shard.label(), cut, "{megatron} of {module}");
            let is_shifted = class == "RMSNorm2ZeroCenteredRMSNormMapping";
            assert_eq!(entry.arithmetic == Arithmetic::ShiftByOne, is_shifted);
            seen += 1;
        }
        for (style, table) in &tables {
            let listed = text
                .lines()
                .filter(|l| l.split('\t').next() == Some(style))
                .count();
            assert_eq!(listed, table.entries().len(), "{name} {style}");
        }
    }
    assert!(seen > 700, "{seen}");
}

#[test]
fn norms_of_their_own_are_those_that_are_fused() {
    let table = table("dense", "plain");
    for (own, fused) in [
        (
            "decoder.layers.0.input_layernorm.weight",
            "decoder.layers.0.self_attention.in_proj.layer_norm_weight",
        ),
        (
            "decoder.layers.3.input_layernorm.weight",
            "decoder.layers.3.self_attention.linear_qkv.layer_norm_weight",
        ),
        (
            "decoder.layers.3.pre_mlp_layernorm.weight",
            "decoder.layers.3.mlp.linear_fc1.layer_norm_weight",
        ),
    ] {
        assert!(
            table.find(own).is_some() && table.find(own) == table.find(fused),
            "{own}"
        );
    }
    assert!(matches!(table.entries()[0].shard, Shard::Column { .. }));
}
