//! From a dump to a recipe.

mod base;
mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::de::DeValue;

use super::leaves::{Leaf, Leaves};
use super::node::{Kind, Node, parse};
use super::{ABOUT, At, Imported, Known, Published, Source};
use crate::base::{Diagnostic, LineColumn, Severity};
use crate::recipe::flat::Values;
use crate::recipe::key::{self, closest};
use crate::recipe::megatron::key_of;
use crate::recipe::megatron::overrides::is_dtype;
use crate::recipe::value::Value;
use crate::spec;

/// The sections that Bridge's configuration has.
const SECTIONS: [&str; 24] = [
    "model",
    "train",
    "validation",
    "optimizer",
    "optimizer_config_override_provider",
    "scheduler",
    "ddp",
    "dataset",
    "logger",
    "tokenizer",
    "checkpoint",
    "rng",
    "dist",
    "comm_overlap",
    "mixed_precision",
    "peft",
    "profiling",
    "rerun_state_machine",
    "env_vars",
    "ft",
    "straggler",
    "nvrx_straggler",
    "tensor_inspect",
    "inprocess_restart",
];

/// Options of `mixed_precision` that its name says.
const NAMED: [&str; 5] = ["bf16", "fp16", "fp4", "fp8", "fp8_recipe"];

/// Most options that are warned of one by one; the rest is counted.
const MOST: usize = 20;

/// Reads what [`to_yaml`](super::to_yaml) writes or what Bridge prints, as a recipe that extends one of `published` if there is one like it.
///
/// The MTP depth stays the model's unless the dump has another one. Fails with a place in `text` where that is no YAML, is no mapping of
/// sections, or is larger than a configuration can be.
pub fn from_yaml(
    path: &Path,
    text: &str,
    published: &[Published],
    known: &Known,
) -> Result<Imported, Box<Diagnostic>> {
    let source = Source { path, text };
    let mut warnings = Vec::new();
    let document = parse(source, &mut warnings)?;
    let Kind::Map(sections) = &document.kind else {
        let message = "a configuration is a mapping of sections, such as `model:` and `train:`";
        return Err(source.refusal("E0120", document.at, message));
    };
    let mut import = Import {
        source,
        values: BTreeMap::new(),
        environment: Vec::new(),
        overrides: Vec::new(),
        added: BTreeSet::new(),
        unset: Vec::new(),
        nulls: 0,
        unknown: Vec::new(),
        is_full: false,
        is_ours: false,
        warnings,
    };
    import.about();
    let leaves = import.sections(sections);
    for leaf in leaves.found {
        import.option(leaf);
    }
    import.lost(&leaves.lost);
    import.unknown();
    import.job(known);
    Ok(import.finish(published))
}

struct Import<'a> {
    source: Source<'a>,
    values: Values,
    environment: Vec<(String, Value)>,
    overrides: Vec<(String, Value)>,
    /// Paths of overrides that a line about the job has said.
    added: BTreeSet<String>,
    /// Options that are null, in the file's order.
    unset: Vec<String>,
    nulls: usize,
    /// Options that no key sets.
    unknown: Vec<(String, At)>,
    /// Whether the file says that there are no adapters.
    is_full: bool,
    /// Whether the file has lines about the job, and so says everything.
    is_ours: bool,
    warnings: Vec<Diagnostic>,
}

