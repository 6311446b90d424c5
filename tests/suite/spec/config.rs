//! `config.json` both ways, and what is refused.

use serde_json::{Value, json};
use trestle::base::DType;
use trestle::spec::{LayerKind, SpecError, TextConfig, find, registry};

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/golden/config/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the golden is in the repository");
    serde_json::from_str(&text).expect("the golden is JSON")
}

/// The text golden with one key replaced.
fn with(key: &str, value: Value) -> Value {
    let mut json = golden("text.json");
    match key.split_once('.') {
        Some((outer, inner)) => json[outer][inner] = value,
        None => json[key] = value,
    }
    json
}

fn error(json: &Value) -> String {
    TextConfig::from_json(json)
        .expect_err("this config must be refused")
        .to_string()
}

#[test]
fn the_text_class_is_read() {
    let config = TextConfig::from_json(&golden("text.json")).expect("a valid config");
    assert_eq!(config.hidden_size, 64);
    assert_eq!(config.head_dim, 32);
    assert_eq!(config.rotary_dim(), 8);
    assert_eq!(config.mrope_section, [2, 1, 1]);
    assert_eq!(config.layer_types[3], LayerKind::FullAttention);
    assert_eq!(config.layer_types[2], LayerKind::LinearAttention);
    assert!(config.tie_word_embeddings);
    assert_eq!(
        config.mtp_num_hidden_layers, 0,
        "a file without the key has no MTP"
    );
    let depth2 = TextConfig::from_json(&golden("text_mtp2.json")).expect("a valid config");
    assert_eq!(depth2.mtp_num_hidden_layers, 2);
}

#[test]
fn the_multimodal_class_keeps_its_text_model_inside_and_its_tie_outside() {
    let mut json = golden("multimodal.json");
    let config = TextConfig::from_json(&json).expect("a valid config");
    assert_eq!(config.hidden_size, 32);
    assert_eq!(config.mtp_num_hidden_layers, 1);
    json["tie_word_embeddings"] = true.into();
    let tied = TextConfig::from_json(&json).expect("a valid config");
    assert!(tied.tie_word_embeddings);
    assert_eq!(tied.to_json(), json);

    let text = tied.to_text_json();
    assert_eq!(text["model_type"], "qwen3_5_text");
    let again = TextConfig::from_json(&text).expect("the text class of it is valid");
    assert!(again.tie_word_embeddings);
    assert_eq!(again.hidden_size, 32);
}

#[test]
fn files_come_back_byte_for_byte_with_unknown_keys_in_order() {
    for name in ["text.json", "text_mtp2.json", "multimodal.json"] {
        let mut json = golden(name);
        json["zz_unknown"] = json!({"b": 1, "a": [1.5, null]});
        let config = TextConfig::from_json(&json).expect("a valid config");
        assert_eq!(config.to_json().to_string(), json.to_string(), "{name}");
    }
}

#[test]
fn a_changed_value_is_written_where_the_file_has_it() {
    let mut config = TextConfig::from_json(&golden("multimodal.json")).expect("a valid config");
    config.mtp_num_hidden_layers = 2;
    config.rope_theta = 5e5;
    config.dtype = Some(DType::F32);
    let json = config.to_json();
    let mut expected = golden("multimodal.json");
    expected["text_config"]["mtp_num_hidden_layers"] = 2.into();
    expected["text_config"]["rope_parameters"]["rope_theta"] = 5e5.into();
    expected["text_config"]["dtype"] = "float32".into();
    assert_eq!(json.to_string(), expected.to_string());
}

#[test]
fn older_files_have_rotary_keys_elsewhere() {
    let mut json = golden("text.json");
    let rope = json["rope_parameters"].take();
    let map = json.as_object_mut().expect("an object");
    map.shift_remove("rope_parameters");
    map.insert("rope_theta".into(), 5000.into());
    map.insert(
        "partial_rotary_factor".into(),
        rope["partial_rotary_factor"].clone(),
    );
    map.insert(
        "rope_scaling".into(),
        json!({"type": "mrope", "mrope_section": [2, 1, 1]}),
    );
    let mut config = TextConfig::from_json(&json).expect("a valid config");
    assert_eq!(config.rope_theta, 5000.0);
    assert_eq!(config.mrope_section, [2, 1, 1]);
    config.mrope_section = [1, 2, 1];
    config.rope_theta = 6000.0;
    let written = config.to_json();
    assert_eq!(written["rope_scaling"]["mrope_section"], json!([1, 2, 1]));
    assert_eq!(written["rope_theta"], 6000.0);
}

#[test]
fn missing_keys_take_the_familys_values() {
    let config = TextConfig::from_json(&json!({"model_type": "qwen3_5_text"})).expect("valid");
    let nine = find("9b")
        .and_then(|e| e.dense().cloned())
        .expect("9B is dense");
    assert_eq!(config.hidden_size, nine.hidden_size);
    assert_eq!(config.layer_types, nine.layer_types);
    assert_eq!(config.mrope_section, [11, 11, 10]);

    let by_interval = TextConfig::from_json(
        &json!({"model_type": "qwen3_5_text", "num_hidden_layers": 6, "full_attention_interval": 3}),
    )
    .expect("valid");
    let full: Vec<usize> = (0..6)
        .filter(|&i| by_interval.layer_types[i] == LayerKind::FullAttention)
        .collect();
    assert_eq!(full, [2, 5]);
}

