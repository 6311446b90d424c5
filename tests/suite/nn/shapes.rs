//! Other geometries than the goldens', against candle's autograd in f64.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use trestle::nn::{Batch, LossScales, Model, Parameters, Recompute};
use trestle::ops::CuSeqlens;
use trestle::spec::{LayerKind, TextConfig};

use super::golden::{Comparison, max_abs_error, relative_l2, values};
use super::oracle::Oracle;

/// The numbers that differ from one tiny model to the next.
#[derive(Clone, Copy)]
pub(super) struct Tiny {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) key_heads: usize,
    pub(super) value_heads: usize,
    pub(super) layers: &'static [LayerKind],
    pub(super) tied: bool,
    pub(super) mtp: usize,
}

pub(super) const GDN: LayerKind = LayerKind::LinearAttention;
pub(super) const FULL: LayerKind = LayerKind::FullAttention;

impl Tiny {
    pub(super) fn config(&self) -> TextConfig {
        TextConfig::from_json(&json!({
            "model_type": "qwen3_5_text",
            "vocab_size": 61,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": self.layers.len(),
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": 16,
            "linear_num_key_heads": self.key_heads,
            "linear_num_value_heads": self.value_heads,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 12,
            "linear_conv_kernel_dim": 4,
            "layer_types": self.layers,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 512,
            "mtp_num_hidden_layers": self.mtp,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75,
                "mrope_section": [2, 2, 2], "mrope_interleaved": true,
            },
        }))
        .unwrap()
    }
}

/// Weights of a size that makes every part of the model matter.
pub(super) fn lively(config: &TextConfig, seed: u64) -> Parameters {
    let parameters =
        Parameters::from_spec(config, &Device::Cpu, trestle::nn::Precision::F32).unwrap();
    parameters.initialize(seed).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for entry in parameters.entries() {
        let n = entry.range().len();
        let mut noise = |scale: f32| -> Vec<f32> {
            (0..n).map(|_| random.random_range(-scale..scale)).collect()
        };
        let (name, dims) = (entry.name.as_str(), entry.shape.0.as_slice());
        let weight = if name.ends_with("A_log") {
            noise(1.5).iter().map(|v| v - 2.0).collect()
        } else if dims.len() == 1 {
            let start = values(&parameters.weight(name).unwrap());
            start.iter().zip(noise(0.4)).map(|(a, b)| a + b).collect()
        } else {
            noise(1.7 / (dims[dims.len() - 1] as f32).sqrt())
        };
        let weight = Tensor::from_vec(weight, dims, &Device::Cpu).unwrap();
        parameters.set(name, &weight).unwrap();
    }
    parameters
}

/// Random documents of the given lengths, with holes in the mask and, if asked, positions as images have them.
pub(super) fn documents(lengths: &[usize], vocab: u32, images: bool, seed: u64) -> Batch {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let n: usize = lengths.iter().sum();
    let mut ids = |n: usize| {
        (0..n)
            .map(|_| random.random_range(0..vocab))
            .collect::<Vec<_>>()
    };
    let (input_ids, labels) = (ids(n), ids(n));
    let mask = (0..n)
        .map(|_| f32::from(random.random_range(0..5) > 0))
        .collect();
    let mut cu_seqlens = vec![0];
    for length in lengths {
        cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length);
    }
    let mut batch = Batch::text(input_ids, labels, mask, CuSeqlens::new(cu_seqlens).unwrap());
    if images {
        for (row, stride) in batch.position_ids.iter_mut().zip([1, 2, 3]) {
            for (i, position) in row.iter_mut().enumerate() {
                *position = *position / stride + (i as i64 % stride);
            }
        }
    }
    batch
}

