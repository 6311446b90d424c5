//! `config.json` of every class: text or multimodal, dense or with experts.

use serde_json::{Value, json};
use trestle::spec::{ModelConfig, MoeConfig, SpecError, TextConfig, find, registry};

fn golden(case: &str) -> Value {
    let path = format!(
        "{}/tests/golden/mapping/{case}/config.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).expect("the golden is in the repository");
    serde_json::from_str(&text).expect("the golden is JSON")
}

fn error(json: &Value) -> String {
    ModelConfig::from_json(json)
        .expect_err("this config must be refused")
        .to_string()
}

/// A golden with `pointer`'s value replaced.
fn with(case: &str, pointer: &str, value: Value) -> Value {
    let mut json = golden(case);
    let (outer, key) = pointer.rsplit_once('/').expect("a pointer");
    json.pointer_mut(outer).expect("an object")[key] = value;
    json
}

const CASES: [(&str, &str, &str); 7] = [
    ("dense", "qwen3_5_text", "Qwen3_5ForCausalLM"),
    ("dense-tied", "qwen3_5_text", "Qwen3_5ForCausalLM"),
    ("dense-tied-no-mtp", "qwen3_5_text", "Qwen3_5ForCausalLM"),
    ("moe", "qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"),
    (
        "moe-sequential",
        "qwen3_5_moe_text",
        "Qwen3_5MoeForCausalLM",
    ),
    ("vl-dense", "qwen3_5", "Qwen3_5ForConditionalGeneration"),
    (
        "vl-moe",
        "qwen3_5_moe",
        "Qwen3_5MoeForConditionalGeneration",
    ),
];

#[test]
fn every_class_is_read_with_model_type_or_architectures_and_comes_back_byte_for_byte() {
    for (case, model_type, architecture) in CASES {
        let mut json = golden(case);
        json["zz_unknown"] = json!({"b": 1, "a": [1.5, null]});
        let config = ModelConfig::from_json(&json).expect(case);
        assert_eq!(config.model_type(), model_type, "{case}");
        assert_eq!(config.architecture(), architecture, "{case}");
        assert_eq!(config.text.moe.is_some(), case.contains("moe"), "{case}");
        assert_eq!(config.vision.is_some(), case.starts_with("vl"), "{case}");
        assert_eq!(config.text.hidden_size, 32, "{case}");
        assert_eq!(config.to_json().to_string(), json.to_string(), "{case}");

        json.as_object_mut()
            .expect("an object")
            .shift_remove("model_type");
        let by_name = ModelConfig::from_json(&json).expect(case);
        assert_eq!(by_name.vision, config.vision, "{case}");
        assert_eq!(by_name.text.moe, config.text.moe, "{case}");
    }
}

#[test]
fn experts_and_vision_have_their_numbers() {
    let config = ModelConfig::from_json(&golden("vl-moe")).expect("valid");
    assert_eq!(
        config.text.moe,
        Some(MoeConfig {
            num_experts: 8,
            num_experts_per_tok: 2,
            moe_intermediate_size: 8,
            shared_expert_intermediate_size: 12,
        })
    );
    let vision = config.vision.expect("a tower");
    assert_eq!(
        [vision.depth, vision.hidden_size, vision.intermediate_size],
        [2, 32, 48]
    );
    assert_eq!(
        [vision.num_heads, vision.patch_size, vision.merged_size()],
        [4, 4, 128]
    );
}

#[test]
fn missing_keys_of_a_class_with_experts_take_its_values() {
    let config = ModelConfig::from_json(&json!({"model_type": "qwen3_5_moe_text"})).expect("valid");
    let published = &find("35b-a3b").expect("known").model.text;
    assert_eq!(config.text.moe, published.moe);
    assert_eq!(config.text.hidden_size, published.hidden_size);
    assert_eq!(config.text.layer_types, published.layer_types);
    assert_eq!(
        config.text.num_key_value_heads,
        published.num_key_value_heads
    );
    assert_eq!(config.text.mtp_num_hidden_layers, 0, "no key, no MTP");
}

#[test]
fn a_multimodal_file_says_at_its_top_whether_the_head_is_the_embedding() {
    let inside = with("vl-dense", "/text_config/tie_word_embeddings", true.into());
    let config = ModelConfig::from_json(&inside).expect("valid");
    assert!(!config.text.tie_word_embeddings);
    let top = with("vl-dense", "/tie_word_embeddings", true.into());
    let config = ModelConfig::from_json(&top).expect("valid");
    assert!(config.text.tie_word_embeddings);
    assert!(config.text_only().text.tie_word_embeddings);
}

#[test]
fn the_text_part_of_a_multimodal_file_is_a_file_of_the_text_class() {
    for (case, model_type) in [("vl-dense", "qwen3_5_text"), ("vl-moe", "qwen3_5_moe_text")] {
        let config = ModelConfig::from_json(&golden(case)).expect("valid");
        let text = config.text_only();
        let json = text.to_json();
        assert_eq!(json["model_type"], model_type);
        let again = ModelConfig::from_json(&json).expect("what we write we read");
        assert_eq!(again, text, "{case}");
        assert_eq!(again.text.moe, config.text.moe);
    }
}

#[test]
fn changed_numbers_of_vision_and_experts_are_written_where_the_file_has_them() {
    let mut config = ModelConfig::from_json(&golden("vl-moe")).expect("valid");
    config.vision.as_mut().expect("a tower").depth = 3;
    config.text.moe.as_mut().expect("experts").num_experts = 16;
    let mut expected = golden("vl-moe");
    expected["vision_config"]["depth"] = 3.into();
    expected["text_config"]["num_experts"] = 16.into();
    assert_eq!(config.to_json().to_string(), expected.to_string());
}

#[test]
fn every_published_model_round_trips_through_json_with_and_without_vision() {
    for entry in registry() {
        for model in [entry.model.clone(), entry.text_only()] {
            model.validate().expect("published sizes are valid");
            let json = model.to_json();
            assert_eq!(json["model_type"], model.model_type());
            let mut again = ModelConfig::from_json(&json).expect("what we write we read");
            again.text.source = Value::Null;
            assert_eq!(again, model, "{}", entry.name);
        }
    }
}

#[test]
fn the_mtp_key_belongs_to_this_family_alone() {
    // Other families call their depth otherwise, or have none; the key neither makes them ours nor changes how they are refused.
    for family in [
        "llama",
        "deepseek_v3",
        "qwen3_next",
        "qwen3_5_vision",
        "glm4_moe",
    ] {
        let bare = json!({"model_type": family, "num_nextn_predict_layers": 1});
        let mut with_key = bare.clone();
        with_key["mtp_num_hidden_layers"] = json!("nonsense");
        for read in [
            ModelConfig::from_json(&bare).map(|_| ()),
            ModelConfig::from_json(&with_key).map(|_| ()),
            TextConfig::from_json(&bare).map(|_| ()),
            TextConfig::from_json(&with_key).map(|_| ()),
        ] {
            assert_eq!(
                read,
                Err(SpecError::OtherFamily {
                    found: family.into()
                })
            );
        }
    }
    // And their names for it mean nothing here.
    let ours =
        json!({"model_type": "qwen3_5_text", "num_nextn_predict_layers": 1, "mtp_num_layers": 2});
    let config = ModelConfig::from_json(&ours).expect("valid");
    assert_eq!(config.text.mtp_num_hidden_layers, 0);
}

#[test]
fn the_trainers_door_refuses_experts_by_name() {
    for (case, model_type, _) in CASES {
        let read = TextConfig::from_json(&golden(case));
        if case.contains("moe") {
            assert_eq!(
                read,
                Err(SpecError::MixtureOfExperts {
                    found: model_type.into()
                })
            );
        } else {
            assert_eq!(read.expect(case).hidden_size, 32);
        }
    }
}

#[test]
fn wrong_values_are_named_with_their_numbers() {
    let cases = [
        (
            "vl-dense",
            "/vision_config/num_heads",
            json!(5),
            "vision_config.hidden_size = 32 and vision_config.num_heads = 5: the first must be a multiple",
        ),
        (
            "vl-dense",
            "/vision_config/out_hidden_size",
            json!(64),
            "vision_config.out_hidden_size = 64 and hidden_size of the text model = 32: they must be equal",
        ),
        (
            "vl-dense",
            "/vision_config/deepstack_visual_indexes",
            json!([1, 3]),
            "`vision_config.deepstack_visual_indexes` = [1,3] is not supported; only an empty list is",
        ),
        (
            "vl-dense",
            "/vision_config/deepstack_visual_indexes",
            json!(8),
            "`vision_config.deepstack_visual_indexes` must be a list, found 8",
        ),
        ("vl-dense", "/vision_config/depth", json!(0), "at least 1"),
        (
            "vl-dense",
            "/vision_config/depth",
            json!(4096),
            "`vision_config.depth` = 4096, but it must be at most 1024",
        ),
        (
            "vl-dense",
            "/vision_config/patch_size",
            json!([16, 16]),
            "`vision_config.patch_size` must be a non-negative integer, found [16,16]",
        ),
        (
            "vl-dense",
            "/vision_config",
            json!("none"),
            "vision_config must be a JSON object",
        ),
        (
            "vl-dense",
            "/text_config/model_type",
            json!("qwen3_5_moe_text"),
            "model_type = qwen3_5 and text_config.model_type = qwen3_5_moe_text",
        ),
        (
            "moe",
            "/num_experts_per_tok",
            json!(9),
            "num_experts_per_tok = 9 and num_experts = 8",
        ),
        (
            "moe",
            "/num_experts",
            json!(0),
            "`num_experts` = 0, but it must be at least 1",
        ),
        (
            "moe",
            "/num_experts",
            json!(1_000_000),
            "`num_experts` = 1000000, but it must be at most 4096",
        ),
        (
            "moe",
            "/mtp_num_hidden_layers",
            json!(1 << 30),
            "`mtp_num_hidden_layers` = 1073741824, but it must be at most 64",
        ),
        (
            "dense",
            "/num_attention_heads",
            json!(2048),
            "`num_attention_heads` = 2048, but it must be at most 1024",
        ),
        (
            "moe",
            "/moe_intermediate_size",
            json!("wide"),
            "`moe_intermediate_size` must be a non-negative integer, found \"wide\"",
        ),
        (
            "vl-moe",
            "/text_config/shared_expert_intermediate_size",
            json!(-1),
            "`text_config.shared_expert_intermediate_size`",
        ),
        (
            "moe",
            "/decoder_sparse_step",
            json!(2),
            "`decoder_sparse_step` = 2 is not supported",
        ),
        (
            "moe",
            "/mlp_only_layers",
            json!([0]),
            "`mlp_only_layers` = [0] is not supported",
        ),
    ];
    for (case, pointer, value, expected) in cases {
        let message = error(&with(case, pointer, value));
        assert!(message.contains(expected), "{pointer}: {message}");
    }
    // A file may claim more experts than anybody could list.
    let mut json = golden("moe");
    for (key, value) in [("num_hidden_layers", 1024), ("num_experts", 4096)] {
        json[key] = value.into();
    }
    json["layer_types"] = Value::Null;
    assert!(error(&json).contains(
        "`num_experts * (num_hidden_layers + mtp_num_hidden_layers)` = 4198400, but it must be at most 2^17"
    ));
    let mut json = golden("vl-dense");
    json.as_object_mut()
        .expect("an object")
        .shift_remove("vision_config");
    assert!(error(&json).contains("`vision_config` must be an object with the vision tower"));
}
