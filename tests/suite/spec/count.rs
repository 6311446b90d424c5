//! Parameters to the unit and operations to the digits that are published.

use trestle::spec::{LayerKind, find, flops_per_token, layer_parameters, parameters};

/// Published counts of scalars; the last two columns are layers with full attention and with gated delta net.
#[rustfmt::skip]
const PARAMETERS: [(&str, [u64; 7]); 6] = [
    // name, embedding, head, body, text, mtp, full, linear
    ("0.8b", [254_279_680, 0, 498_113_344, 752_393_024, 20_452_864, 18_352_640, 21_555_360]),
    ("2b", [508_559_360, 0, 1_373_265_728, 1_881_825_088, 60_828_160, 52_433_408, 58_814_624]),
    ("4b", [635_699_200, 0, 3_570_052_096, 4_205_751_296, 120_599_552, 107_484_672, 112_923_840]),
    ("9b", [1_017_118_720, 1_017_118_720, 6_919_565_824, 8_953_803_264, 243_290_624, 209_723_904, 218_407_104]),
    ("27b", [1_271_398_400, 1_271_398_400, 24_353_201_664, 26_895_998_464, 424_699_392, 372_255_232, 383_273_184]),
    ("qwen3.6-27b", [1_271_398_400, 1_271_398_400, 24_353_201_664, 26_895_998_464, 424_699_392, 372_255_232, 383_273_184]),
];

/// Published counts of tensors: text, MTP.
const TENSORS: [(&str, usize, usize); 5] = [
    ("0.8b", 320, 15),
    ("2b", 320, 15),
    ("4b", 426, 15),
    ("9b", 427, 15),
    ("27b", 851, 15),
];

/// Operations a token at 4096 tokens: with one MTP depth, with none; in units of 1e9, and the unit of the last digit given.
const FLOPS: [(&str, f64, f64, f64); 5] = [
    ("0.8b", 6.628, 4.929, 0.001),
    ("2b", 15.17, 11.71, 0.01),
    ("4b", 30.98, 26.34, 0.01),
    ("9b", 56.39, 48.73, 0.01),
    ("27b", 167.39, 157.07, 0.01),
];

#[test]
fn published_sizes_have_their_published_parameters_to_the_unit() {
    for (name, [embedding, head, body, text, mtp, full, linear]) in PARAMETERS {
        let config = find(name)
            .and_then(|e| e.config.clone())
            .expect("a dense size");
        let count = parameters(&config);
        assert_eq!(count.embedding, embedding, "{name} embedding");
        assert_eq!(count.head, head, "{name} head");
        assert_eq!(count.decoder, body, "{name} body");
        assert_eq!(count.text(), text, "{name} text");
        assert_eq!(count.mtp, mtp, "{name} mtp");
        assert_eq!(count.total, text + mtp, "{name} total");
        assert_eq!(
            layer_parameters(&config, LayerKind::FullAttention),
            full,
            "{name} full"
        );
        assert_eq!(
            layer_parameters(&config, LayerKind::LinearAttention),
            linear,
            "{name} linear"
        );
    }
}

#[test]
fn published_sizes_have_their_published_number_of_tensors() {
    for (name, text, mtp) in TENSORS {
        let config = find(name)
            .and_then(|e| e.config.clone())
            .expect("a dense size");
        let count = parameters(&config);
        assert_eq!(count.text_tensors, text, "{name}");
        assert_eq!(count.tensors - count.text_tensors, mtp, "{name}");
    }
}

#[test]
fn operations_a_token_agree_with_the_published_digits() {
    for (name, with, without, digit) in FLOPS {
        let mut config = find(name)
            .and_then(|e| e.config.clone())
            .expect("a dense size");
        let found = flops_per_token(&config, 4096.0).0 / 1e9;
        assert!(
            (found - with).abs() <= 0.51 * digit,
            "{name}: {found} and {with}"
        );
        config.mtp_num_hidden_layers = 0;
        let found = flops_per_token(&config, 4096.0).0 / 1e9;
        assert!(
            (found - without).abs() <= 0.51 * digit,
            "{name}: {found} and {without}"
        );
    }
}