impl Import<'_> {
    fn warn(&mut self, code: &'static str, at: At, message: String) -> &mut Diagnostic {
        let warning = self.source.diagnostic(Severity::Warning, code, at, message);
        self.warnings.push(warning);
        let last = self.warnings.len() - 1;
        &mut self.warnings[last]
    }

    /// Reads the comments about the job.
    fn about(&mut self) {
        let mut start = 0;
        for (line, text) in self.source.text.lines().enumerate() {
            let length = text.chars().count();
            let at = At {
                start,
                end: start + length,
                line_column: LineColumn {
                    line: line + 1,
                    column: 1,
                },
            };
            // The last of a line's two ends, if it has two, is not worth a wrong mark.
            start += length + 1;
            let Some(about) = text.strip_prefix(ABOUT) else {
                continue;
            };
            self.is_ours = true;
            let read = about.split_once(" = ").and_then(|(name, value)| {
                let parsed = DeValue::parse(value).ok()?;
                let value = Value::from_document(parsed.get_ref()).ok()?;
                let key = key::find(name)?;
                Some((key.path, key::check(key, &value).ok()?))
            });
            match read {
                Some(("megatron.overrides", Value::Table(added))) => {
                    let names = added
                        .iter()
                        .map(|(path, _)| path.trim_start_matches('+').into());
                    self.added.extend(names);
                    self.overrides.extend(added);
                }
                Some((key, value)) => drop(self.values.insert(key, value)),
                None if self.warnings.len() < 2 * MOST => {
                    let message = format!("the comment `{about}` says nothing that is known");
                    self.warn("W0441", at, message);
                }
                None => {}
            }
        }
    }

    fn sections(&mut self, sections: &[(String, Node)]) -> Leaves {
        let mut leaves = Leaves::default();
        for (name, node) in sections {
            match (name.as_str(), &node.kind) {
                ("env_vars", Kind::Map(entries)) => {
                    for (variable, node) in entries {
                        let text = match node.value() {
                            Some(Value::String(text)) => text,
                            Some(value) => value.to_string(),
                            None => String::new(),
                        };
                        self.environment
                            .push((variable.clone(), Value::String(text)));
                    }
                }
                ("mixed_precision", Kind::Scalar(Some(value))) => {
                    self.key("megatron.precision", value);
                }
                ("mixed_precision", Kind::Map(entries)) => {
                    let precision = precision(node);
                    if let Some(name) = precision {
                        self.key("megatron.precision", &Value::String(name.into()));
                    }
                    for (option, node) in entries {
                        let is_named = precision.is_some() && NAMED.contains(&option.as_str());
                        if !is_named && option != "_target_" {
                            leaves.add(&format!("{name}.{option}"), node);
                        }
                    }
                }
                ("peft", Kind::Map(_)) => {
                    let target = node.entry("_target_").and_then(Node::value);
                    let target = target.as_ref().and_then(Value::as_str).unwrap_or_default();
                    let scheme = if target.to_lowercase().ends_with("dora") {
                        "dora"
                    } else {
                        "lora"
                    };
                    self.key("megatron.mode", &Value::String("peft".into()));
                    self.key("megatron.peft_scheme", &Value::String(scheme.into()));
                    leaves.add(name, node);
                }
                ("peft", Kind::Scalar(None)) => self.is_full = true,
                // The class of the whole, and what Bridge works out at its start.
                ("_target_" | "data_parallel_size", _) => {}
                (section, kind) => {
                    if !SECTIONS.contains(&section) && self.warnings.len() < 2 * MOST {
                        let nearest = closest(section, SECTIONS);
                        let nearest = nearest.into_iter().map(Into::into).collect();
                        let message = format!(
                            "`{section}` is no section of Bridge's configuration; it is kept in megatron.overrides"
                        );
                        self.warn("W0442", node.at, message).nearest = nearest;
                    }
                    if !matches!(kind, Kind::Scalar(None)) {
                        leaves.add(section, node);
                    }
                }
            }
        }
        leaves
    }

    /// Says a key that no line about the job has said.
    fn key(&mut self, path: &'static str, value: &Value) {
        if let Some(key) = key::find(path)
            && let Ok(value) = key::check(key, value)
        {
            self.values.entry(path).or_insert(value);
        }
    }

    fn option(&mut self, leaf: Leaf) {
        let Leaf { path, at, value } = leaf;
        let Some(key) = key_of(&path).and_then(key::find) else {
            match value {
                Some(value) => {
                    self.unknown.push((path.clone(), at));
                    self.keep(path, value);
                }
                None => self.null(path),
            }
            return;
        };
        let Some(value) = value else {
            match key.path {
                "parallel.vpp" => drop(self.values.insert(key.path, Value::Integer(1))),
                "megatron.model.recompute_granularity" => {
                    self.values.insert(key.path, Value::String("none".into()));
                }
                "model.mtp_num_hidden_layers" => {
                    self.values.insert(key.path, Value::Integer(0));
                }
                "megatron.checkpoint.save" => {
                    self.values
                        .insert("megatron.checkpoints", Value::Boolean(false));
                }
                _ => self.null(path),
            }
            return;
        };
        let value = spelled(key.path, value);
        match (key::check(key, &value), self.values.get(key.path)) {
            (Ok(value), None) => drop(self.values.insert(key.path, value)),
            (Ok(value), Some(known)) if *known == value => {}
            (Ok(value), Some(known)) => {
                let message = format!(
                    "`{path}` is {value}, but {} is {known} already: it is kept in megatron.overrides",
                    key.path
                );
                self.warn("W0443", at, message);
                self.keep(path, value);
            }
            (Err(wrong), _) => {
                let message = format!("{}: it is kept in megatron.overrides", wrong.message);
                let nearest = wrong.nearest.iter().map(ToString::to_string).collect();
                self.warn("W0443", at, message).nearest = nearest;
                self.keep(path, value);
            }
        }
    }

    /// An option under its dotted path; one that a line about the job has said stays as it is there.
    fn keep(&mut self, path: String, value: Value) {
        if !self.added.contains(&path) {
            self.overrides.push((path, value));
        }
    }

    fn null(&mut self, path: String) {
        self.nulls += 1;
        self.unset.push(path);
    }

    /// The model and the job, as far as something says them.
    fn job(&mut self, known: &Known) {
        if let Some(name) = &known.recipe {
            self.values
                .insert("megatron.recipe", Value::String(name.clone()));
        }
        if let Some(gpus) = known.gpus {
            self.values.insert("megatron.gpus", Value::count(gpus));
        }
        if self.values.contains_key("model.size") || self.values.contains_key("model.hf") {
            return;
        }
        let id = self.values.get("megatron.model.hf_model_id");
        let base = id
            .and_then(Value::as_str)
            .map(|id| id.trim_end_matches("-Base"));
        let entry = spec::registry()
            .iter()
            .find(|entry| Some(entry.hf_id) == base && !entry.hf_id.is_empty());
        if let Some(entry) = entry {
            let depth = entry.model.text.mtp_num_hidden_layers;
            self.values
                .insert("model.size", Value::String(entry.name.into()));
            // The depth is the model's (R6); a recipe says only another one.
            if self.values.get("model.mtp_num_hidden_layers") == Some(&Value::count(depth)) {
                self.values.remove("model.mtp_num_hidden_layers");
            }
        }
    }
}

