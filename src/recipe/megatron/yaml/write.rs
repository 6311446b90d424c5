//! Writes a recipe's options as YAML.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::ABOUT;
use crate::recipe::megatron::{Megatron, options, settings};
use crate::recipe::value::Value;

/// The options that a recipe sets, as a tree; what is about the job stands above it in comments.
pub fn to_yaml(recipe: &Megatron) -> String {
    let mut text = String::new();
    let about = recipe.said().filter(|(key, _)| {
        options(key.path).is_empty()
            && !matches!(
                key.path,
                "megatron.env" | "megatron.overrides" | "megatron.unset"
            )
    });
    for (key, value) in about {
        let _ = writeln!(text, "{ABOUT}{} = {}", key.path, one_line(value));
    }
    // A tree does not show which of its options are new to Bridge.
    let added: Vec<_> = recipe
        .entries("megatron.overrides")
        .iter()
        .filter(|(path, _)| path.starts_with('+'))
        .cloned()
        .collect();
    if !added.is_empty() {
        let added = one_line(&Value::Table(added));
        let _ = writeln!(text, "{ABOUT}megatron.overrides = {added}");
    }
    let mut tree = Tree::default();
    for (path, value) in settings(recipe) {
        let leaf = value.as_ref().map_or_else(|| "null".into(), scalar);
        tree.set(path.trim_start_matches('+').split('.'), leaf);
    }
    for (name, value) in recipe.entries("megatron.env") {
        tree.set(["env_vars", name].into_iter(), scalar(value));
    }
    tree.write(0, &mut text);
    text
}

/// A value as TOML without line breaks.
fn one_line(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::String(words) if text.contains('\n') => json(words),
        _ => text.replace('\n', " "),
    }
}

#[derive(Default)]
struct Tree {
    leaf: Option<String>,
    branches: BTreeMap<String, Self>,
}

impl Tree {
    fn set<'a>(&mut self, path: impl Iterator<Item = &'a str>, leaf: String) {
        let mut at = self;
        for name in path {
            at = at.branches.entry(name.into()).or_default();
        }
        at.leaf = Some(leaf);
    }

    fn write(&self, depth: usize, text: &mut String) {
        for (name, below) in &self.branches {
            let (indent, name) = ("  ".repeat(depth), word(name));
            if let Some(leaf) = &below.leaf {
                let _ = writeln!(text, "{indent}{name}: {leaf}");
            } else {
                let _ = writeln!(text, "{indent}{name}:");
                below.write(depth + 1, text);
            }
        }
    }
}

/// A name: bare where YAML reads the same text back.
fn word(name: &str) -> String {
    let is_bare = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
            .contains(&name.to_lowercase().as_str());
    if is_bare { name.into() } else { json(name) }
}

/// A text in the quotes of JSON, which YAML and TOML read the same.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value in YAML's flow style.
fn scalar(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        Value::Float(x) if x.is_nan() => ".nan".into(),
        Value::Float(x) if x.is_infinite() => if *x > 0.0 { ".inf" } else { "-.inf" }.into(),
        // YAML 1.1, which Python reads, takes an exponent only behind a point and with a sign.
        Value::Float(x) => {
            let text = format!("{x:?}");
            match text.split_once('e') {
                Some((digits, exponent)) => {
                    let point = if digits.contains('.') { "" } else { ".0" };
                    let sign = if exponent.starts_with('-') { "" } else { "+" };
                    format!("{digits}{point}e{sign}{exponent}")
                }
                None => text,
            }
        }
        Value::Boolean(b) => b.to_string(),
        Value::String(text) => json(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("{}: {}", json(name), scalar(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}
