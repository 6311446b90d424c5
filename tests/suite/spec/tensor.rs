//! The tensor list against names and shapes that Hugging Face writes.

use std::collections::BTreeSet;

use trestle::spec::{LayerKind, LayerRef, Role, TextConfig, find, tensors};

/// One linear and one full layer of the golden text model, as Hugging Face stores them.
#[rustfmt::skip]
const LAYERS: [(&str, &[usize]); 25] = [
    ("model.layers.0.input_layernorm.weight", &[64]),
    ("model.layers.0.linear_attn.A_log", &[4]),
    ("model.layers.0.linear_attn.conv1d.weight", &[128, 1, 4]),
    ("model.layers.0.linear_attn.dt_bias", &[4]),
    ("model.layers.0.linear_attn.in_proj_a.weight", &[4, 64]),
    ("model.layers.0.linear_attn.in_proj_b.weight", &[4, 64]),
    ("model.layers.0.linear_attn.in_proj_qkv.weight", &[128, 64]),
    ("model.layers.0.linear_attn.in_proj_z.weight", &[64, 64]),
    ("model.layers.0.linear_attn.norm.weight", &[16]),
    ("model.layers.0.linear_attn.out_proj.weight", &[64, 64]),
    ("model.layers.0.mlp.down_proj.weight", &[64, 96]),
    ("model.layers.0.mlp.gate_proj.weight", &[96, 64]),
    ("model.layers.0.mlp.up_proj.weight", &[96, 64]),
    ("model.layers.0.post_attention_layernorm.weight", &[64]),
    ("model.layers.3.input_layernorm.weight", &[64]),
    ("model.layers.3.mlp.down_proj.weight", &[64, 96]),
    ("model.layers.3.mlp.gate_proj.weight", &[96, 64]),
    ("model.layers.3.mlp.up_proj.weight", &[96, 64]),
    ("model.layers.3.post_attention_layernorm.weight", &[64]),
    ("model.layers.3.self_attn.k_norm.weight", &[32]),
    ("model.layers.3.self_attn.k_proj.weight", &[64, 64]),
    ("model.layers.3.self_attn.o_proj.weight", &[64, 128]),
    ("model.layers.3.self_attn.q_norm.weight", &[32]),
    ("model.layers.3.self_attn.q_proj.weight", &[256, 64]),
    ("model.layers.3.self_attn.v_proj.weight", &[64, 64]),
];

const DEPTH_2: [(&str, &[usize]); 15] = [
    ("mtp.1.fc.weight", &[64, 128]),
    ("mtp.1.norm.weight", &[64]),
    ("mtp.1.pre_fc_norm_embedding.weight", &[64]),
    ("mtp.1.pre_fc_norm_hidden.weight", &[64]),
    ("mtp.layers.1.input_layernorm.weight", &[64]),
    ("mtp.layers.1.mlp.down_proj.weight", &[64, 96]),
    ("mtp.layers.1.mlp.gate_proj.weight", &[96, 64]),
    ("mtp.layers.1.mlp.up_proj.weight", &[96, 64]),
    ("mtp.layers.1.post_attention_layernorm.weight", &[64]),
    ("mtp.layers.1.self_attn.k_norm.weight", &[32]),
    ("mtp.layers.1.self_attn.k_proj.weight", &[64, 64]),
    ("mtp.layers.1.self_attn.o_proj.weight", &[64, 128]),
    ("mtp.layers.1.self_attn.q_norm.weight", &[32]),
    ("mtp.layers.1.self_attn.q_proj.weight", &[256, 64]),
    ("mtp.layers.1.self_attn.v_proj.weight", &[64, 64]),
];

fn golden() -> TextConfig {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/config/text_mtp2.json"
    );
    let text = std::fs::read_to_string(path).expect("the golden is in the repository");
    let json = serde_json::from_str(&text).expect("the golden is JSON");
    TextConfig::from_json(&json).expect("the golden is valid")
}

#[test]
fn names_and_shapes_are_those_of_hugging_face() {
    let list = tensors(&golden());
    let of = |layer: LayerRef| -> BTreeSet<(&str, &[usize])> {
        list.iter()
            .filter(|t| t.layer == Some(layer))
            .map(|t| (t.name.as_str(), t.shape.0.as_slice()))
            .collect()
    };
    let mut decoder = of(LayerRef::Decoder(0));
    decoder.extend(of(LayerRef::Decoder(3)));
    assert_eq!(decoder, BTreeSet::from(LAYERS));
    assert_eq!(of(LayerRef::Mtp(1)), BTreeSet::from(DEPTH_2));

    let depth_1: BTreeSet<&str> = of(LayerRef::Mtp(0))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(depth_1.len(), 15);
    for name in [
        "mtp.fc.weight",
        "mtp.norm.weight",
        "mtp.layers.0.self_attn.q_proj.weight",
    ] {
        assert!(depth_1.contains(name), "{name}");
    }
    assert_eq!(list[0].name, "model.embed_tokens.weight");
    assert!(
        !list.iter().any(|t| t.name == "lm_head.weight"),
        "the golden is tied"
    );
}

#[test]
fn no_name_occurs_twice() {
    for size in ["toy", "0.8b", "27b"] {
        let config = find(size)
            .and_then(|e| e.dense().cloned())
            .expect("a dense size");
        let list = tensors(&config);
        let names: BTreeSet<&str> = list.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names.len(), list.len(), "{size}");
    }
}

#[test]
fn an_untied_model_has_a_head_and_mtp_layers_are_never_linear() {
    let mut config = find("toy")
        .and_then(|e| e.dense().cloned())
        .expect("the toy");
    config.layer_types = vec![LayerKind::LinearAttention; 4];
    let list = tensors(&config);
    assert_eq!(list.iter().filter(|t| t.role == Role::Head).count(), 1);
    let mtp = list
        .iter()
        .filter(|t| matches!(t.layer, Some(LayerRef::Mtp(_))));
    assert!(mtp.clone().all(|t| t.role != Role::ALog));
    assert!(mtp.into_iter().any(|t| t.name.contains("self_attn")));
}
