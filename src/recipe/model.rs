//! `[model]`: a published size, a Hugging Face directory or an own geometry, with single keys changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::flat::{self, Values};
use super::key::closest;
use super::overlay::{Loader, Overlay};
use super::report::Report;
use super::resolved::{Init, Model};
use super::value::Value;
use crate::base::{DType, Place, Severity};
use crate::spec::{
    self, Entry, LayerKind, ModelConfig, SpecError, TextConfig, layer_pattern, mrope_split,
};

/// What a geometry of one's own must say; the rest has the family's values.
const ESSENTIAL: [&str; 6] = [
    "model.vocab_size",
    "model.hidden_size",
    "model.intermediate_size",
    "model.num_hidden_layers",
    "model.num_attention_heads",
    "model.num_key_value_heads",
];

type CountField = (&'static str, fn(&mut TextConfig) -> &mut usize);
type FloatField = (&'static str, fn(&mut TextConfig) -> &mut f64);

const COUNTS: [CountField; 15] = [
    ("model.vocab_size", |c| &mut c.vocab_size),
    ("model.hidden_size", |c| &mut c.hidden_size),
    ("model.intermediate_size", |c| &mut c.intermediate_size),
    ("model.num_hidden_layers", |c| &mut c.num_hidden_layers),
    ("model.num_attention_heads", |c| &mut c.num_attention_heads),
    ("model.num_key_value_heads", |c| &mut c.num_key_value_heads),
    ("model.head_dim", |c| &mut c.head_dim),
    ("model.linear_num_key_heads", |c| {
        &mut c.linear_num_key_heads
    }),
    ("model.linear_num_value_heads", |c| {
        &mut c.linear_num_value_heads
    }),
    ("model.linear_key_head_dim", |c| &mut c.linear_key_head_dim),
    ("model.linear_value_head_dim", |c| {
        &mut c.linear_value_head_dim
    }),
    ("model.linear_conv_kernel_dim", |c| {
        &mut c.linear_conv_kernel_dim
    }),
    ("model.full_attention_interval", |c| {
        &mut c.full_attention_interval
    }),
    ("model.max_position_embeddings", |c| {
        &mut c.max_position_embeddings
    }),
    ("model.mtp_num_hidden_layers", |c| {
        &mut c.mtp_num_hidden_layers
    }),
];

const FLOATS: [FloatField; 4] = [
    ("model.rope_theta", |c| &mut c.rope_theta),
    ("model.partial_rotary_factor", |c| {
        &mut c.partial_rotary_factor
    }),
    ("model.rms_norm_eps", |c| &mut c.rms_norm_eps),
    ("model.initializer_range", |c| &mut c.initializer_range),
];

const LAYERS: [(&str, LayerKind); 2] = [
    ("linear_attention", LayerKind::LinearAttention),
    ("full_attention", LayerKind::FullAttention),
];

const DTYPES: [(&str, DType); 3] = [
    ("float32", DType::F32),
    ("bfloat16", DType::BF16),
    ("float16", DType::F16),
];

/// The model's values under their keys: the whole geometry, so that neither registry nor directory is needed again.
pub(super) fn flatten(model: &Model, v: &mut Values) {
    v.insert("model.name", Value::String(model.name.clone()));
    let init = match &model.init {
        Init::Random => "random".into(),
        Init::HuggingFace(path) => path.to_string_lossy().into_owned(),
    };
    v.insert("model.init", Value::String(init));
    let mut config = model.config.clone();
    for (key, field) in COUNTS {
        v.insert(key, Value::count(*field(&mut config)));
    }
    for (key, field) in FLOATS {
        v.insert(key, Value::Float(*field(&mut config)));
    }
    let layers = config.layer_types.iter().map(|kind| {
        let (word, _) = LAYERS[usize::from(*kind == LayerKind::FullAttention)];
        Value::String(word.into())
    });
    v.insert("model.layer_types", Value::List(layers.collect()));
    let sections = config.mrope_section.map(Value::count);
    v.insert("model.mrope_section", Value::List(sections.into()));
    v.insert(
        "model.tie_word_embeddings",
        Value::Boolean(config.tie_word_embeddings),
    );
    if let Some((word, _)) = DTYPES.iter().find(|(_, d)| Some(*d) == config.dtype) {
        v.insert("model.dtype", Value::String((*word).into()));
    }
    if !config.source.is_null() {
        v.insert(
            "model.config_json",
            Value::String(config.source.to_string()),
        );
    }
}

/// Where the geometry starts from.
enum Base {
    Size(&'static str),
    Directory(PathBuf),
    Json,
    Own,
}

/// Resolves the model. Problems go to the report; what can still be said is said with the model that comes back.
pub(super) fn resolve(
    overlay: &Overlay,
    report: &mut Report<'_>,
    loader: &Loader<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<Model> {
    let text = |key: &str| overlay.values.get(key).and_then(|l| l.value.as_str());
    let given: BTreeSet<&str> = overlay
        .values
        .keys()
        .filter(|key| key.starts_with("model."))
        .copied()
        .collect();
    // A mistake in one of these is reported already; guessing a geometry would only add noise.
    if ["model.size", "model.hf"]
        .iter()
        .any(|key| overlay.wrong.contains(key))
    {
        return None;
    }
    let (base, mut config) = match (text("model.size"), text("model.hf")) {
        (Some(size), Some(hf)) => {
            report.add(Severity::Error, "E0304", &["model.hf", "model.size"], format!(
                "model.size = \"{size}\" and model.hf = \"{hf}\" both give the geometry"
            )).hint("keep one; to start a known size from a directory's weights, set model.init to the directory");
            return None;
        }
        (Some(size), None) => {
            let (name, config) = size_named(size, report)?;
            (Base::Size(name), config)
        }
        (None, Some(hf)) => {
            let path = PathBuf::from(hf);
            let config = directory(&path, "model.hf", report, loader, files)?;
            (Base::Directory(path), config)
        }
        (None, None) => match text("model.config_json") {
            Some(json) => (Base::Json, embedded(json, report)?),
            None => (Base::Own, own(&given, overlay, report)?),
        },
    };
    change(&mut config, overlay);
    if let Err(error) = config.validate() {
        disagree(&error, report);
        return None;
    }
    let name = text("model.name").map_or_else(
        || match &base {
            Base::Size(size) => (*size).to_string(),
            Base::Directory(path) => path.file_name().map_or_else(
                || "custom".into(),
                |name| name.to_string_lossy().into_owned(),
            ),
            Base::Json | Base::Own => "custom".into(),
        },
        String::from,
    );
    let init = match (text("model.init"), base) {
        (Some(init), _) => flat::init_of(init),
        (None, Base::Directory(path)) => Init::HuggingFace(path),
        (None, _) => Init::Random,
    };
    Some(Model { name, config, init })
}

/// The model of a recipe for Megatron-Bridge, which may have experts and a vision tower, with its name.
pub(super) fn upstream(
    overlay: &Overlay,
    report: &mut Report<'_>,
    loader: &Loader<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<(String, ModelConfig)> {
    let text = |key: &str| overlay.values.get(key).and_then(|l| l.value.as_str());
    let is_wrong = |key| overlay.wrong.contains(key);
    if is_wrong("model.size") || is_wrong("model.hf") {
        return None;
    }
    let (name, mut config) = match (text("model.size"), text("model.hf")) {
        (Some(size), _) => {
            let entry = entry_named(size, report)?;
            (entry.name.to_string(), entry.model.clone())
        }
        (None, Some(hf)) => {
            let path = PathBuf::from(hf);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let json = directory_json(&path, "model.hf", report, loader, files)?;
            match ModelConfig::from_json(&json) {
                Ok(config) => (name.into_owned(), config),
                Err(error) => {
                    let message = format!("{}: {error}", path.join("config.json").display());
                    report.add(Severity::Error, "E0305", &["model.hf"], message);
                    return None;
                }
            }
        }
        (None, None) => {
            if !overlay.is_broken {
                report
                    .add(
                        Severity::Error,
                        "E0303",
                        &["model.size", "megatron.recipe"],
                        "the recipe does not say which model it trains".into(),
                    )
                    .hint("set model.size to a published size, or model.hf to a directory");
            }
            return None;
        }
    };
    if text("megatron.architecture").is_some_and(|class| class.ends_with("ForCausalLM")) {
        config = config.text_only();
    }
    change(&mut config.text, overlay);
    if let Err(error) = config.text.validate() {
        disagree(&error, report);
        return None;
    }
    Some((name, config))
}

/// The entry of that name.
fn entry_named(size: &str, report: &mut Report<'_>) -> Option<&'static Entry> {
    let Some(entry) = spec::find(size) else {
        let known = spec::registry().iter().map(|entry| entry.name);
        let mut nearest = closest(size, known.clone());
        if nearest.is_empty() {
            let same: Vec<&str> = known.filter(|name| name.contains(size)).collect();
            nearest = same;
        }
        let sizes: Vec<&str> = spec::registry()
            .iter()
            .filter(|entry| entry.dense().is_some())
            .map(|entry| entry.name)
            .collect();
        report
            .add(
                Severity::Error,
                "E0301",
                &["model.size"],
                format!("no published size is called \"{size}\""),
            )
            .nearest(nearest.iter().map(|name| format!("\"{name}\"")))
            .hint(&format!("known: {}", sizes.join(", ")));
        return None;
    };
    Some(entry)
}

/// The dense size of that name.
fn size_named(size: &str, report: &mut Report<'_>) -> Option<(&'static str, TextConfig)> {
    let entry = entry_named(size, report)?;
    let Some(config) = entry.dense() else {
        report
            .add(
                Severity::Error,
                "E0302",
                &["model.size"],
                format!("{} cannot be trained: {}", entry.display, entry.note),
            )
            .hint("pick a dense size");
        return None;
    };
    Some((entry.name, config.clone()))
}

/// The geometry of a directory's `config.json`.
fn directory(
    path: &Path,
    key: &'static str,
    report: &mut Report<'_>,
    loader: &Loader<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<TextConfig> {
    let json = directory_json(path, key, report, loader, files)?;
    match TextConfig::from_json(&json) {
        Ok(config) => Some(config),
        Err(error) => {
            let message = format!("{}: {error}", path.join("config.json").display());
            report
                .add(Severity::Error, "E0305", &[key], message)
                .hint("dense Qwen3.5 and Qwen3.6 models can be trained");
            None
        }
    }
}

/// A directory's `config.json`.
fn directory_json(
    path: &Path,
    key: &'static str,
    report: &mut Report<'_>,
    loader: &Loader<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<serde_json::Value> {
    let file = path.join("config.json");
    files.push(file.clone());
    let mut fail = |message: String, hint: &str| {
        report
            .add(Severity::Error, "E0305", &[key], message)
            .hint(hint);
        None
    };
    let text = match loader(&file) {
        Ok(text) => text,
        Err(error) => {
            return fail(
                format!("{} cannot be read: {error}", file.display()),
                "it names a directory with config.json and safetensors, relative to the recipe",
            );
        }
    };
    match serde_json::from_str(&text) {
        Ok(json) => Some(json),
        Err(error) => fail(
            format!("{} is not JSON: {error}", file.display()),
            "was the download complete?",
        ),
    }
}

/// The geometry of `model.config_json`.
fn embedded(json: &str, report: &mut Report<'_>) -> Option<TextConfig> {
    let reason = match serde_json::from_str(json) {
        Ok(json) => match TextConfig::from_json(&json) {
            Ok(config) => return Some(config),
            Err(error) => error.to_string(),
        },
        Err(error) => format!("not JSON: {error}"),
    };
    report.add(
        Severity::Error,
        "E0305",
        &["model.config_json"],
        format!("`model.config_json`: {reason}"),
    );
    None
}

/// An own geometry.
fn own(given: &BTreeSet<&str>, overlay: &Overlay, report: &mut Report<'_>) -> Option<TextConfig> {
    let is_there = |key: &&str| given.contains(key) || overlay.wrong.contains(key);
    let missing: Vec<&str> = ESSENTIAL.into_iter().filter(|key| !is_there(key)).collect();
    if missing.is_empty() {
        return Some(TextConfig::default());
    }
    // What a broken file would have said is not known.
    if overlay.is_broken {
        return None;
    }
    if missing.len() == ESSENTIAL.len() {
        report
            .add(
                Severity::Error,
                "E0303",
                &["model.name"],
                "the recipe does not say which model it trains".into(),
            )
            .hint("set model.size to a published size, model.hf to a directory, or give a geometry in [model]");
    } else {
        let names: Vec<&str> = missing
            .iter()
            .map(|key| key.trim_start_matches("model."))
            .collect();
        report
            .add(
                Severity::Error,
                "E0303",
                &[
                    "model.hidden_size",
                    "model.num_hidden_layers",
                    "model.vocab_size",
                ],
                format!("[model] gives an own geometry without {}", names.join(", ")),
            )
            .hint("give these keys too, or start from model.size");
    }
    None
}

/// Changes single keys of a geometry; what follows from a changed key follows again, unless the recipe says it too.
fn change(config: &mut TextConfig, overlay: &Overlay) {
    let value = |key: &str| overlay.values.get(key).map(|located| &located.value);
    let before = (
        config.num_hidden_layers,
        config.full_attention_interval,
        config.rotary_dim(),
    );
    for (key, field) in COUNTS {
        if let Some(n) = value(key).and_then(Value::as_i64) {
            *field(config) = usize::try_from(n).unwrap_or(0);
        }
    }
    for (key, field) in FLOATS {
        if let Some(x) = value(key).and_then(Value::as_f64) {
            *field(config) = x;
        }
    }
    match value("model.layer_types") {
        Some(Value::List(words)) => {
            config.layer_types = words
                .iter()
                .map(|word| LAYERS[usize::from(word.as_str() == Some(LAYERS[1].0))].1)
                .collect();
        }
        _ if before.0 != config.num_hidden_layers || before.1 != config.full_attention_interval => {
            config.layer_types =
                layer_pattern(config.num_hidden_layers, config.full_attention_interval);
        }
        _ => {}
    }
    match value("model.mrope_section") {
        Some(Value::List(counts)) => {
            for (section, count) in config.mrope_section.iter_mut().zip(counts) {
                *section = count
                    .as_i64()
                    .and_then(|n| usize::try_from(n).ok())
                    .unwrap_or(0);
            }
        }
        _ if before.2 != config.rotary_dim() => {
            config.mrope_section = mrope_split(config.rotary_dim() / 2);
        }
        _ => {}
    }
    if let Some(Value::Boolean(tied)) = value("model.tie_word_embeddings") {
        config.tie_word_embeddings = *tied;
    }
    if let Some(word) = value("model.dtype").and_then(Value::as_str) {
        config.dtype = DTYPES.iter().find(|(w, _)| *w == word).map(|(_, d)| *d);
    }
}

/// Reports what `spec` says about a geometry, at the keys that it names.
fn disagree(error: &SpecError, report: &mut Report<'_>) {
    let message = error.to_string();
    let key = |name: &str| {
        COUNTS
            .iter()
            .map(|(key, _)| *key)
            .chain(FLOATS.iter().map(|(key, _)| *key))
            .chain(["model.layer_types", "model.mrope_section"])
            .find(|key| name.contains(key.trim_start_matches("model.")))
    };
    let keys: Vec<&'static str> = match error {
        SpecError::Disagree { left, right, .. } => [key(left), key(right)]
            .into_iter()
            .flatten()
            .chain(
                right
                    .contains("rotary")
                    .then_some(["model.partial_rotary_factor", "model.head_dim"])
                    .into_iter()
                    .flatten(),
            )
            .collect(),
        SpecError::Impossible { key: name, .. } => key(name).into_iter().collect(),
        _ => Vec::new(),
    };
    report.add(Severity::Error, "E0306", &keys, message);
}

/// The key that decides a geometry value that nobody wrote.
pub(super) fn origin(overlay: &Overlay) -> Option<(&'static str, Place)> {
    ["model.size", "model.hf", "model.config_json"]
        .into_iter()
        .find_map(|key| Some((key, overlay.values.get(key)?.place.clone())))
}
