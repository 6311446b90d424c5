//! From a dump to a recipe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::de::DeValue;

use super::leaves::{Leaf, Leaves};
use super::node::{Kind, Node, parse};
use super::{ABOUT, At, Imported, Known, Published, Source};
use crate::base::{Diagnostic, LineColumn, Severity};
use crate::recipe::flat::Values;
use crate::recipe::key::{self, KEYS, closest};
use crate::recipe::megatron::overrides::is_dtype;
use crate::recipe::megatron::{Megatron, key_of, settings};
use crate::recipe::print;
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
                ("mixed_precision", Kind::Map(_)) => {
                    if let Some(name) = precision(node) {
                        self.key("megatron.precision", &Value::String(name.into()));
                    }
                    leaves.add(name, node);
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

    /// Warns of options without a key: of those that look like one of a known name, and of the others as a whole.
    /// A file of our own has there what its recipe has there.
    fn unknown(&mut self) {
        if self.is_ours {
            return;
        }
        let names: Vec<String> = KEYS
            .iter()
            .flat_map(|key| super::super::options(key.path))
            .map(Into::into)
            .collect();
        let unknown = std::mem::take(&mut self.unknown);
        let mut others: Vec<(String, At)> = Vec::new();
        let mut said = 0;
        for (path, at) in unknown {
            let (section, name) = path.split_once('.').unwrap_or(("", &path));
            let same = names
                .iter()
                .filter_map(|known| known.strip_prefix(section)?.strip_prefix('.'));
            let near: Vec<String> = if said < MOST {
                closest(name, same)
                    .into_iter()
                    // Bridge has many names of one beginning; a mistyped one has the length of what was meant.
                    .filter(|known| known.len().abs_diff(name.len()) <= 2 && is_typo(known, name))
                    .map(|known| format!("{section}.{known}"))
                    .collect()
            } else {
                Vec::new()
            };
            if near.is_empty() {
                others.push((path, at));
            } else {
                said += 1;
                let message =
                    format!("`{path}` is not known here: it is kept in megatron.overrides");
                self.warn("W0444", at, message).nearest = near;
            }
        }
        let Some((_, at)) = others.first() else {
            return;
        };
        let listed: Vec<&str> = others.iter().take(5).map(|(path, _)| &**path).collect();
        let more = match others.len() - listed.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "{} options have no key here and are kept in megatron.overrides: {}{more}",
            others.len(),
            listed.join(", ")
        );
        self.warn("W0445", *at, message);
    }

    fn lost(&mut self, lost: &[(String, At, String)]) {
        let Some((_, at, _)) = lost.first() else {
            return;
        };
        let listed: Vec<String> = lost
            .iter()
            .take(5)
            .map(|(path, _, what)| format!("{path} ({what})"))
            .collect();
        let more = match lost.len() - listed.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "{} options hold what no override can set and are left out: {}{more}",
            lost.len(),
            listed.join(", ")
        );
        self.warn("W0446", *at, message);
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

    fn finish(mut self, published: &[Published]) -> Imported {
        let base = self.like(published).cloned();
        if self.nulls > 0 && !self.is_ours && base.is_none() {
            let message = format!(
                "{} options are null, which is as if they were not there",
                self.nulls
            );
            self.warn("W0447", At::TOP, message);
        }
        let said: BTreeSet<String> = base
            .iter()
            .flat_map(|base| settings(&base.recipe))
            .filter_map(|(path, value)| value.map(|_| path))
            .collect();
        let mut unset = std::mem::take(&mut self.unset);
        unset.retain(|path| self.is_ours || said.contains(path));
        let texts =
            |paths: Vec<String>| Value::List(paths.into_iter().map(Value::String).collect());
        if !unset.is_empty() {
            self.values.insert("megatron.unset", texts(unset));
        }
        if !self.overrides.is_empty() {
            let overrides = sorted(std::mem::take(&mut self.overrides));
            self.values.insert("megatron.overrides", overrides);
        }
        if !self.environment.is_empty() {
            let environment = sorted(std::mem::take(&mut self.environment));
            self.values.insert("megatron.env", environment);
        }
        if let Some(base) = &base {
            self.against(&base.recipe);
            let path = Value::String(base.path.to_string_lossy().into_owned());
            self.values.insert("extends", Value::List(vec![path]));
        } else {
            self.missing();
        }
        let title = "# Imported from a configuration of Megatron-Bridge.\n";
        Imported {
            toml: print::document(title, |key| self.values.get(key).cloned()),
            extends: base.map(|base| base.path),
            warnings: self.warnings,
        }
    }

    /// The published recipe of the same name, else the one of the same model that most options agree with.
    fn like<'b>(&self, published: &'b [Published]) -> Option<&'b Published> {
        if let Some(name) = self.values.get("megatron.recipe").and_then(Value::as_str) {
            return published.iter().find(|p| p.recipe.recipe == name);
        }
        let counted = published.iter().filter_map(|p| {
            let of_job = ["megatron.model.hf_model_id", "megatron.mode"];
            let is_other = of_job.iter().any(|key| {
                let ours = self.values.get(key);
                ours.is_some() && p.recipe.get(key) != ours
            });
            let both = p.recipe.said().filter_map(|(key, said)| {
                let is_option = !super::super::options(key.path).is_empty();
                Some((said, self.values.get(key.path).filter(|_| is_option)?))
            });
            let (agree, differ): (Vec<_>, Vec<_>) = both.partition(|(said, ours)| said == ours);
            let is_like = !is_other && agree.len() >= 10 && differ.len() * 4 <= agree.len();
            is_like.then_some((differ.len(), usize::MAX - agree.len(), p))
        });
        counted
            .min_by_key(|(differ, agree, p)| (*differ, *agree, p.recipe.recipe.clone()))
            .map(|(_, _, p)| p)
    }

    /// Takes out what the base says already.
    fn against(&mut self, base: &Megatron) {
        if !self.values.contains_key("megatron.recipe") {
            let message = format!(
                "the recipe is taken to be {} on {} GPUs, which it is most like",
                base.recipe, base.gpus
            );
            self.warn("W0448", At::TOP, message).hint =
                Some("say --recipe NAME and --gpus N if it is another one".into());
        }
        for key in ["megatron.env", "megatron.overrides"] {
            if let Some(Value::Table(entries)) = self.values.get_mut(key) {
                entries.retain(|entry| !base.entries(key).contains(entry));
                if entries.is_empty() {
                    self.values.remove(key);
                }
            }
        }
        let depth = Value::count(base.model.text.mtp_num_hidden_layers);
        self.values.retain(|key, value| {
            let is_depth = *key == "model.mtp_num_hidden_layers" && *value == depth;
            !is_depth && base.get(key) != Some(value)
        });
    }

    /// Warns of what a recipe must say and this one does not.
    fn missing(&mut self) {
        let is_said = |key: &str| self.values.contains_key(key);
        let mut missing: Vec<&str> = ["megatron.recipe", "megatron.gpus"]
            .into_iter()
            .filter(|key| !is_said(key))
            .collect();
        if !is_said("model.size") && !is_said("model.hf") {
            missing.push("model.size");
        }
        if !missing.is_empty() {
            let message = format!(
                "the configuration does not say {}, and no published recipe is like it",
                missing.join(", ")
            );
            self.warn("W0449", At::TOP, message).hint =
                Some("say --recipe NAME and --gpus N, or write them into the recipe".into());
        }
    }
}

fn sorted(mut entries: Vec<(String, Value)>) -> Value {
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Table(entries)
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

/// Whether two names of about one length differ in a few letters only.
fn is_typo(known: &str, name: &str) -> bool {
    let same = known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b);
    let same = same.count();
    let back = known.bytes().rev().zip(name.bytes().rev());
    let back = back.take_while(|(a, b)| a == b).count();
    same + back + 3 >= known.len().min(name.len()) && name.len() > 3
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
