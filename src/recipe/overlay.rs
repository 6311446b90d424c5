//! Lays documents over each other: what `extends` names, the file itself, the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use toml::de::DeValue;

use super::document::{self, Entry};
use super::key::{self, Fallback};
use super::value::Value;
use crate::base::{Diagnostic, Place, Severity};

/// Reads a file for us; this room touches none.
pub type Loader<'a> = dyn Fn(&Path) -> io::Result<String> + 'a;

/// A value with its place, and what it covers.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The value; paths are joined with the folder of the file that says them.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
    /// For a default that other values decide: which key does, or in which words.
    pub derived_from: Option<String>,
    /// What an extended recipe says about the key, and where.
    pub base: Option<(Value, Place)>,
}

/// Everything that was said, before defaults.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pub(super) values: BTreeMap<&'static str, Located>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) files: Vec<PathBuf>,
    /// Recipes that the file extends directly.
    pub(super) extends: Vec<PathBuf>,
    pub(super) wrong: BTreeSet<&'static str>,
    pub(super) is_broken: bool,
}

/// Reads `path` and all it extends, then applies `sets`.
pub(super) fn collect(path: &Path, sets: &[String], loader: &Loader<'_>) -> Overlay {
    let mut stack = Stack {
        loader,
        open: Vec::new(),
        seen: BTreeSet::new(),
        overlay: Overlay::default(),
    };
    let path = normalize(path);
    match stack.file(&path) {
        Ok(()) => {}
        Err(error) => stack.unreadable(&path, &error, document::place(&path, "", 0..0)),
    }
    let mut overlay = stack.overlay;
    for argument in sets {
        set(argument, &mut overlay);
    }
    overlay
}

struct Stack<'a> {
    loader: &'a Loader<'a>,
    /// Files that are being read, outermost first.
    open: Vec<PathBuf>,
    /// Files that were read.
    seen: BTreeSet<PathBuf>,
    overlay: Overlay,
}

impl Stack<'_> {
    fn file(&mut self, path: &Path) -> io::Result<()> {
        if !self.overlay.files.iter().any(|known| known == path) {
            self.overlay.files.push(path.into());
        }
        // A base that two of our bases share lies below both of them, once.
        if self.seen.contains(path) {
            return Ok(());
        }
        let text = (self.loader)(path)?;
        self.seen.insert(path.into());
        let document = document::read(path, &text);
        self.overlay.is_broken |= document.is_broken;
        self.overlay.diagnostics.extend(document.diagnostics);
        self.open.push(path.into());
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let (extends, entries): (Vec<_>, Vec<_>) = document
            .entries
            .iter()
            .partition(|entry| entry.key.path == "extends");
        for entry in extends {
            self.extends(entry, &folder);
        }
        for entry in entries {
            self.cover(entry, &folder);
        }
        self.overlay.wrong.extend(document.wrong);
        self.open.pop();
        Ok(())
    }

    fn extends(&mut self, entry: &Entry, folder: &Path) {
        let Value::List(bases) = &entry.value else {
            return;
        };
        for (at, base) in bases.iter().filter_map(Value::as_str).enumerate() {
            let place = entry.items.get(at).unwrap_or(&entry.place);
            let path = normalize(&folder.join(base));
            if self.open.len() == 1 {
                self.overlay.extends.push(path.clone());
            }
            if let Some(start) = self.open.iter().position(|open| *open == path) {
                let mut round: Vec<String> = self.open[start..]
                    .iter()
                    .map(|p| p.display().to_string())
                    .collect();
                round.push(path.display().to_string());
                self.overlay.diagnostics.push(Diagnostic {
                    severity: Severity::Error,
                    code: "E0105",
                    message: format!("`extends` goes round in a circle: {}", round.join(" -> ")),
                    place: place.clone(),
                    key: Some("extends".into()),
                    hint: Some("move what they share into a recipe of its own".into()),
                    nearest: Vec::new(),
                    fix: None,
                });
            } else if let Err(error) = self.file(&path) {
                self.unreadable(&path, &error, place.clone());
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error, place: Place) {
        let is_base = !self.open.is_empty();
        let what = if is_base {
            "the extended recipe"
        } else {
            "the recipe"
        };
        let (reason, hint) = match error.kind() {
            io::ErrorKind::NotFound => (
                "does not exist".to_string(),
                is_base.then_some("paths are relative to the file that extends"),
            ),
            io::ErrorKind::InvalidData => (
                "is not UTF-8 text".to_string(),
                Some("save it as UTF-8 in your editor"),
            ),
            io::ErrorKind::IsADirectory => ("is a folder".to_string(), None),
            _ => (format!("cannot be read: {error}"), None),
        };
        self.overlay.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code: "E0106",
            message: format!("{what} {} {reason}", path.display()),
            place,
            key: is_base.then(|| "extends".into()),
            hint: hint.map(Into::into),
            nearest: Vec::new(),
            fix: None,
        });
        self.overlay.is_broken = true;
    }

    fn cover(&mut self, entry: &Entry, folder: &Path) {
        let is_main = self.open.len() == 1;
        let covered = self.overlay.values.remove(entry.key.path);
        let below = covered.as_ref().map(|covered| &covered.value);
        let value = joined(entry.key, anchor(entry.key, &entry.value, folder), below);
        self.overlay.values.insert(
            entry.key.path,
            Located {
                value,
                place: entry.place.clone(),
                derived_from: None,
                base: covered
                    .filter(|_| is_main)
                    .map(|covered| (covered.value, covered.place)),
            },
        );
    }
}

