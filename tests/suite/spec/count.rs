//! Parameters to the unit and operations to the digits that are published.

use trestle::spec::{
    ExpertStyle, LayerKind, find, flops_per_token, layer_parameters, model_parameters, parameters,
    registry,
};

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

/// Published counts of whole models: scalars of text, vision, MTP and all; tensors of text, vision, MTP one expert at a time, MTP fused.
#[rustfmt::skip]
const MODELS: [(&str, [u64; 4], [usize; 4]); 12] = [
    ("qwen3_5-0_8b", [752_393_024, 100_592_896, 20_452_864, 873_438_784], [320, 153, 15, 15]),
    ("qwen3_5-2b", [1_881_825_088, 331_416_576, 60_828_160, 2_274_069_824], [320, 297, 15, 15]),
    ("qwen3_5-4b", [4_205_751_296, 333_514_240, 120_599_552, 4_659_865_088], [426, 297, 15, 15]),
    ("qwen3_5-9b", [8_953_803_264, 456_010_480, 243_290_624, 9_653_104_368], [427, 333, 15, 15]),
    ("qwen3_5-9b-base", [8_953_803_264, 456_010_480, 243_290_624, 9_653_104_368], [427, 333, 15, 15]),
    ("qwen3_5-27b", [26_895_998_464, 460_730_096, 424_699_392, 27_781_427_952], [851, 333, 15, 15]),
    ("qwen3_6-27b", [26_895_998_464, 460_730_096, 424_699_392, 27_781_427_952], [851, 333, 15, 15]),
    ("qwen3_5-35b-a3b", [34_660_610_688, 446_571_248, 844_640_768, 35_951_822_704], [693, 333, 785, 19]),
    ("qwen3_5-35b-a3b-base", [34_660_610_688, 446_571_248, 844_640_768, 35_951_822_704], [693, 333, 785, 19]),
    ("qwen3_6-35b-a3b", [34_660_610_688, 446_571_248, 844_640_768, 35_951_822_704], [693, 333, 785, 19]),
    ("qwen3_5-122b-a10b", [122_111_526_912, 451_290_864, 2_523_679_232, 125_086_497_008], [831, 333, 785, 19]),
    ("qwen3_5-397b-a17b", [396_346_350_336, 456_010_480, 6_595_568_128, 403_397_928_944], [1038, 333, 1553, 19]),
];

/// Published counts of scalars of layers with experts: full attention, gated delta net.
const MOE_LAYERS: [(&str, u64, u64); 3] = [
    ("35b-a3b", 836_246_016, 842_700_992),
    ("122b-a10b", 2_504_795_648, 2_514_674_944),
    ("397b-a17b", 6_562_001_408, 6_575_157_504),
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
const FLOPS: [(&str, f64, f64, f64); 8] = [
    ("0.8b", 6.628, 4.929, 0.001),
    ("2b", 15.17, 11.71, 0.01),
    ("4b", 30.98, 26.34, 0.01),
    ("9b", 56.39, 48.73, 0.01),
    ("27b", 167.39, 157.07, 0.01),
    ("35b-a3b", 22.471, 18.935, 0.001),
    ("122b-a10b", 63.016, 57.143, 0.001),
    ("397b-a17b", 109.349, 101.384, 0.001),
];

#[test]
fn published_sizes_have_their_published_parameters_to_the_unit() {
    for (name, [embedding, head, body, text, mtp, full, linear]) in PARAMETERS {
        let config = find(name)
            .and_then(|e| e.dense().cloned())
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
            .and_then(|e| e.dense().cloned())
            .expect("a dense size");
        let count = parameters(&config);
        assert_eq!(count.text_tensors, text, "{name}");
        assert_eq!(count.tensors - count.text_tensors, mtp, "{name}");
    }
}

#[test]
fn operations_a_token_agree_with_the_published_digits() {
    for (name, with, without, digit) in FLOPS {
        let mut config = find(name).expect("a known size").model.text.clone();
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

#[test]
fn every_published_model_has_its_scalars_and_tensors_to_the_unit() {
    let published: Vec<&str> = registry()
        .iter()
        .filter(|entry| !entry.hf_id.is_empty())
        .map(|entry| entry.name)
        .collect();
    let known: Vec<&str> = MODELS.iter().map(|model| model.0).collect();
    assert_eq!(published, known);
    for (name, [text, vision, mtp, total], [text_t, vision_t, mtp_each, mtp_fused]) in MODELS {
        let entry = find(name).expect("known");
        let count = model_parameters(&entry.model, entry.experts);
        assert_eq!(
            [count.text(), count.vision, count.mtp, count.total],
            [text, vision, mtp, total],
            "{name}"
        );
        for (style, mtp) in [
            (ExpertStyle::QWEN3_5, mtp_each),
            (ExpertStyle::QWEN3_6, mtp_fused),
        ] {
            let count = model_parameters(&entry.model, style);
            assert_eq!(count.text_tensors, text_t, "{name}");
            assert_eq!(count.vision_tensors, vision_t, "{name}");
            assert_eq!(count.tensors, text_t + vision_t + mtp, "{name}");
            assert_eq!(count.total, total, "{name}: the style moves scalars");
        }
        let alone = model_parameters(&entry.text_only(), entry.experts);
        assert_eq!([alone.total, alone.vision], [text + mtp, 0], "{name}");
    }
    for (name, full, linear) in MOE_LAYERS {
        let text = &find(name).expect("known").model.text;
        assert_eq!(layer_parameters(text, LayerKind::FullAttention), full);
        assert_eq!(layer_parameters(text, LayerKind::LinearAttention), linear);
    }
}
