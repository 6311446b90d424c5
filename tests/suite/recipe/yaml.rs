//! Recipes for Megatron-Bridge as YAML: the same recipe again, and what becomes of texts that are no configuration.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use trestle::base::{Diagnostic, Place, Severity};
use trestle::recipe::{
    Imported, Known, Loaded, Megatron, Published, Value, from_yaml, load, overrides, settings,
    to_yaml,
};

/// The published recipes, as a recipe in the package's folder extends them.
fn published() -> Vec<Published> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/megatron");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| Published {
            recipe: loaded(&path, &[]).megatron.unwrap(),
            path,
        })
        .collect()
}

fn loaded(path: &Path, sets: &[&str]) -> Loaded {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    load(path, &sets, &|path: &Path| std::fs::read_to_string(path))
}

/// Loads what an import wrote, with the files that it extends.
fn read(imported: &Imported) -> Megatron {
    let main = Path::new("imported.toml");
    let loaded = load(main, &[], &|path: &Path| -> io::Result<String> {
        if path == main {
            return Ok(imported.toml.clone());
        }
        std::fs::read_to_string(path)
    });
    loaded
        .megatron
        .unwrap_or_else(|| panic!("{:#?}\n{}", loaded.diagnostics, imported.toml))
}

fn import(text: &str, published: &[Published]) -> Result<Imported, Box<Diagnostic>> {
    from_yaml(Path::new("dump.yaml"), text, published, &Known::default())
}

fn said(recipe: &Megatron) -> Vec<(&'static str, Value)> {
    let values = recipe.said();
    values
        .map(|(key, value)| (key.path, value.clone()))
        .collect()
}

/// Code and place of a diagnostic.
fn place(diagnostic: &Diagnostic) -> (&'static str, usize, usize) {
    let Place::File { at, .. } = &diagnostic.place else {
        panic!("{diagnostic}");
    };
    (diagnostic.code, at.line, at.column)
}

#[test]
fn every_published_recipe_is_the_same_after_yaml() {
    let all = published();
    assert_eq!(all.len(), 36);
    for Published { path, recipe } in &all {
        let yaml = to_yaml(recipe);
        let alone = import(&yaml, &[]).unwrap();
        assert_eq!(alone.warnings, [], "{}", path.display());
        assert_eq!(alone.extends, None);
        assert_eq!(read(&alone), *recipe, "{}", alone.toml);
        // With its own published recipe there is nothing left to say.
        let based = import(&yaml, &all).unwrap();
        assert_eq!(based.warnings, [], "{}", path.display());
        assert_eq!(based.extends.as_ref(), Some(path));
        assert_eq!(read(&based), *recipe, "{}", based.toml);
        let lines = based.toml.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), 1, "{}", based.toml);
    }
}

#[test]
fn a_changed_recipe_extends_the_published_one_and_says_what_differs() {
    let all = published();
    let base = &all[all.len() - 1];
    let changed = loaded(
        &base.path,
        &[
            "train.steps=100",
            "optimizer.lr=1e-5",
            "parallel.vpp=1",
            "megatron.unset=[\"scheduler.lr_decay_iters\"]",
            "megatron.overrides={ \"logger.wandb_exp_name\" = \"a b: #c\", \"+dataset.extra\" = [1, 2.5, true], \"dataset.source.load_kwargs\" = { revision = \"main\" } }",
            "megatron.env={ NCCL_DEBUG = \"INFO\" }",
        ],
    );
    let changed = changed.megatron.unwrap();
    assert_ne!(changed, base.recipe);
    for bases in [&all[..], &[]] {
        let imported = import(&to_yaml(&changed), bases).unwrap();
        assert_eq!(imported.warnings, []);
        let again = read(&imported);
        assert_eq!(said(&again), said(&changed), "{}", imported.toml);
        assert_eq!(again, changed);
    }
    let imported = import(&to_yaml(&changed), &all).unwrap();
    assert!(imported.toml.lines().count() < 20, "{}", imported.toml);
    assert!(!imported.toml.contains("beta1"), "{}", imported.toml);
}