/// The value as the key spells it.
fn spelled(key: &str, value: Value) -> Value {
    match value {
        Value::String(text) if is_dtype(key) => {
            Value::String(text.trim_start_matches("torch.").into())
        }
        Value::String(text) if key == "schedule.kind" => Value::String(text.to_lowercase()),
        value => value,
    }
}

/// Upstream's name of a precision that a dump spells out.
fn precision(node: &Node) -> Option<&'static str> {
    let text = |name: &str| match node.entry(name)?.value()? {
        Value::String(text) => Some(text),
        _ => None,
    };
    let is_on = |name: &str| node.entry(name).and_then(Node::value) == Some(Value::Boolean(true));
    if is_on("fp16") {
        return Some("fp16_mixed");
    }
    if !is_on("bf16") {
        return None;
    }
    if text("fp4").is_some() {
        return Some("bf16_with_nvfp4_mixed");
    }
    if text("fp8").is_none() {
        return Some("bf16_mixed");
    }
    match text("fp8_recipe").as_deref() {
        Some("tensorwise") => Some("bf16_with_fp8_current_scaling_mixed"),
        Some("delayed") => Some("bf16_with_fp8_delayed_scaling_mixed"),
        Some("blockwise") => Some("bf16_with_fp8_subchannel_scaling_mixed"),
        Some("mxfp8") => Some("bf16_with_mxfp8_mixed"),
        _ => None,
    }
}
