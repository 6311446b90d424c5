//! Hugging Face to any layout of Megatron and back is the identity.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use trestle::checkpoint::Weights;
use trestle::checkpoint::compare::{Compared, Watch, compare, round_trip};
use trestle::checkpoint::convert::{HuggingFaceTarget, Target};
use trestle::mapping::{Layout, LayoutOptions, Spelling, Table, View};
use trestle::plan::Pipeline;
use trestle::spec::{ExpertStyle, ModelConfig};

use super::convert::{content, convert};
use super::toy::Toy;

/// A model and how it is spread.
#[derive(Debug, Clone)]
struct Case {
    model: &'static str,
    depth: usize,
    tied: bool,
    style: ExpertStyle,
    transposed: bool,
    options: LayoutOptions,
    pipeline: Pipeline,
}

fn styles() -> impl Strategy<Value = ExpertStyle> {
    prop_oneof![
        Just(ExpertStyle::QWEN3_5),
        Just(ExpertStyle::QWEN3_6),
        Just(ExpertStyle::PER_EXPERT)
    ]
}

/// Spreads of the toys' four layers over one, two or four stages.
fn pipelines() -> impl Strategy<Value = Pipeline> {
    let stages = |pp, vpp| Pipeline {
        pp,
        vpp,
        ..Pipeline::default()
    };
    prop_oneof![
        Just(stages(1, 1)),
        Just(stages(2, 1)),
        Just(stages(4, 1)),
        Just(stages(2, 2)),
        Just(Pipeline {
            first: Some(1),
            ..stages(2, 1)
        }),
        Just(Pipeline {
            last: Some(1),
            ..stages(2, 1)
        }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop_oneof![Just("dense"), Just("moe"), Just("vl-dense"), Just("vl-moe")],
        0_usize..3,
        any::<bool>(),
        styles(),
        any::<bool>(),
        (0_usize..2, 0_usize..4, 0_usize..3, 1_usize..3),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        pipelines(),
    )
        .prop_map(
            |(model, depth, tied, style, transposed, degrees, switches, pipeline)| {
                let (tp, ep, etp, more) = degrees;
                let has_experts = model.ends_with("moe");
                let (ep, etp) = if has_experts {
                    (1 << ep, 1 << etp)
                } else {
                    (1, 1)
                };
                let (pad_vocab, sequential_experts, transformer_layer) = switches;
                let tp = 1 << tp;
                let stage = tp * ep * etp;
                Case {
                    model,
                    depth,
                    tied,
                    style,
                    transposed: transposed && has_experts,
                    options: LayoutOptions {
                        tp,
                        ep,
                        etp,
                        world: Some(stage * pipeline.pp * more),
                        pad_vocab,
                        sequential_experts,
                        spelling: if transformer_layer {
                            Spelling::TransformerLayer
                        } else {
                            Spelling::MtpModelLayer
                        },
                    },
                    pipeline,
                }
            },
        )
}

impl Case {
    fn toy(&self) -> Toy {
        let mut toy = Toy::of(self.model);
        // Not a multiple of the padding, so that there is some.
        toy.config.text.vocab_size = 132;
        toy.config.text.mtp_num_hidden_layers = self.depth;
        toy.config.text.tie_word_embeddings = self.tied;
        toy.style = self.style;
        if self.transposed {
            toy.transposed()
        } else {
            toy
        }
    }

    fn layout(&self, config: &ModelConfig) -> Layout {
        let text = &config.text;
        let (layers, depth) = (text.num_hidden_layers, text.mtp_num_hidden_layers);
        let stages = self
            .pipeline
            .stages(layers, depth, text.tie_word_embeddings);
        Layout::new(config, &self.options, stages.expect("stages")).expect("a layout")
    }
}

fn compared(a: &Path, b: &Path, config: &ModelConfig) -> Vec<Compared> {
    let (a, b) = (Weights::open(a).expect("a"), Weights::open(b).expect("b"));
    let bind = |weights: &Weights| {
        let style = weights.expert_style().expect("a style");
        weights.bind(config, style).expect("bound")
    };
    let watch = Watch {
        progress: &|_| {},
        cancel: &AtomicBool::new(false),
    };
    let (first, second) = (bind(&a), bind(&b));
    compare((&first, &a.files), (&second, &b.files), &watch).expect("compared")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layout_and_back_is_the_same_model(case in case()) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let toy = case.toy();
        toy.write(&at("hf"));
        let config = &toy.config;
        let layout = case.layout(config);
        let shards = |_: &Weights| Target::Shards { layout: layout.clone(), config: Some(config.to_json()) };
        convert(&at("hf"), shards, None, config, &at("ranks")).expect("there");
        prop_assert!(compared(&at("hf"), &at("ranks"), config).iter().all(Compared::is_same));

        // From the ranks to torch_dist, and from there to Hugging Face, with experts as they were.
        let whole = |_: &Weights| Target::TorchDist {
            vocab_rows: layout.vocab_rows,
            spelling: case.options.spelling,
            iteration: 3,
            config: None,
        };
        convert(&at("ranks"), whole, None, config, &at("megatron")).expect("whole");
        let hf = |_: &Weights| Target::HuggingFace(HuggingFaceTarget {
            config: trestle::checkpoint::convert::config_text(&config.to_json()),
            dtypes: HashMap::default(),
            keeps_f32: true,
            max_shard_bytes: None,
            companions: None,
        });
        let like = Weights::open(&at("hf")).expect("like");
        convert(&at("megatron"), hf, Some(&like), config, &at("back")).expect("back");
        let file = "model.safetensors";
        let (mut first, mut back) = (content(&at("hf").join(file)), content(&at("back").join(file)));
        if case.transposed {
            // Export writes experts the way they are published.
            first.retain(|name, _| !name.contains(".experts."));
            back.retain(|name, _| !name.contains(".experts."));
        }
        // In f32 the norm's low bits go where the shift puts them; the sum of what was lost is below.
        let is_norm = |name: &str| name.ends_with("linear_attn.norm.weight");
        let plain = |map: &std::collections::BTreeMap<String, (String, Vec<usize>, Vec<u8>)>| {
            map.iter().filter(|(name, _)| !is_norm(name)).map(|(n, c)| (n.clone(), c.clone())).collect::<Vec<_>>()
        };
        prop_assert!(plain(&first) == plain(&back));
        prop_assert!(compared(&at("hf"), &at("back"), config).iter().all(Compared::is_same));
    }

    #[test]
    fn a_round_trip_in_memory_agrees(case in case()) {
        let folder = tempfile::tempdir().unwrap();
        let toy = case.toy();
        toy.write(folder.path());
        let weights = Weights::open(folder.path()).unwrap();
        let style = weights.expert_style().unwrap();
        let bound = weights.bind(&toy.config, style).unwrap();
        let view = View::shards(&bound.table, &case.layout(&toy.config));
        let watch = Watch { progress: &|_| {}, cancel: &AtomicBool::new(false) };
        let compared = round_trip(&bound, &weights.files, &view, None, &watch).unwrap();
        prop_assert!(compared.iter().all(Compared::is_same));
    }

    #[test]
    fn every_element_of_a_view_is_held_once(case in case()) {
        let toy = case.toy();
        let table = Table::new(&toy.config, case.style);
        let layout = case.layout(&toy.config);
        for view in [
            View::huggingface(&table),
            View::torch_dist(&table, layout.vocab_rows, Spelling::default()),
            View::shards(&table, &layout),
        ] {
            let mut held = vec![0_usize; table.entries().len()];
            for tensor in &view.tensors {
                let (rows, cols) = tensor.shape.matrix();
                let mut area = 0;
                for piece in &tensor.pieces {
                    area += piece.rows.len() * piece.cols.len();
                    prop_assert!(piece.at_row + piece.rows.len() <= rows && piece.at_col + piece.cols.len() <= cols);
                    if !tensor.replica {
                        held[piece.entry as usize] += piece.rows.len() * piece.cols.len();
                    }
                }
                let is_vocab = tensor.name.ends_with("word_embeddings.weight") || tensor.name.ends_with("output_layer.weight");
                prop_assert!(area == rows * cols || is_vocab, "{}", tensor.name);
            }
            for (entry, &area) in table.entries().iter().zip(&held) {
                prop_assert_eq!(area as u64, entry.shape.elements(), "{}", &entry.name);
            }
        }
    }
}

