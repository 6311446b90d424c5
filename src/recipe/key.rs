//! The keys that a recipe may have, declared once.
//!
//! Schema check, defaults, `trestle keys`, suggestions for mistyped keys, and the set of keys that a running trainer takes all
//! come from [`KEYS`].

mod check;
mod megatron;
mod suggest;
mod table;

use std::fmt;

pub(super) use check::{Wrong, check};
pub(super) use suggest::closest;
pub use table::KEYS;

/// A key of recipes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Dotted path: `optimizer.lr`.
    pub path: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What it is when nobody says.
    pub default: Fallback,
    /// What it counts; empty for pure numbers and texts.
    pub unit: &'static str,
    /// Whether a running trainer can take a new value.
    pub live: bool,
    /// What it means, as one line.
    pub doc: &'static str,
}

/// What a key is when nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This TOML value.
    Literal(&'static str),
    /// What other values say, in words.
    Derived(&'static str),
    /// Nothing.
    Absent,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Literal(text) | Self::Derived(text) => text,
            Self::Absent => "",
        })
    }
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number in a closed range.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A number in a closed range, or above `min` if it is `open`.
    Float {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// Whether `min` itself is not allowed.
        open: bool,
    },
    /// `true` or `false`.
    Boolean,
    /// Any text.
    Text,
    /// A path, relative to the file that says it.
    Path,
    /// A path, relative to the folder that the program runs in.
    WorkingPath,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of some words.
    Choices(&'static [&'static str]),
    /// So many whole numbers, none below zero.
    Counts(usize),
    /// A list of texts.
    Texts,
    /// Environment variables with their texts.
    Environment,
    /// Options by dotted path, with any values.
    Overrides,
    /// A list of data sources.
    Sources,
    /// A recipe, or a list of recipes, relative to the file that says it.
    Recipes,
}

/// A count that nobody reaches; ranges that end here or above are shown without an end.
const UNBOUNDED: i64 = 1_000_000_000_000;

impl Kind {
    /// What the value must be, for error messages and the key reference.
    pub fn expected(&self) -> String {
        match self {
            Self::Integer { .. } => "an integer".into(),
            Self::Float { .. } => "a number".into(),
            Self::Boolean => "true or false".into(),
            Self::Text => "a string".into(),
            Self::Path | Self::WorkingPath => "a path".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Choices(words) => format!("a list of {}", words.join(", ")),
            Self::Counts(n) => format!("a list of {n} integers"),
            Self::Sources => "a list of globs, or of tables with `text` or `jsonl`".into(),
            Self::Texts => "a list of strings".into(),
            Self::Environment => "a table of variables with strings".into(),
            Self::Overrides => "a table of options by dotted path".into(),
            Self::Recipes => "a path or a list of paths".into(),
        }
    }

    /// The type as one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Integer { .. } => "integer",
            Self::Float { .. } => "float",
            Self::Boolean => "boolean",
            Self::Text => "string",
            Self::Path | Self::WorkingPath => "path",
            Self::Choice(_) => "choice",
            Self::Choices(_) | Self::Counts(_) | Self::Sources | Self::Texts => "list",
            Self::Environment | Self::Overrides => "table",
            Self::Recipes => "path or list",
        }
    }

    /// The legal values: `>= 1`, `0 .. 1`, the words of a choice; empty if the type says it all.
    pub fn range(&self) -> String {
        match *self {
            Self::Integer { min, max } => match (min, max) {
                (min, max) if max >= UNBOUNDED => format!(">= {min}"),
                (min, max) => format!("{min} .. {max}"),
            },
            Self::Float { min, max, open } => match (open, max < f64::MAX) {
                (true, true) => format!("> {min}, <= {max}"),
                (true, false) => format!("> {min}"),
                (false, true) => format!("{min} .. {max}"),
                (false, false) => format!(">= {min}"),
            },
            Self::Choice(words) | Self::Choices(words) => words.join(", "),
            Self::Counts(n) => format!("{n} integers"),
            _ => String::new(),
        }
    }
}

impl Key {
    /// The part before the last dot: `optimizer`; empty for keys at the top.
    pub fn section(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or("", |(section, _)| section)
    }

    /// The part after the last dot: `lr`.
    pub fn name(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or(self.path, |(_, name)| name)
    }
}

/// The key of that path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether keys lie below `path`.
pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::value::Value;
    use toml::de::DeValue;

    #[test]
    fn every_key_is_declared_once_and_documented() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(
                !key.doc.is_empty() && !key.doc.ends_with('.'),
                "{}",
                key.path
            );
            assert!(KEYS[..i].iter().all(|other| other.path != key.path));
            assert!(!is_section(key.path), "{} is a key and a section", key.path);
        }
    }

    #[test]
    fn every_default_is_a_legal_value() {
        for key in KEYS {
            if let Fallback::Literal(text) = key.default {
                let parsed = DeValue::parse(text).expect("defaults are TOML");
                let value = Value::from_document(parsed.get_ref()).expect("defaults are values");
                assert_eq!(check(key, &value).err(), None, "{}", key.path);
            }
        }
    }
}