fn check(tiny: Tiny, lengths: &[usize], images: bool) {
    let config = tiny.config();
    let parameters = lively(&config, 5);
    let batch = documents(lengths, config.vocab_size as u32, images, 9);
    let oracle = Oracle::new(&config, &parameters);
    let want = oracle.answer(&batch, 0.3);
    let model = Model::new(config.clone(), parameters, &Recompute::None)
        .unwrap()
        .with_loss_chunk(7);

    let title = format!(
        "autograd {}h {}kv {}k {}v",
        tiny.heads, tiny.kv_heads, tiny.key_heads, tiny.value_heads
    );
    let mut comparison = Comparison::new(title);
    let hidden = model.hidden_states(&batch).unwrap();
    for (k, (state, want)) in hidden.depths.iter().zip(&want.logits).enumerate() {
        let got = values(&model.logits(state).unwrap());
        let error = max_abs_error(&got, &values(want));
        comparison.at_most("logits max abs", &format!("of depth {k}"), error, 2e-4);
    }
    let scales = LossScales {
        mtp_lambda: 0.3,
        ..LossScales::default()
    };
    let output = model
        .forward_backward(&batch, &scales)
        .unwrap()
        .read()
        .unwrap();
    let losses = std::iter::once(&output.main).chain(&output.mtp);
    for (k, (got, want)) in losses.zip(&want.losses).enumerate() {
        comparison.at_most(
            "loss",
            &format!("of depth {k}"),
            (got.mean() - want).abs(),
            2e-5,
        );
    }
    for name in model.parameters().names() {
        let got = values(&model.parameters().grad(name).unwrap());
        let want = want
            .grads
            .get(name)
            .map_or_else(|| vec![0.0; got.len()], values);
        let size = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        if size < 1e-9 {
            comparison.at_most(
                "gradient that is zero",
                name,
                max_abs_error(&got, &want),
                1e-7,
            );
        } else {
            comparison.at_most("gradient rel l2", name, relative_l2(&got, &want), 2e-4);
        }
    }
    comparison.finish();
}

const BASE: Tiny = Tiny {
    heads: 4,
    kv_heads: 2,
    key_heads: 2,
    value_heads: 4,
    layers: &[GDN, FULL],
    tied: true,
    mtp: 1,
};

#[test]
fn value_heads_that_equal_key_heads_agree_with_autograd() {
    let tiny = Tiny {
        key_heads: 3,
        value_heads: 3,
        ..BASE
    };
    check(tiny, &[13], false);
}

#[test]
fn four_value_heads_a_key_head_agree_with_autograd() {
    let tiny = Tiny {
        key_heads: 1,
        value_heads: 4,
        layers: &[GDN, GDN, FULL],
        ..BASE
    };
    check(tiny, &[7, 1, 20], false);
}

#[test]
fn one_key_value_head_for_all_queries_agrees_with_autograd() {
    check(
        Tiny {
            heads: 3,
            kv_heads: 1,
            ..BASE
        },
        &[17, 2],
        false,
    );
}

#[test]
fn as_many_key_value_heads_as_queries_agree_with_autograd() {
    check(
        Tiny {
            heads: 2,
            kv_heads: 2,
            tied: false,
            ..BASE
        },
        &[5, 5, 5],
        false,
    );
}

#[test]
fn attention_before_delta_nets_agrees_with_autograd() {
    check(
        Tiny {
            layers: &[FULL, GDN, FULL, GDN],
            tied: false,
            mtp: 0,
            ..BASE
        },
        &[19],
        false,
    );
}

#[test]
fn positions_of_images_agree_with_autograd() {
    check(
        Tiny {
            layers: &[FULL, GDN],
            mtp: 2,
            ..BASE
        },
        &[11, 16],
        true,
    );
}

#[test]
fn documents_longer_than_a_chunk_agree_with_autograd() {
    check(
        Tiny {
            key_heads: 1,
            value_heads: 2,
            heads: 2,
            kv_heads: 1,
            ..BASE
        },
        &[66, 63, 1],
        false,
    );
}

#[test]
fn three_depths_over_documents_of_one_and_two_tokens_agree_with_autograd() {
    check(
        Tiny {
            mtp: 3,
            layers: &[GDN],
            ..BASE
        },
        &[1, 2, 3, 4, 1],
        false,
    );
}

#[test]
fn a_mask_of_zeros_gives_no_loss_and_no_gradient() {
    let config = BASE.config();
    let model = Model::new(config.clone(), lively(&config, 1), &Recompute::None).unwrap();
    let mut batch = documents(&[9], config.vocab_size as u32, false, 2);
    batch.loss_mask.fill(0.0);
    let output = model
        .forward_backward(&batch, &LossScales::default())
        .unwrap()
        .read()
        .unwrap();
    assert_eq!(output.main.mean(), 0.0);
    assert_eq!(output.mtp[0].total, 0);
    let grads = model.parameters().grads().to_dtype(DType::F64).unwrap();
    assert_eq!(
        grads
            .abs()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap(),
        0.0
    );
}
