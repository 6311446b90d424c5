//! Names, places, decay groups and starting values of weights.

use candle_core::{Device, Tensor};
use serde_json::json;
use trestle::nn::{NnError, Parameters};
use trestle::spec::{self, TextConfig};

fn config(mtp: usize) -> TextConfig {
    TextConfig::from_json(&json!({
        "model_type": "qwen3_5_text",
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
        "layer_types": ["linear_attention", "full_attention"],
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false,
        "max_position_embeddings": 256,
        "initializer_range": 0.02,
        "mtp_num_hidden_layers": mtp,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.5,
            "mrope_section": [2, 1, 1], "mrope_interleaved": true,
        },
    }))
    .expect("a small config")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn parameters_fill_the_arena_in_the_order_of_the_spec() {
    let config = config(2);
    let parameters =
        Parameters::from_spec(&config, &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    let specs = spec::tensors(&config);
    assert_eq!(parameters.entries().len(), specs.len());
    let mut end = 0;
    for (entry, spec) in parameters.entries().iter().zip(&specs) {
        assert_eq!((&entry.name, &entry.shape), (&spec.name, &spec.shape));
        assert_eq!(entry.offset, end);
        end = entry.range().end;
    }
    assert_eq!(parameters.len(), end);
    assert_eq!(parameters.weights().dims(), [end]);
    assert!(parameters.names().any(|name| name == "mtp.1.fc.weight"));
}

#[test]
fn a_config_with_experts_is_refused() {
    let moe = &spec::find("toy-moe").expect("a toy").model.text;
    let error = Parameters::from_spec(moe, &Device::Cpu, trestle::nn::Precision::F32).unwrap_err();
    assert!(matches!(
        error,
        NnError::MixtureOfExperts { num_experts: 8 }
    ));
    assert_eq!(
        error.to_string(),
        "the config has 8 experts a layer; this version trains dense models only"
    );
}

#[test]
fn a_view_writes_through_to_the_arena() {
    let parameters =
        Parameters::from_spec(&config(1), &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    let name = "mtp.fc.weight";
    let ramp = Tensor::arange(0f32, 32.0 * 64.0, &Device::Cpu)
        .unwrap()
        .reshape((32, 64))
        .unwrap();
    parameters.set(name, &ramp).unwrap();
    let range = parameters.entry(name).unwrap().range();
    let arena = values(parameters.weights());
    assert_eq!(arena[range.clone()], values(&ramp));
    assert_eq!(arena.iter().filter(|v| **v != 0.0).count(), range.len() - 1);
    assert_eq!(values(&parameters.weight(name).unwrap()), values(&ramp));

    parameters
        .grad(name)
        .unwrap()
        .const_set(2f32.into())
        .unwrap();
    assert_eq!(
        values(parameters.grads()).iter().sum::<f32>(),
        2.0 * range.len() as f32
    );
    parameters.zero_grads().unwrap();
    assert!(values(parameters.grads()).iter().all(|v| *v == 0.0));
}

#[test]
fn an_unknown_name_and_a_wrong_shape_are_errors_that_say_so() {
    let parameters =
        Parameters::from_spec(&config(0), &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    let error = parameters.weight("mtp.fc.weight").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model has no parameter mtp.fc.weight"
    );
    let flat = Tensor::zeros(32, candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = parameters.set("lm_head.weight", &flat).unwrap_err();
    assert!(matches!(error, NnError::ShapeMismatch { .. }));
    assert_eq!(
        error.to_string(),
        "lm_head.weight is [32], but the model needs [96, 32]"
    );
}

#[test]
fn matrices_and_the_convolution_decay_and_nothing_else() {
    let parameters =
        Parameters::from_spec(&config(1), &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    let decays = |name: &str| parameters.decays(name).unwrap();
    assert!(decays("model.embed_tokens.weight"));
    assert!(decays("model.layers.0.linear_attn.conv1d.weight"));
    assert!(!decays("model.layers.0.linear_attn.A_log"));
    assert!(!decays("mtp.norm.weight"));
    let mut end = 0;
    let ranges = parameters.decay_ranges();
    for (i, (range, decays)) in ranges.iter().enumerate() {
        assert_eq!(range.start, end);
        assert_eq!(*decays, (i % 2 == 0) == ranges[0].1);
        end = range.end;
    }
    assert_eq!(end, parameters.len());
}

#[test]
fn random_weights_follow_the_table_of_transformers() {
    let config = config(1);
    let parameters =
        Parameters::from_spec(&config, &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    parameters.initialize(7).unwrap();
    let weight = |name: &str| values(&parameters.weight(name).unwrap());
    assert!(weight("model.norm.weight").iter().all(|v| *v == 0.0));
    assert!(
        weight("model.layers.0.linear_attn.norm.weight")
            .iter()
            .all(|v| *v == 1.0)
    );
    assert!(
        weight("model.layers.0.linear_attn.dt_bias")
            .iter()
            .all(|v| *v == 1.0)
    );
    for v in weight("model.layers.0.linear_attn.A_log") {
        assert!((0.01f32.ln()..=16f32.ln()).contains(&v), "{v}");
    }
    for name in [
        "model.embed_tokens.weight",
        "mtp.fc.weight",
        "lm_head.weight",
    ] {
        let w = weight(name);
        let mean = w.iter().sum::<f32>() / w.len() as f32;
        let std = (w.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / w.len() as f32).sqrt();
        assert!(
            mean.abs() < 0.002 && (std - 0.02).abs() < 0.001,
            "{name}: {mean} {std}"
        );
    }
}

#[test]
fn a_seed_gives_the_same_decoder_with_and_without_mtp() {
    let [with, without] = [1, 0].map(|depth| {
        let parameters =
            Parameters::from_spec(&config(depth), &Device::Cpu, trestle::nn::Precision::F32)
                .unwrap();
        parameters.initialize(3).unwrap();
        parameters
    });
    for name in without.names() {
        let [a, b] = [&with, &without].map(|p| values(&p.weight(name).unwrap()));
        assert_eq!(a, b, "{name}");
    }
    let other =
        Parameters::from_spec(&config(0), &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    other.initialize(4).unwrap();
    assert_ne!(values(other.weights()), values(without.weights()));
}