#[test]
fn more_ranks_than_key_value_heads_share_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for model in ["dense", "moe", "vl-moe"] {
        let mut toy = Toy::of(model);
        let text = &mut toy.config.text;
        (text.num_attention_heads, text.num_key_value_heads) = (8, 2);
        (text.linear_num_key_heads, text.linear_num_value_heads) = (4, 8);
        let hf = at(&format!("{model}-hf"));
        toy.write(&hf);
        let ranks = at(&format!("{model}-ranks"));
        let case = |tp| Case {
            model,
            depth: 1,
            tied: false,
            style: toy.style,
            transposed: false,
            options: LayoutOptions {
                tp,
                ..LayoutOptions::default()
            },
            pipeline: Pipeline::default(),
        };
        let layout = case(4).layout(&toy.config);
        let shards = |_: &Weights| Target::Shards {
            layout: layout.clone(),
            config: None,
        };
        convert(&hf, shards, None, &toy.config, &ranks).expect("there");
        let compared = compared(&hf, &ranks, &toy.config);
        assert!(compared.iter().all(Compared::is_same));
        // Groups are (2n + 2) heads long, so a cut goes through the middle of one.
        let rank = content(&ranks.join("tp1-pp0-ep0-etp0.safetensors"));
        let prefix = if model == "vl-moe" {
            "language_model."
        } else {
            ""
        };
        let name = format!("{prefix}decoder.layers.3.self_attention.linear_qkv.weight");
        let head_dim = toy.config.text.head_dim;
        assert_eq!(rank[&name].1[0], 2 * (8 + 2) * head_dim / 4);
        // Three key-value heads over two ranks do not go, nor eight ranks over four query heads a group.
        let mut odd = toy.config.clone();
        (odd.text.num_attention_heads, odd.text.num_key_value_heads) = (12, 3);
        let stages = Pipeline::default().stages(4, 1, false).expect("stages");
        let options = LayoutOptions {
            tp: 4,
            ..LayoutOptions::default()
        };
        let error = Layout::new(&odd, &options, stages).expect_err("uneven");
        assert!(
            error.to_string().contains("num_key_value_heads = 3"),
            "{error}"
        );
    }
}

