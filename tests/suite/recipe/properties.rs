//! Printing is inverse to reading, and no text is too strange.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::select;
use trestle::recipe::{
    DataSource, Init, Packing, Recipe, Recompute, RecomputeModule, ScheduleKind, diff_recipes,
    load, to_toml,
};
use trestle::spec::layer_pattern;

use super::load_text;

fn name() -> impl Strategy<Value = String> {
    // Quotes, backslashes, control characters and letters of all kinds.
    prop_oneof!["[a-z]{1,8}", "[ -~\u{e4}\u{4e2d}\u{1}\n\t\"\\\\]{1,12}"]
}

fn path() -> impl Strategy<Value = PathBuf> {
    "[a-z\"' \u{f6}]{1,8}(/[a-z*.]{1,6}x){0,2}"
        .prop_map(|p| Path::new("/").join(p.trim_matches('/')))
}

fn source() -> impl Strategy<Value = DataSource> {
    let glob = || path().prop_map(|p| p.to_string_lossy().into_owned());
    prop_oneof![
        Just(DataSource::Bundled),
        glob().prop_map(|glob| DataSource::Text { glob }),
        (glob(), name()).prop_map(|(glob, field)| DataSource::Jsonl { glob, field }),
    ]
}

prop_compose! {
    fn recompute()(
        which in 0..3,
        modules in prop::collection::vec(select(vec![
            RecomputeModule::CoreAttn, RecomputeModule::GatedDelta, RecomputeModule::MlpAct, RecomputeModule::Norm,
        ]), 1..4),
    ) -> Recompute {
        match which {
            0 => Recompute::None,
            1 => Recompute::Selective(modules),
            _ => Recompute::Full,
        }
    }
}

prop_compose! {
    /// Valid recipes with absolute paths.
    fn recipe()(
        name in name(),
        init in prop::option::of(path()),
        (layers, depth, tied) in (1_usize..9, 0_usize..3, any::<bool>()),
        (theta, range) in (1.0..1e9_f64, 1e-9..1.0_f64),
        (warmup, room, more) in (0_u64..100, 1_u64..100, 0_u64..100),
        (mbs, accumulate, seed) in (1_usize..9, 1_usize..9, 0..i64::MAX as u64),
        (lr, share, decay, clip) in (1e-12..1.0_f64, 0.0..1.0_f64, 0.0..1.0_f64, 0.0..1e6_f64),
        kind in select(vec![ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::Wsd]),
        sources in prop::collection::vec(source(), 1..4),
        (tokenizer, cache, runs) in (prop::option::of(path()), prop::option::of(path()), path()),
        (packing, shuffle) in (select(vec![Packing::Packed, Packing::Concat]), any::<bool>()),
        recompute in recompute(),
    ) -> Recipe {
        let mut r = load_text("[model]\nsize = \"toy\"\n").recipe.unwrap();
        r.model.name = name;
        r.model.init = init.map_or(Init::Random, Init::HuggingFace);
        r.model.config.num_hidden_layers = layers;
        r.model.config.layer_types = layer_pattern(layers, 4);
        r.model.config.mtp_num_hidden_layers = depth;
        r.model.config.tie_word_embeddings = tied;
        r.model.config.rope_theta = theta;
        r.model.config.initializer_range = range;
        r.train.steps = warmup + room + more;
        r.schedule.warmup_steps = warmup;
        r.schedule.decay_steps = warmup + room;
        r.schedule.wsd_decay_steps = room / 2;
        r.schedule.kind = kind;
        r.train.micro_batch_size = mbs;
        r.train.global_batch_size = mbs * accumulate;
        r.train.seed = seed;
        r.optimizer.lr = lr;
        r.schedule.min_lr = lr * share;
        r.optimizer.weight_decay = decay;
        r.optimizer.clip_grad = clip;
        r.data.sources = sources;
        r.data.tokenizer = tokenizer;
        r.data.cache = cache;
        r.logging.runs = runs;
        r.data.packing = packing;
        r.data.shuffle = shuffle;
        r.recompute = recompute;
        r
    }
}

/// TOML-like text: fragments that parsers trip over, in any order.
fn fragments() -> impl Strategy<Value = String> {
    let fragment = select(vec![
        "[model]\n",
        "[train]\n",
        "[[data]]\n",
        "[data.sources]\n",
        "size = \"toy\"\n",
        "steps = 5\n",
        "steps = ",
        "= 3\n",
        "\"",
        "'''",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\n",
        "lr = 1e400\n",
        "seed = -0x1\n",
        "extends = \"a.toml\"\n",
        "extends = []\n",
        "model.size.x = 1\n",
        "model = { size = \"toy\" }\n",
        "train.steps = nan\n",
        "mtp.loss_scale = inf\n",
        "mrope_section = [1, 2]\n",
        "layer_types = []\n",
        "num_hidden_layers = 10000000\n",
        "head_dim = 1\n",
        "partial_rotary_factor = 1e-300\n",
        "warmup_steps = 1000000000000\n",
        "tp = 999999999999\n",
        "[parallel]\n",
        "config_json = \"{}\"\n",
        "\u{feff}",
        "\r\n",
        "# x\n",
        "\u{4e2d} = \u{e9}\n",
        "vocab_size = 1\n",
        "\t",
        "\0",
        "micro_batch_size = 1000000000000\n",
        "dp = 1000000000000\n",
        "cp = 1000000000000\n",
        "pp = 1000000000000\n",
    ]);
    prop::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_printed_recipe_reads_back_equal(recipe in recipe()) {
        let text = to_toml(&recipe);
        let loaded = load(Path::new("/run/recipe.toml"), &[], &|_| Ok(text.clone()));
        prop_assert_eq!(loaded.errors(), 0, "{:#?}\n{}", loaded.diagnostics, text);
        let again = loaded.recipe.unwrap();
        prop_assert!(diff_recipes(&recipe, &again).is_empty());
        prop_assert_eq!(&again, &recipe);
        prop_assert_eq!(to_toml(&again), text);
    }

    #[test]
    fn no_text_panics_and_an_invalid_one_says_why(text in prop_oneof![fragments(), any::<String>()]) {
        let loaded = load_text(&text);
        prop_assert_eq!(loaded.recipe.is_none(), loaded.errors() > 0);
        for diagnostic in &loaded.diagnostics {
            prop_assert!(!diagnostic.to_string().is_empty());
        }
    }

    #[test]
    fn no_argument_panics(key in "[a-z._]{0,20}", value in any::<String>()) {
        let sets = [format!("{key}={value}"), value];
        let loaded = load(Path::new("a.toml"), &sets, &|_| Ok("[model]\nsize = \"toy\"\n".into()));
        prop_assert!(loaded.errors() > 0);
    }
}

#[test]
fn a_config_from_a_directory_survives_printing_with_its_unknown_keys() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/recipe/valid");
    let loaded = load(&folder.join("huggingface.toml"), &[], &|path: &Path| {
        std::fs::read_to_string(path)
    });
    let recipe = loaded.recipe.unwrap();
    assert!(recipe.model.config.source.get("an_unknown_key").is_some());
    let text = to_toml(&recipe);
    // The directory is not read again.
    let again = load_text(&text).recipe.unwrap();
    assert_eq!(again, recipe);
}
