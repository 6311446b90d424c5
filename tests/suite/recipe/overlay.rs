//! What covers what, and where values come from.

use std::path::{Path, PathBuf};

use trestle::base::Place;
use trestle::recipe::{DataSource, Init, Value};

use super::{codes, load_from};

const BASE: &str =
    "[model]\nsize = \"toy\"\n[train]\nsteps = 50\nseed = 1\n[optimizer]\nlr = 1e-3\n";

fn place(loaded: &trestle::recipe::Loaded, key: &str) -> String {
    loaded.values[key].place.to_string()
}

#[test]
fn the_command_line_covers_the_file_covers_its_bases() {
    let files = [
        ("dir/base.toml", BASE),
        (
            "dir/middle.toml",
            "extends = \"base.toml\"\n[train]\nseed = 2\nsteps = 60\n",
        ),
        (
            "dir/top.toml",
            "extends = \"./middle.toml\"\ntrain.seed = 3\n",
        ),
    ];
    let loaded = load_from(&files, "dir/top.toml", &["optimizer.lr=2e-3"]);
    let recipe = loaded.recipe.as_ref().unwrap();
    assert_eq!((recipe.train.seed, recipe.train.steps), (3, 60));
    assert_eq!(recipe.optimizer.lr, 2e-3);
    assert_eq!(place(&loaded, "train.seed"), "dir/top.toml:2:14");
    assert_eq!(place(&loaded, "train.steps"), "dir/middle.toml:4:9");
    assert_eq!(place(&loaded, "model.size"), "dir/base.toml:2:8");
    assert_eq!(place(&loaded, "optimizer.lr"), "--set optimizer.lr=2e-3");
    assert_eq!(place(&loaded, "optimizer.beta1"), "default");
    let (base, from) = loaded.values["train.seed"].base.as_ref().unwrap();
    assert_eq!(*base, Value::Integer(2));
    assert_eq!(from.to_string(), "dir/middle.toml:3:8");
    let files: Vec<&str> = loaded.files.iter().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(files, ["dir/top.toml", "dir/middle.toml", "dir/base.toml"]);
    assert_eq!(loaded.extends, [PathBuf::from("dir/middle.toml")]);
}

#[test]
fn of_several_bases_the_later_wins_and_a_shared_base_stays_below_both() {
    let files = [
        ("base.toml", BASE),
        (
            "a.toml",
            "extends = \"base.toml\"\n[train]\nseed = 10\nsteps = 100\n",
        ),
        ("b.toml", "extends = \"base.toml\"\n[train]\nseed = 20\n"),
        ("top.toml", "extends = [\"a.toml\", \"b.toml\"]\n"),
    ];
    let recipe = load_from(&files, "top.toml", &[]).recipe.unwrap();
    assert_eq!((recipe.train.seed, recipe.train.steps), (20, 100));
}

#[test]
fn paths_are_relative_to_the_file_that_says_them() {
    let base =
        "[data]\nsources = [\"bundled\", \"text/*.txt\"]\ntokenizer = \"../tokenizer.json\"\n";
    let files = [
        ("lib/parts/data.toml", base),
        (
            "lib/top.toml",
            "extends = \"parts/data.toml\"\n[model]\nsize = \"toy\"\ninit = \"weights\"\n",
        ),
    ];
    let recipe = load_from(&files, "lib/top.toml", &[]).recipe.unwrap();
    let text = DataSource::Text {
        glob: "lib/parts/text/*.txt".into(),
    };
    assert_eq!(recipe.data.sources, [DataSource::Bundled, text]);
    assert_eq!(
        recipe.data.tokenizer.as_deref(),
        Some(Path::new("lib/tokenizer.json"))
    );
    assert_eq!(recipe.model.init, Init::HuggingFace("lib/weights".into()));
    assert_eq!(recipe.logging.runs, PathBuf::from("runs"));
}

#[test]
fn set_takes_toml_and_bare_words() {
    let sets = [
        "schedule.kind=linear",
        "model.name=1e3",
        "data.shuffle=false",
        "data.sources=[\"x/*.jsonl\"]",
        " train.steps = 70 ",
    ];
    let loaded = load_from(&[("a.toml", BASE)], "a.toml", &sets);
    let recipe = loaded.recipe.unwrap();
    assert_eq!(recipe.model.name, "1e3");
    assert_eq!(recipe.train.steps, 70);
    assert!(!recipe.data.shuffle);
    let source = DataSource::Jsonl {
        glob: "x/*.jsonl".into(),
        field: "text".into(),
    };
    assert_eq!(recipe.data.sources, [source]);
}