#[test]
fn the_trainer_starts_from_megatron_as_from_hugging_face() {
    use candle_core::Device;
    use trestle::nn::Parameters;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (model, name) in [("dense", "text"), ("vl-dense", "vl")] {
        let toy = Toy::of(model);
        toy.write(&at(name));
        let config = &toy.config;
        let target = |_: &Weights| Target::TorchDist {
            vocab_rows: config.text.vocab_size,
            spelling: Spelling::TransformerLayer,
            iteration: 0,
            config: Some(config.to_json()),
        };
        let megatron = at(&format!("{name}-megatron"));
        convert(&at(name), target, None, config, &megatron).expect("converted");
        let load = |path: &Path, depth: usize| {
            let mut text = config.text.clone();
            text.mtp_num_hidden_layers = depth;
            let parameters =
                Parameters::from_spec(&text, &Device::Cpu, trestle::nn::Precision::F32).unwrap();
            trestle::checkpoint::convert::load(path, &text, &parameters).unwrap();
            parameters.weights().to_vec1::<f32>().unwrap()
        };
        for depth in [0, 1] {
            let (first, second) = (load(&at(name), depth), load(&megatron, depth));
            assert_eq!(first.len(), second.len());
            let worst = first
                .iter()
                .zip(&second)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            // The norm went by 1 and back in f32.
            assert!(worst <= 2.0_f32.powi(-23), "{worst}");
        }
    }
}
