//! The options of a document by dotted path.

use super::At;
use super::node::{Kind, Node};
use crate::recipe::value::Value;

/// An option with its value; none is null.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leaf {
    pub(super) path: String,
    pub(super) at: At,
    pub(super) value: Option<Value>,
}

/// What a document says.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    pub(super) found: Vec<Leaf>,
    /// Options that no override can set, with what they are: functions, objects, lists with null.
    pub(super) lost: Vec<(String, At, String)>,
}

/// How Bridge numbers the kernels of attention, whose enum a dump writes as a number.
const ATTENTION: [&str; 5] = ["flash", "fused", "unfused", "local", "auto"];

impl Leaves {
    /// Adds what lies at `path` and below.
    pub(super) fn add(&mut self, path: &str, node: &Node) {
        match &node.kind {
            Kind::Scalar(value) => self.push(path, node.at, value.clone()),
            Kind::List(items) => self.list(path, node.at, items),
            Kind::Map(entries) => {
                let text = |name: &str| match node.entry(name)?.value()? {
                    Value::String(text) => Some(text),
                    _ => None,
                };
                let is_called = node.entry("_call_").and_then(Node::value);
                match text("_target_") {
                    // A type of numbers is a word; another object that is not called is a function.
                    Some(target) if is_called == Some(Value::Boolean(false)) => {
                        let is_type = target
                            .strip_prefix("torch.")
                            .is_some_and(|name| !name.contains('.'));
                        if is_type {
                            self.push(path, node.at, Some(Value::String(target)));
                        } else {
                            self.lost.push((path.into(), node.at, target));
                        }
                    }
                    Some(target) if node.entry("_args_").is_some() => match word(node, &target) {
                        Some(word) => self.push(path, node.at, Some(word)),
                        None => self.lost.push((path.into(), node.at, target)),
                    },
                    Some(target) if target.ends_with(".from_dict") => {
                        self.lost.push((path.into(), node.at, target));
                    }
                    None if entries.is_empty() => {
                        self.push(path, node.at, Some(Value::Table(Vec::new())));
                    }
                    _ => {
                        for (name, below) in entries {
                            if !matches!(name.as_str(), "_target_" | "_call_" | "_partial_") {
                                self.add(&format!("{path}.{name}"), below);
                            }
                        }
                    }
                }
            }
        }
    }

    fn push(&mut self, path: &str, at: At, value: Option<Value>) {
        let path = path.into();
        self.found.push(Leaf { path, at, value });
    }

    fn list(&mut self, path: &str, at: At, items: &[Node]) {
        let values = items.iter().map(|item| {
            let target = item.entry("_target_").and_then(Node::value);
            match target {
                Some(Value::String(target)) => word(item, &target),
                _ => item.value(),
            }
        });
        match values.collect::<Option<_>>() {
            Some(values) => self.push(path, at, Some(Value::List(values))),
            None => self.lost.push((path.into(), at, "a list with null".into())),
        }
    }
}

/// The word of an enum's member, as far as recipes know the enum.
fn word(node: &Node, target: &str) -> Option<Value> {
    let arguments = node.entry("_args_")?;
    let Kind::List(items) = &arguments.kind else {
        return None;
    };
    let [number] = &items[..] else { return None };
    match number.value()? {
        Value::Integer(n) if target.ends_with(".AttnBackend") => {
            let at = usize::try_from(n).ok()?.checked_sub(1)?;
            Some(Value::String((*ATTENTION.get(at)?).into()))
        }
        Value::String(word) => Some(Value::String(word)),
        _ => None,
    }
}