#[test]
fn what_set_gets_wrong_is_said_with_the_argument() {
    let sets = [
        "optimizer.lr",
        "optimizer.rl=1",
        "train.steps=0",
        "train=1",
        "extends=b.toml",
    ];
    let loaded = load_from(&[("a.toml", BASE)], "a.toml", &sets);
    assert_eq!(
        codes(&loaded.diagnostics),
        ["E0108", "E0102", "E0201", "E0102", "E0102"]
    );
    for (diagnostic, set) in loaded.diagnostics.iter().zip(sets) {
        let argument = set.into();
        assert_eq!(diagnostic.place, Place::CommandLine { argument });
    }
    assert_eq!(loaded.diagnostics[1].nearest, ["optimizer.lr"]);
}

#[test]
fn a_value_that_is_wrong_in_a_base_is_wrong_even_when_covered() {
    let files = [
        ("base.toml", "[train]\nsteps = \"many\"\n"),
        (
            "top.toml",
            "extends = \"base.toml\"\n[model]\nsize = \"toy\"\n[train]\nsteps = 5\n",
        ),
    ];
    let loaded = load_from(&files, "top.toml", &[]);
    assert_eq!(codes(&loaded.diagnostics), ["E0103"]);
    assert!(
        loaded.diagnostics[0]
            .place
            .to_string()
            .starts_with("base.toml:2")
    );
}

#[test]
fn a_missing_file_is_still_a_dependency() {
    let loaded = load_from(
        &[(
            "top.toml",
            "extends = \"later.toml\"\n[model]\nsize = \"toy\"\n",
        )],
        "top.toml",
        &[],
    );
    assert_eq!(codes(&loaded.diagnostics), ["E0106"]);
    assert_eq!(loaded.diagnostics[0].place.to_string(), "top.toml:1:11");
    assert!(loaded.files.contains(&PathBuf::from("later.toml")));
    let alone = load_from(&[], "gone.toml", &[]);
    assert_eq!(codes(&alone.diagnostics), ["E0106"]);
    assert_eq!(alone.files, [PathBuf::from("gone.toml")]);
}

#[test]
fn the_depth_of_mtp_is_the_models() {
    // R6: depth 0, 1 and 2 from a config, no key of the recipe needed.
    for depth in 0..=2 {
        let config = format!(
            "{{\"model_type\": \"qwen3_5_text\", \"num_hidden_layers\": 4, \"mtp_num_hidden_layers\": {depth}}}"
        );
        let files = [
            ("a.toml", "[model]\nhf = \"m\"\n[mtp]\nloss_scale = 0.2\n"),
            ("m/config.json", config.as_str()),
        ];
        let loaded = load_from(&files, "a.toml", &[]);
        let recipe = loaded.recipe.unwrap();
        assert_eq!(recipe.model.config.mtp_num_hidden_layers, depth);
        let expected: &[&str] = if depth == 0 { &["W0411"] } else { &[] };
        assert_eq!(codes(&loaded.diagnostics), expected);
    }
    // A config without the key has no MTP.
    let files = [
        ("a.toml", "[model]\nhf = \"m\"\n"),
        ("m/config.json", "{\"model_type\": \"qwen3_5_text\"}"),
    ];
    let loaded = load_from(&files, "a.toml", &[]);
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(loaded.recipe.unwrap().model.config.mtp_num_hidden_layers, 0);
    assert!(loaded.files.contains(&PathBuf::from("m/config.json")));
}

#[test]
fn a_config_of_another_family_is_refused_by_name() {
    let files = [
        ("a.toml", "[model]\nhf = \"m\"\n"),
        ("m/config.json", "{\"model_type\": \"llama\"}"),
    ];
    let loaded = load_from(&files, "a.toml", &[]);
    assert_eq!(codes(&loaded.diagnostics), ["E0305"]);
    assert!(loaded.diagnostics[0].message.contains("llama"));
    assert_eq!(loaded.diagnostics[0].place.to_string(), "a.toml:2:6");
}