#[test]
fn a_dump_is_taken_for_the_published_recipe_it_is_most_like() {
    let text = include_str!("../../golden/recipes/dump.yaml");
    let all = published();
    let imported = import(text, &all).unwrap();
    let base = imported.extends.clone().unwrap();
    assert!(
        base.ends_with("qwen35_vl_9b_sft_4gpu_h100_bf16.toml"),
        "{base:?}"
    );
    let recipe = read(&imported);
    assert_eq!(recipe.gpus, 4);
    let value = |key: &str| recipe.get(key).cloned();
    let text = |text: &str| Some(Value::String(text.into()));
    assert_eq!(value("checkpoint.interval"), Some(Value::Integer(250)));
    assert_eq!(value("logging.interval"), Some(Value::Integer(1)));
    assert_eq!(value("megatron.checkpoints"), Some(Value::Boolean(false)));
    assert_eq!(value("megatron.model.attention_backend"), text("flash"));
    assert_eq!(
        value("megatron.checkpoint.pretrained_checkpoint"),
        text("models/qwen 3.5")
    );
    let kept = recipe.entries("megatron.overrides");
    let kept: Vec<_> = kept.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        kept,
        [
            "checkpoint.storage_writers_per_rank",
            "dataset.source.load_kwargs.revision",
            "train.train_iter",
        ]
    );
    // The depth is the model's.
    assert!(!imported.toml.contains("mtp_num_hidden_layers"));
    let warned: Vec<_> = imported.warnings.iter().map(place).collect();
    assert_eq!(
        warned,
        [
            ("W0446", 46, 3),
            ("W0444", 104, 3),
            ("W0445", 11, 3),
            ("W0448", 1, 1)
        ]
    );
    let [lost, typo, unknown, _] = &imported.warnings[..] else {
        panic!("{warned:?}");
    };
    for name in [
        "model.activation_func",
        "model.init_method",
        "model.rotary_bases",
    ] {
        assert!(lost.message.contains(name), "{}", lost.message);
    }
    assert_eq!(typo.nearest, ["train.train_iters"]);
    assert!(
        unknown
            .message
            .contains("checkpoint.storage_writers_per_rank")
    );
    // What Bridge's own recipe has gone from, and the dump says nothing of.
    let alone = import(include_str!("../../golden/recipes/dump.yaml"), &[]).unwrap();
    assert!(
        alone.toml.contains("precision = \"bf16_mixed\""),
        "{}",
        alone.toml
    );
    assert!(alone.warnings.iter().any(|w| w.code == "W0449"));
}