#[test]
fn every_entry_of_the_registry_round_trips_through_json() {
    for entry in registry() {
        let Some(config) = entry.dense() else {
            continue;
        };
        config.validate().expect("published sizes are valid");
        let mut again = TextConfig::from_json(&config.to_json()).expect("what we write we read");
        again.source = Value::Null;
        assert_eq!(&again, config, "{}", entry.name);
    }
}

#[test]
fn names_are_found_in_every_spelling() {
    for name in [
        "qwen3_5-0_8b",
        "Qwen/Qwen3.5-0.8B",
        "qwen3.5-0.8b",
        "0.8b",
        " 0.8B ",
    ] {
        assert_eq!(find(name).map(|e| e.name), Some("qwen3_5-0_8b"), "{name}");
    }
    assert_eq!(find("27b").map(|e| e.name), Some("qwen3_5-27b"));
    assert_eq!(
        find("Qwen/Qwen3.6-27B").map(|e| e.name),
        Some("qwen3_6-27b")
    );
    assert_eq!(find("toy").map(|e| e.name), Some("toy"));
    assert!(find("35b-a3b").expect("known").dense().is_none());
    assert!(find("13b").is_none());
}

#[test]
fn other_families_are_named() {
    // The MTP key means nothing in a file of another family, and does not make it one of ours.
    let llama = json!({"model_type": "llama", "mtp_num_hidden_layers": 1, "hidden_size": 64});
    assert!(error(&llama).contains("`llama`"));
    assert!(error(&json!({"architectures": ["Qwen3ForCausalLM"]})).contains("Qwen3ForCausalLM"));
    assert!(error(&json!({"model_type": "qwen3_5_vision"})).contains("qwen3_5_vision"));
    assert_eq!(
        TextConfig::from_json(&json!({"hidden_size": 64})),
        Err(SpecError::NoFamily)
    );
    assert!(error(&json!([1])).contains("must be a JSON object, found [1]"));
    let moe = error(&golden("moe.json"));
    assert!(
        moe.contains("qwen3_5_moe_text") && moe.contains("dense models only"),
        "{moe}"
    );
}

#[test]
fn wrong_values_are_named_with_their_numbers() {
    let cases = [
        (
            "hidden_size",
            json!("big"),
            "`hidden_size` must be a non-negative integer, found \"big\"",
        ),
        ("hidden_size", json!(-1), "found -1"),
        (
            "num_hidden_layers",
            json!(1_000_000_000),
            "`num_hidden_layers` = 1000000000, but it must be at most 1024",
        ),
        (
            "head_dim",
            json!(1 << 23),
            "`num_attention_heads * head_dim` = 33554432, but it must be at most 2^24",
        ),
        (
            "num_attention_heads",
            json!(0),
            "`num_attention_heads` = 0, but it must be at least 1",
        ),
        (
            "num_key_value_heads",
            json!(3),
            "num_attention_heads = 4 and num_key_value_heads = 3: the first must be a multiple",
        ),
        (
            "linear_num_value_heads",
            json!(3),
            "linear_num_value_heads = 3 and linear_num_key_heads = 2",
        ),
        (
            "rope_parameters.mrope_section",
            json!([2, 2, 2]),
            "sum of mrope_section = 6 and half of the rotary width = 4",
        ),
        (
            "rope_parameters.mrope_section",
            json!([2, 2]),
            "a list of three integers",
        ),
        (
            "rope_parameters.partial_rotary_factor",
            json!(0.28125),
            "head_dim = 32 and partial_rotary_factor = 0.28125",
        ),
        (
            "rope_parameters.partial_rotary_factor",
            json!(1.5),
            "`partial_rotary_factor` = 1.5",
        ),
        (
            "rope_parameters.rope_type",
            json!("yarn"),
            "`rope_parameters.rope_type` = \"yarn\" is not supported",
        ),
        (
            "layer_types",
            json!(["full_attention"]),
            "num_hidden_layers = 4 and entries of layer_types = 1",
        ),
        ("layer_types", json!(["mamba"]), "layer_types[0]"),
        (
            "hidden_act",
            json!("gelu"),
            "`hidden_act` = \"gelu\" is not supported; only `silu` is",
        ),
        ("attention_dropout", json!(0.1), "attention_dropout"),
        ("dtype", json!("int8"), "`dtype` must be"),
        (
            "rms_norm_eps",
            json!(0),
            "`rms_norm_eps` = 0, but it must be above 0",
        ),
        (
            "tie_word_embeddings",
            json!("yes"),
            "`tie_word_embeddings` must be true or false",
        ),
    ];
    for (key, value, expected) in cases {
        let message = error(&with(key, value));
        assert!(message.contains(expected), "{key}: {message}");
    }
    let mut multimodal = golden("multimodal.json");
    multimodal["text_config"]["head_dim"] = json!([1]);
    assert!(error(&multimodal).contains("`text_config.head_dim`"));
}
