//! What must hold for any weights: errors leave no trace, documents do not see each other, MTP hangs where it should.

use candle_core::Tensor;
use trestle::nn::{Batch, LossScales, Model, NnError, Parameters, Recompute};
use trestle::ops::CuSeqlens;
use trestle::spec::TextConfig;

use super::golden::{max_abs_error, values};
use super::shapes::{FULL, GDN, Tiny, documents, lively};

const TINY: Tiny = Tiny {
    heads: 4,
    kv_heads: 2,
    key_heads: 2,
    value_heads: 4,
    layers: &[GDN, FULL],
    tied: true,
    mtp: 2,
};

fn model(config: &TextConfig, parameters: Parameters) -> Model {
    Model::new(config.clone(), parameters, &Recompute::None).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_step_after_an_error_in_the_loss_equals_one_of_a_fresh_model() {
    let config = TINY.config();
    let good = documents(&[12, 9], config.vocab_size as u32, false, 1);
    let mut bad = good.clone();
    bad.labels[5] = config.vocab_size as u32;
    bad.loss_mask[5] = 1.0;

    let used = model(&config, lively(&config, 2));
    let scales = LossScales::default();
    let weights = bits(used.parameters().weights());
    used.forward_backward(&bad, &scales).unwrap_err();
    assert_eq!(bits(used.parameters().weights()), weights);
    used.parameters().zero_grads().unwrap();
    let after_error = used
        .forward_backward(&good, &scales)
        .unwrap()
        .read()
        .unwrap();

    let fresh = model(&config, lively(&config, 2));
    assert_eq!(
        fresh
            .forward_backward(&good, &scales)
            .unwrap()
            .read()
            .unwrap(),
        after_error
    );
    assert_eq!(
        bits(fresh.parameters().grads()),
        bits(used.parameters().grads())
    );
}

#[test]
fn a_batch_that_does_not_fit_is_an_error_that_says_what() {
    let config = TINY.config();
    let model = model(&config, lively(&config, 2));
    let mut batch = documents(&[8], config.vocab_size as u32, false, 1);
    batch.input_ids[3] = 61;
    let error = model.evaluate(&batch).unwrap_err();
    assert_eq!(
        error.to_string(),
        "token 3 is 61, but the vocabulary has 61 entries"
    );
    batch.position_ids[1].pop();
    let error = model
        .forward_backward(&batch, &LossScales::default())
        .unwrap_err();
    assert!(matches!(
        error,
        NnError::BatchLength {
            part: "position_ids",
            tokens: 8,
            found: 7
        }
    ));
}

#[test]
fn parameters_of_another_config_are_refused_by_name() {
    let without = Tiny { mtp: 0, ..TINY }.config();
    let error = Model::new(TINY.config(), lively(&without, 1), &Recompute::None).unwrap_err();
    assert!(error.to_string().contains("mtp."), "{error}");
}

#[test]
fn evaluation_adds_no_gradient() {
    let config = TINY.config();
    let model = model(&config, lively(&config, 3));
    let batch = documents(&[10], config.vocab_size as u32, false, 1);
    let output = model.evaluate(&batch).unwrap().read().unwrap();
    assert_eq!(output.mtp.len(), 2);
    assert!(values(model.parameters().grads()).iter().all(|g| *g == 0.0));
}

#[test]
fn a_loss_scale_of_zero_gives_the_gradients_of_a_model_without_mtp() {
    let without = Tiny { mtp: 0, ..TINY }.config();
    let batch = documents(&[14, 5], without.vocab_size as u32, true, 6);
    let with = model(&TINY.config(), lively(&TINY.config(), 8));
    let plain = Parameters::from_spec(
        &without,
        &candle_core::Device::Cpu,
        trestle::nn::Precision::F32,
    )
    .unwrap();
    for name in plain.names() {
        plain
            .set(name, &with.parameters().weight(name).unwrap())
            .unwrap();
    }
    let plain = model(&without, plain);
    let scales = LossScales {
        mtp_lambda: 0.0,
        ..LossScales::default()
    };
    let output = with
        .forward_backward(&batch, &scales)
        .unwrap()
        .read()
        .unwrap();
    assert_eq!(
        output.main,
        plain
            .forward_backward(&batch, &scales)
            .unwrap()
            .read()
            .unwrap()
            .main
    );
    assert!(output.mtp.iter().all(|depth| depth.loss_sum > 0.0));
    for name in with.parameters().names() {
        let grad = with.parameters().grad(name).unwrap();
        if name.starts_with("mtp.") {
            assert!(values(&grad).iter().all(|g| *g == 0.0), "{name}");
        } else {
            assert_eq!(
                bits(&grad),
                bits(&plain.parameters().grad(name).unwrap()),
                "{name}"
            );
        }
    }
}

#[test]
fn packed_documents_give_what_each_gives_alone() {
    let config = TINY.config();
    let model = model(&config, lively(&config, 4));
    let packed = documents(&[70, 1, 2, 33], config.vocab_size as u32, true, 7);
    let together = model.hidden_states(&packed).unwrap();
    for segment in packed.cu_seqlens.segments() {
        let cut = |row: &[i64]| row[segment.clone()].to_vec();
        let alone = Batch {
            input_ids: packed.input_ids[segment.clone()].to_vec(),
            labels: packed.labels[segment.clone()].to_vec(),
            loss_mask: packed.loss_mask[segment.clone()].to_vec(),
            position_ids: packed.position_ids.each_ref().map(|row| cut(row)),
            cu_seqlens: CuSeqlens::uniform(1, segment.len()),
        };
        let alone = model.hidden_states(&alone).unwrap();
        for (alone, together) in alone.depths.iter().zip(&together.depths) {
            let part = together.narrow(0, segment.start, segment.len()).unwrap();
            let error = max_abs_error(&values(alone), &values(&part));
            assert!(error < 2e-5, "{segment:?}: {error}");
        }
    }
}

#[test]
fn a_random_start_predicts_every_token_alike() {
    let config = TINY.config();
    let parameters = Parameters::from_spec(
        &config,
        &candle_core::Device::Cpu,
        trestle::nn::Precision::F32,
    )
    .unwrap();
    parameters.initialize(1).unwrap();
    let model = model(&config, parameters);
    let batch = documents(&[40], config.vocab_size as u32, false, 3);
    let output = model.evaluate(&batch).unwrap().read().unwrap();
    let uniform = (config.vocab_size as f64).ln();
    for loss in std::iter::once(&output.main).chain(&output.mtp) {
        assert!(
            (loss.mean() - uniform).abs() < 0.1,
            "{} of {uniform}",
            loss.mean()
        );
    }
}

#[test]
fn mtp_reads_the_state_after_the_final_norm_and_the_embedding_first() {
    let config = TINY.config();
    let model = model(&config, lively(&config, 4));
    let batch = documents(&[30], config.vocab_size as u32, false, 3);
    let before = model.evaluate(&batch).unwrap().read().unwrap();
    let parameters = model.parameters();

    let fc = parameters.weight("mtp.fc.weight").unwrap().copy().unwrap();
    let h = config.hidden_size;
    let [first, second] = [0, h].map(|start| fc.narrow(1, start, h).unwrap());
    parameters
        .set("mtp.fc.weight", &Tensor::cat(&[second, first], 1).unwrap())
        .unwrap();
    let swapped = model.evaluate(&batch).unwrap().read().unwrap();
    assert_eq!(swapped.main, before.main);
    assert!((swapped.mtp[0].mean() - before.mtp[0].mean()).abs() > 1e-2);
    parameters.set("mtp.fc.weight", &fc).unwrap();

    let norm = parameters.weight("model.norm.weight").unwrap();
    parameters
        .set("model.norm.weight", &(norm + 0.5).unwrap())
        .unwrap();
    let louder = model.evaluate(&batch).unwrap().read().unwrap();
    assert!((louder.mtp[0].mean() - before.mtp[0].mean()).abs() > 1e-6);
}

#[test]
fn the_size_of_a_loss_chunk_does_not_matter() {
    let config = TINY.config();
    let batch = documents(&[25, 12], config.vocab_size as u32, false, 3);
    let [small, large] = [3, 1000].map(|chunk| {
        let model = model(&config, lively(&config, 4)).with_loss_chunk(chunk);
        let output = model
            .forward_backward(&batch, &LossScales::default())
            .unwrap()
            .read()
            .unwrap();
        (output.main.mean(), values(model.parameters().grads()))
    });
    assert!((small.0 - large.0).abs() < 1e-6);
    assert!(max_abs_error(&small.1, &large.1) < 1e-5);
}