#[test]
fn what_an_option_of_the_base_is_null_in_the_dump_is_taken_back() {
    let all = published();
    let base = all
        .iter()
        .find(|p| p.recipe.recipe == "qwen35_vl_35b_a3b_pretrain_16gpu_h100_bf16_functional_config")
        .unwrap();
    let text: String = to_yaml(&base.recipe)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| match line.trim_start().split_once(": ") {
            Some((name @ "num_layers_in_first_pipeline_stage", _)) => format!("  {name}: null\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let imported = import(&text, &all).unwrap();
    assert_eq!(imported.extends.as_ref(), Some(&base.path));
    let recipe = read(&imported);
    let key = "megatron.model.num_layers_in_first_pipeline_stage";
    assert!(base.recipe.get(key).is_some() && recipe.get(key).is_none());
    assert!(settings(&recipe).contains(&("model.num_layers_in_first_pipeline_stage".into(), None)));
}

#[test]
fn a_dump_without_adapters_is_no_change_of_a_recipe_with_them() {
    let all = published();
    let full = |p: &&Published| p.recipe.text("megatron.mode") != Some("peft");
    for Published { recipe, path } in all.iter().filter(full) {
        if recipe.get("megatron.model.hf_model_id").is_none() {
            continue;
        }
        // Neither name nor anything else about the job.
        let mut text: String = to_yaml(recipe)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(|line| [line, "\n"])
            .collect();
        text += "peft: null\n";
        let imported = import(&text, &all).unwrap();
        let base = imported.extends.clone().unwrap_or_default();
        let base = all.iter().find(|p| p.path == base).unwrap();
        assert_ne!(base.recipe.text("megatron.mode"), Some("peft"), "{path:?}");
        // Another recipe may have the same options; what is read has them all the same.
        let again = read(&imported);
        assert_eq!(settings(&again), settings(recipe), "{path:?}");
    }
}

#[test]
fn another_precision_is_named_as_a_whole() {
    let base = published().remove(0).recipe;
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("recipes/megatron")
        .join(base.recipe.trim_end_matches("_config"))
        .with_extension("toml");
    let name = "bf16_with_fp8_current_scaling_mixed";
    let sets = [
        &*format!("megatron.precision={name}"),
        "megatron.mixed_precision.grad_reduce_in_fp32=false",
    ];
    let changed = loaded(&path, &sets).megatron.unwrap();
    let lines = overrides(&changed, Some(&base));
    assert!(
        lines.contains(&format!("mixed_precision={name}")),
        "{lines:?}"
    );
    assert!(
        !lines
            .iter()
            .any(|line| line.starts_with("mixed_precision.")),
        "{lines:?}"
    );
    assert_eq!(overrides(&base, Some(&base)), Vec::<String>::new());
}

#[test]
fn the_depth_of_mtp_is_the_models_and_its_loss_has_a_scale_only_if_there_is_one() {
    let all = published();
    // Upstream's recipe for fine-tuning writes depth 1, the one for pretraining leaves it to the model.
    for name in [
        "qwen35_vl_9b_sft_4gpu_h100_bf16_config",
        "qwen35_vl_9b_pretrain_4gpu_h100_bf16_mock_config",
    ] {
        let base = all.iter().find(|p| p.recipe.recipe == name).unwrap();
        assert!(
            !overrides(&base.recipe, None)
                .iter()
                .any(|line| line.contains("mtp_num_layers"))
        );
        for (depth, option, scale) in [(0, "null", false), (1, "1", true), (2, "2", true)] {
            let set = format!("model.mtp_num_hidden_layers={depth}");
            let recipe = loaded(&base.path, &[&set]).megatron.unwrap();
            assert_eq!(recipe.model.text.mtp_num_hidden_layers, depth);
            let lines = overrides(&recipe, None);
            assert!(
                lines.contains(&format!("model.mtp_num_layers={option}")),
                "{lines:?}"
            );
            let has_scale = lines
                .iter()
                .any(|line| line.starts_with("model.mtp_loss_scaling_factor="));
            assert_eq!(has_scale, scale, "{name} {depth}");
            let again = read(&import(&to_yaml(&recipe), &all).unwrap());
            assert_eq!(again.model.text.mtp_num_hidden_layers, depth);
        }
    }
    // A dump with the model's own depth leaves the depth to the model.
    for (depth, said) in [("1", None), ("2", Some(2)), ("null", Some(0))] {
        let text = format!("model:\n  hf_model_id: Qwen/Qwen3.5-9B\n  mtp_num_layers: {depth}\n");
        let imported = import(&text, &[]).unwrap();
        let line = said.map(|depth| format!("mtp_num_hidden_layers = {depth}"));
        match line {
            Some(line) => assert!(imported.toml.contains(&line), "{}", imported.toml),
            None => assert!(!imported.toml.contains("mtp_num"), "{}", imported.toml),
        }
    }
}

#[test]
fn a_model_directory_without_mtp_exports_no_mtp() {
    let folder = tempfile::tempdir().unwrap();
    for depth in [0, 1, 2] {
        let mut model = trestle::spec::find("9b").unwrap().model.clone();
        model.text.mtp_num_hidden_layers = depth;
        std::fs::write(
            folder.path().join("config.json"),
            model.to_json().to_string(),
        )
        .unwrap();
        let base = published()
            .into_iter()
            .find(|p| p.recipe.recipe == "qwen35_vl_9b_sft_4gpu_h100_bf16_config")
            .unwrap();
        // The recipe with the folder's model in place of the size's.
        let recipe: String = base
            .recipe
            .to_toml()
            .lines()
            .map(|line| {
                if line.starts_with("size = ") {
                    "hf = \".\""
                } else {
                    line
                }
            })
            .collect::<Vec<_>>()
            .join("\n");
        let path = folder.path().join("a.toml");
        std::fs::write(&path, recipe).unwrap();
        let recipe = loaded(&path, &[]).megatron.unwrap();
        assert_eq!(recipe.model.text.mtp_num_hidden_layers, depth);
        let option = |name: &str| {
            let settings = settings(&recipe);
            settings
                .into_iter()
                .find(|(path, _)| path == name)
                .map(|(_, value)| value)
        };
        let exported = option("model.mtp_num_layers");
        match depth {
            0 => assert_eq!(exported, Some(None)),
            1 => assert_eq!(exported, None),
            depth => assert_eq!(exported, Some(Some(Value::Integer(depth as i64)))),
        }
        assert_eq!(option("model.mtp_loss_scaling_factor").is_some(), depth > 0);
    }
}

#[test]
fn options_and_sections_that_nobody_knows_are_kept_with_their_place() {
    let text = "model:\n  hf_model_id: Qwen/Qwen3.5-9B\n  made_up: 3\n  recompute_granularity: sometimes\ntrian:\n  train_iters: 5\nmodel2: 7\n";
    let imported = import(text, &[]).unwrap();
    let warned: Vec<_> = imported.warnings.iter().map(place).collect();
    assert_eq!(
        warned,
        [
            ("W0442", 5, 1),
            ("W0442", 7, 1),
            ("W0443", 4, 3),
            ("W0445", 3, 3),
            ("W0449", 1, 1),
        ]
    );
    assert_eq!(imported.warnings[0].nearest, ["train"]);
    assert!(
        imported
            .warnings
            .iter()
            .all(|w| w.severity == Severity::Warning)
    );
    for kept in [
        "\"model.made_up\" = 3",
        "\"model.recompute_granularity\" = \"sometimes\"",
        "\"trian.train_iters\" = 5",
        "model2 = 7",
    ] {
        assert!(imported.toml.contains(kept), "{kept} in {}", imported.toml);
    }
}

#[test]
fn anchors_merges_and_tags_are_read_for_what_they_stand_for() {
    let text = "
defaults: &defaults
  micro_batch_size: 2
  global_batch_size: 64
train:
  <<: *defaults
  global_batch_size: !!int \"128\"
dataset:
  seq_length: &length 4096
  prompt: !!str 17
  num_workers: !color 3
model: {seq_length: *length, sequence_parallel: true}
";
    let imported = import(text, &[]).unwrap();
    for line in [
        "micro_batch_size = 2",
        "global_batch_size = 128",
        "seq_length = 4096",
        "prompt = \"17\"",
        "num_workers = 3",
        "sequence_parallel = true",
    ] {
        assert!(imported.toml.contains(line), "{line} in {}", imported.toml);
    }
    let tags: Vec<_> = imported
        .warnings
        .iter()
        .filter(|w| w.code == "W0440")
        .collect();
    assert_eq!(tags.len(), 1);
    assert_eq!(place(tags[0]), ("W0440", 11, 16));
    assert!(tags[0].message.contains("!color"), "{}", tags[0].message);
}

#[test]
fn texts_that_are_no_yaml_are_refused_with_line_column_and_hint() {
    let cases: &[(&str, &str, usize, usize)] = &[
        ("a: [1\nb: 2\n", "E0120", 2, 2),
        ("model:\n\ttensor: 1\n", "E0120", 2, 2),
        ("a: 1\n---\nb: 2\n", "E0120", 2, 1),
        ("train:\n  a: 1\n  a: 2\n", "E0120", 3, 3),
        ("a: *nobody\n", "E0120", 1, 4),
        ("a: &a [*a]\n", "E0120", 1, 8),
        ("? [1]\n: 2\n", "E0120", 1, 3),
        ("a: \"b\n", "E0120", 1, 4),
        ("just words\n", "E0120", 1, 1),
        ("- a\n- b\n", "E0120", 1, 1),
        ("", "E0120", 1, 1),
        ("# only a comment\n", "E0120", 1, 1),
        ("\u{e4}\u{e4}: {\u{fc}: @}\n", "E0120", 1, 9),
    ];
    let mut places = Vec::new();
    for (text, ..) in cases {
        let error = import(text, &[]).unwrap_err();
        assert_eq!(error.severity, Severity::Error);
        let (code, line, column) = place(&error);
        if error.message.contains("no YAML") {
            assert!(error.hint.is_some(), "{text:?}");
        }
        places.push((*text, code, line, column));
    }
    assert_eq!(places, cases);
    let tab = import("model:\n\ttensor: 1\n", &[]).unwrap_err();
    assert!(tab.hint.unwrap().contains("tabs"));
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    let lines: Vec<String> = (0..count).map(line).collect();
    lines.join("\n") + "\n"
}

#[test]
fn texts_that_would_cost_too_much_are_refused_at_once() {
    // Ten aliases of ten aliases of ten aliases ...
    let mut laughs = String::from("a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &[
            "a",
            &level.to_string(),
            ": &a",
            &level.to_string(),
            " [",
            &aliases,
            "]\n",
        ]
        .concat();
    }
    let deep_blocks = lines(2000, |depth| " ".repeat(depth) + "a:");
    let ladder = lines(100, |level| match level {
        0 => "a0: &a0 [1]".into(),
        level => format!("a{level}: &a{level} [*a{}]", level - 1),
    });
    let cases = [
        ("aliases", laughs),
        ("brackets", "[".repeat(10_000)),
        ("braces", "{a: ".repeat(100)),
        ("dashes", format!("a: {}\n", "- ".repeat(10_000))),
        ("blocks", deep_blocks),
        ("ladder", ladder),
        ("long", format!("a: \"{}\"\n", "x".repeat(5 << 20))),
        ("wide", lines(210_000, |i| format!("a{i}: 1"))),
        ("list", format!("a: [{}]\n", "1, ".repeat(210_000))),
        ("anchors", format!("{}1\n", "&a ".repeat(10_000))),
    ];
    for (name, text) in cases {
        let start = Instant::now();
        let error = import(&text, &[]).expect_err(name);
        assert!(["E0120", "E0121"].contains(&error.code), "{name}: {error}");
        assert!(error.to_string().len() < 1000, "{name}");
        // A debug build on a busy machine; what is not bounded takes minutes.
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{name}: {:?}",
            start.elapsed()
        );
    }
    // Just below the bounds it is read, and what it says is bounded too.
    let wide = lines(5_000, |i| {
        format!("model{i}: {{_target_: a, _args_: [2]}}\ntrain{i}: !x 1")
    });
    let imported = import(&wide, &[]).unwrap();
    assert!(imported.warnings.len() < 150, "{}", imported.warnings.len());
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_]{1,6}",
        "[ -~\u{e4}\n\t]{1,8}",
        Just("null".into()),
        Just("1e3".into())
    ]
    .prop_filter("a path has no empty part, and no +", |name: &String| {
        !name.contains(['.', '+']) && !name.is_empty()
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        prop_oneof![
            any::<f64>().prop_filter("itself", |x| !x.is_nan()),
            Just(1e-8),
            Just(1e22)
        ]
        .prop_map(Value::Float),
        any::<bool>().prop_map(Value::Boolean),
        prop_oneof![
            "[ -~\u{e4}\n\t\u{1}]{0,8}",
            Just("~".into()),
            Just("yes".into()),
            Just("0x1f".into())
        ]
        .prop_map(Value::String),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        proptest::collection::vec(inner, 0..4).prop_map(Value::List)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_override_is_the_same_after_yaml(entries in proptest::collection::btree_map((name(), name()), value(), 1..6)) {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/megatron/qwen35_vl_2b_sft_1gpu_h100_bf16.toml");
        let entries: Vec<(String, Value)> = entries
            .into_iter()
            .map(|((section, name), value)| (format!("zz{section}.{name}"), value))
            .collect();
        let table = Value::Table(entries);
        let recipe = loaded(&base, &[&format!("megatron.overrides={table}")]);
        prop_assert_eq!(&recipe.diagnostics, &[]);
        let recipe = recipe.megatron.unwrap();
        let yaml = to_yaml(&recipe);
        let imported = import(&yaml, &[]).unwrap();
        prop_assert_eq!(said(&read(&imported)), said(&recipe), "{}", yaml);
    }

    #[test]
    fn no_text_is_too_strange(text in "([a-z]{1,3}|[ \n\t:\\-{}\\[\\],&*!|>'\"%@`#?<~\r\u{feff}\u{e4}\u{0}]){0,40}") {
        match import(&text, &[]) {
            Ok(imported) => drop(toml::from_str::<toml::Table>(&imported.toml).expect("what is written is TOML")),
            Err(error) => prop_assert!(matches!(error.code, "E0120" | "E0121")),
        }
    }
}

/// Reads a text and writes what it says: neither fails, and what is written is TOML that loads or says why not.
fn survives(text: &str) -> Result<(), TestCaseError> {
    match import(text, &[]) {
        Ok(imported) => {
            let table = toml::from_str::<toml::Table>(&imported.toml);
            prop_assert!(table.is_ok(), "{:?}\n{}", table, imported.toml);
            let loaded = super::load_text(&imported.toml);
            prop_assert!(loaded.diagnostics.iter().all(|d| d.code != "E0101"));
            for warning in &imported.warnings {
                let Place::File { span, .. } = &warning.place else {
                    return Err(TestCaseError::fail(warning.to_string()));
                };
                prop_assert!(text.get(span.clone()).is_some(), "{}", warning);
            }
        }
        Err(error) => {
            prop_assert!(matches!(error.code, "E0120" | "E0121"));
            let Place::File { span, .. } = &error.place else {
                return Err(TestCaseError::fail(error.to_string()));
            };
            prop_assert!(text.get(span.clone()).is_some(), "{}", error);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_dump_with_wounds_is_read_or_refused(
        wounds in proptest::collection::vec((any::<u16>(), 0usize..40, "[ -~\u{e4}\n\t\r\u{0}]{0,6}|&a |\\*a|<<: |!!int |- |: |\\{|\\[|\n---\n|# trestle: megatron.gpus = "), 1..6),
        from in prop_oneof![
            Just(include_str!("../../golden/fuzz/yaml/dump.yaml")),
            Just(include_str!("../../golden/fuzz/yaml/anchors.yaml")),
            Just(include_str!("../../golden/fuzz/yaml/about.yaml")),
        ],
    ) {
        let mut letters: Vec<char> = from.chars().collect();
        for (at, gone, put) in wounds {
            let at = usize::from(at) % letters.len().max(1);
            let end = (at + gone).min(letters.len());
            letters.splice(at..end, put.chars());
        }
        survives(&letters.into_iter().collect::<String>())?;
    }
}