/// Applies one `--set`.
fn set(argument: &str, overlay: &mut Overlay) {
    let place = Place::CommandLine {
        argument: argument.into(),
    };
    let Some((name, text)) = argument.split_once('=') else {
        overlay.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code: "E0108",
            message: format!("`--set {argument}` has no ="),
            place,
            key: None,
            hint: Some("write --set key=value, such as --set optimizer.lr=1e-3".into()),
            nearest: Vec::new(),
            fix: None,
        });
        return;
    };
    let name = name.trim();
    let Some(key) = key::find(name).filter(|key| key.path != "extends") else {
        let (prefix, last) = name.rsplit_once('.').unwrap_or(("", name));
        overlay
            .diagnostics
            .push(document::unknown_key(prefix, last, place));
        return;
    };
    match parse(key, text) {
        Ok(value) => {
            let covered = overlay.values.remove(key.path);
            let value = joined(key, value, covered.as_ref().map(|covered| &covered.value));
            overlay.values.insert(
                key.path,
                Located {
                    value,
                    place,
                    derived_from: None,
                    base: covered.map(|covered| (covered.value, covered.place)),
                },
            );
            overlay.wrong.remove(key.path);
        }
        Err(wrong) => {
            overlay.wrong.insert(key.path);
            overlay
                .diagnostics
                .push(document::wrong_value(key, wrong, place));
        }
    }
}

/// A table of variables or options with those of the table below that it does not name; other values as they are.
fn joined(key: &key::Key, value: Value, below: Option<&Value>) -> Value {
    match (key.kind, value, below) {
        (
            key::Kind::Environment | key::Kind::Overrides,
            Value::Table(mut entries),
            Some(Value::Table(below)),
        ) => {
            for (name, value) in below {
                if entries.iter().all(|(known, _)| known != name) {
                    entries.push((name.clone(), value.clone()));
                }
            }
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Table(entries)
        }
        (_, value, _) => value,
    }
}

/// Reads the value of a key as people type it: TOML, or a bare word where a string is meant.
pub(super) fn parse(key: &key::Key, text: &str) -> Result<Value, key::Wrong> {
    let text = text.trim();
    let word = Value::String(text.into());
    let parsed = DeValue::parse(text)
        .ok()
        .and_then(|value| Value::from_document(value.get_ref()).ok())
        .unwrap_or_else(|| word.clone());
    match key::check(key, &parsed) {
        // `--set model.name=1` means the text.
        Err(_) if key::check(key, &word).is_ok() => Ok(word),
        checked => checked,
    }
}

/// Joins the paths in a value with the folder of the file that says them.
fn anchor(key: &key::Key, value: &Value, folder: &Path) -> Value {
    let join = |text: &str| {
        let joined = normalize(&folder.join(text));
        Value::String(joined.to_string_lossy().into_owned())
    };
    match (key.kind, value) {
        (key::Kind::Path, Value::String(path))
            if !(key.path == "model.init" && path == "random") =>
        {
            join(path)
        }
        (key::Kind::Sources, Value::List(items)) => Value::List(
            items
                .iter()
                .map(|item| match item {
                    Value::String(glob) if glob != "bundled" => join(glob),
                    Value::Table(entries) => Value::Table(
                        entries
                            .iter()
                            .map(|(name, value)| match value {
                                Value::String(glob) if name != "field" => {
                                    (name.clone(), join(glob))
                                }
                                _ => (name.clone(), value.clone()),
                            })
                            .collect(),
                    ),
                    _ => item.clone(),
                })
                .collect(),
        ),
        _ => value.clone(),
    }
}

/// The path without `.` and `..` where the text alone decides.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// The value of a literal default.
pub(super) fn default_of(key: &key::Key) -> Option<Value> {
    let Fallback::Literal(text) = key.default else {
        return None;
    };
    parse(key, text).ok()
}
