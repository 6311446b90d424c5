//! Conversions against what Megatron Core itself made of the same weights.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use trestle::checkpoint::convert::{Conversion, HuggingFaceTarget, Options, Target};
use trestle::checkpoint::safetensors::Header;
use trestle::checkpoint::{CheckpointError, Weights};
use trestle::mapping::{Layout, LayoutOptions};
use trestle::plan::Pipeline;
use trestle::spec::ModelConfig;

pub(crate) fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mapping")
}

/// Every case of the goldens that has a manifest.
pub(crate) fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(goldens())
        .expect("goldens")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("manifest.json").exists())
        .collect();
    cases.sort();
    assert!(cases.len() >= 7, "{cases:?}");
    cases
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// Name and settings of each layout of a case.
pub(crate) fn layouts(case: &Path) -> Vec<(String, Value)> {
    let manifest = json(&case.join("manifest.json"));
    let layouts = manifest["layouts"].as_object().expect("layouts").clone();
    layouts
        .into_iter()
        .map(|(name, value)| (name, value["layout"].clone()))
        .collect()
}

/// The Hugging Face files of a case, one for each style.
pub(crate) fn sources(case: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(case)
        .expect("case")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .collect();
    files.sort();
    files
}

fn layout(config: &ModelConfig, settings: &Value) -> Layout {
    let number = |key: &str| settings[key].as_u64().map(|n| n as usize);
    let pipeline = Pipeline {
        pp: number("pp").unwrap_or(1),
        first: number("num_layers_in_first_pipeline_stage"),
        last: number("num_layers_in_last_pipeline_stage"),
        ..Pipeline::default()
    };
    let text = &config.text;
    let stages = pipeline.stages(
        text.num_hidden_layers,
        text.mtp_num_hidden_layers,
        text.tie_word_embeddings,
    );
    let options = LayoutOptions {
        tp: number("tp").unwrap_or(1),
        ep: number("ep").unwrap_or(1),
        etp: number("etp").unwrap_or(1),
        world: number("world"),
        pad_vocab: settings["pad_vocab"].as_bool().unwrap_or(false),
        sequential_experts: settings["moe_grouped_gemm"] == Value::Bool(false),
        ..LayoutOptions::default()
    };
    Layout::new(config, &options, stages.expect("stages")).expect("a layout")
}

/// A tensor of a file: type, extents, bytes.
type Content = (String, Vec<usize>, Vec<u8>);

pub(crate) fn content(file: &Path) -> BTreeMap<String, Content> {
    let header = Header::read(file).expect("safetensors");
    let bytes = fs::read(file).expect("a file");
    header
        .tensors
        .into_iter()
        .map(|tensor| {
            let start = tensor.extents[0].offset as usize;
            let values = bytes[start..start + tensor.bytes() as usize].to_vec();
            let dtype = tensor.dtype.to_string();
            (tensor.name, (dtype, tensor.shape.0, values))
        })
        .collect()
}

fn assert_same(made: &Path, expected: &Path) {
    let (made, expected) = (content(made), content(expected));
    let names = |map: &BTreeMap<String, Content>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made), names(&expected));
    for (name, value) in &expected {
        assert!(made[name] == *value, "{name} differs");
    }
}

pub(crate) fn convert(
    input: &Path,
    target: impl Fn(&Weights) -> Target,
    style_of: Option<&Weights>,
    config: &ModelConfig,
    output: &Path,
) -> Result<(), CheckpointError> {
    let weights = Weights::open(input)?;
    let style = style_of.unwrap_or(&weights).expert_style()?;
    let bound = weights.bind(config, style)?;
    let target = target(&weights);
    let conversion = Conversion::plan(&weights, &bound, &target, None)?;
    let cancel = AtomicBool::new(false);
    conversion.run(output, &Options::default(), &|_| {}, &cancel)?;
    Ok(())
}

#[test]
fn every_rank_gets_what_megatron_gave_it_and_the_way_back_is_exact() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ranks = 0;
    for case in cases() {
        let config_json = json(&case.join("config.json"));
        let config = ModelConfig::from_json(&config_json).expect("a config");
        for source in sources(&case) {
            for (name, settings) in layouts(&case) {
                let label = format!("{}-{name}", case.file_name().unwrap().display());
                let shards = folder
                    .path()
                    .join(format!("{label}-{}", source.file_stem().unwrap().display()));
                let layout = layout(&config, &settings);
                let target = |_: &Weights| Target::Shards {
                    layout: layout.clone(),
                    config: Some(config_json.clone()),
                };
                convert(&source, target, None, &config, &shards).expect(&label);
                let mut expected: Vec<PathBuf> = fs::read_dir(case.join(&name))
                    .expect("ranks")
                    .map(|entry| entry.unwrap().path())
                    .collect();
                expected.sort();
                let made = fs::read_dir(&shards).unwrap().filter(|entry| {
                    let path = entry.as_ref().unwrap().path();
                    path.extension().is_some_and(|end| end == "safetensors")
                });
                assert_eq!(made.count(), expected.len(), "{label}");
                for file in &expected {
                    assert_same(&shards.join(file.file_name().unwrap()), file);
                    ranks += 1;
                }
                // Back from what Megatron wrote, not from what we did.
                let back = shards.with_extension("hf");
                let target = |_: &Weights| {
                    Target::HuggingFace(HuggingFaceTarget {
                        config: trestle::checkpoint::convert::config_text(&config_json.clone()),
                        dtypes: HashMap::default(),
                        keeps_f32: true,
                        max_shard_bytes: None,
                        companions: None,
                    })
                };
                let like = Weights::open(&source).expect("source");
                convert(&case.join(&name), target, Some(&like), &config, &back).expect(&label);
                assert_same(&back.join("model.safetensors"), &source);
            }
        }
    }
    assert!(ranks >= 40, "{ranks} ranks");
}
