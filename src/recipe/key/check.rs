//! Whether a value fits its key.

use super::{Key, Kind, closest};
use crate::recipe::value::Value;

/// Why a value does not fit.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::recipe) struct Wrong {
    /// `E0103` for the type, `E0201` for the range, `E0202` for an unknown word.
    pub(in crate::recipe) code: &'static str,
    /// What is wrong, with both values.
    pub(in crate::recipe) message: String,
    /// Legal values near it, the best first.
    pub(in crate::recipe) nearest: Vec<Value>,
}

/// The value as the rest of the program reads it (an integer where a float is meant becomes a float), or why it does not fit.
pub(in crate::recipe) fn check(key: &Key, value: &Value) -> Result<Value, Wrong> {
    match (key.kind, value) {
        (Kind::Integer { min, max }, &Value::Integer(n)) => {
            if n < min || n > max {
                return Err(out_of_range(key, value, Value::Integer(n.clamp(min, max))));
            }
            Ok(value.clone())
        }
        (Kind::Integer { .. }, &Value::Float(x)) if x.fract() == 0.0 && x.abs() < 1e15 => {
            Err(Wrong {
                nearest: vec![Value::Integer(x as i64)],
                ..wrong_type(key, value)
            })
        }
        (Kind::Float { min, max, open }, Value::Integer(_) | Value::Float(_)) => {
            let x = value.as_f64().unwrap_or(f64::NAN);
            // Not a number is outside of every range.
            let inside = x <= max && if open { x > min } else { x >= min };
            if inside {
                return Ok(Value::Float(x));
            }
            let clamped = if x > max { max } else { min };
            let mut wrong = out_of_range(key, value, Value::Float(clamped));
            if x.is_nan() || (open && clamped == min) || clamped == f64::MAX {
                wrong.nearest.clear();
            }
            Err(wrong)
        }
        (Kind::Boolean, Value::Boolean(_))
        | (Kind::Text | Kind::Path | Kind::WorkingPath, Value::String(_)) => Ok(value.clone()),
        (Kind::Boolean, Value::Integer(n @ (0 | 1))) => Err(Wrong {
            nearest: vec![Value::Boolean(*n == 1)],
            ..wrong_type(key, value)
        }),
        (Kind::Boolean, Value::String(word)) => Err(Wrong {
            nearest: match word.to_lowercase().as_str() {
                "true" | "yes" | "on" => vec![Value::Boolean(true)],
                "false" | "no" | "off" => vec![Value::Boolean(false)],
                _ => Vec::new(),
            },
            ..wrong_type(key, value)
        }),
        (Kind::Choice(words), Value::String(word)) => one_of(key, words, word),
        (Kind::Choices(words), Value::List(items)) => {
            for item in items {
                match item {
                    Value::String(word) => one_of(key, words, word).map_err(|mut wrong| {
                        // The mend is for the whole list, since it is the list that has a place.
                        wrong.nearest = wrong
                            .nearest
                            .into_iter()
                            .map(|right| {
                                let mend =
                                    |i: &Value| if i == item { right.clone() } else { i.clone() };
                                Value::List(items.iter().map(mend).collect())
                            })
                            .collect();
                        wrong
                    })?,
                    _ => return Err(wrong_type(key, value)),
                };
            }
            Ok(value.clone())
        }
        (Kind::Counts(n), Value::List(items)) => {
            let all_counts = items
                .iter()
                .all(|item| matches!(item, Value::Integer(count) if *count >= 0));
            if items.len() == n && all_counts {
                return Ok(value.clone());
            }
            Err(wrong_type(key, value))
        }
        (Kind::Sources, Value::List(items)) => {
            if items.is_empty() {
                return Err(Wrong {
                    code: "E0201",
                    message: format!("`{}` is empty: there is no text to train on", key.path),
                    nearest: vec![Value::List(vec![Value::String("bundled".into())])],
                });
            }
            for item in items {
                source(key, item)?;
            }
            Ok(value.clone())
        }
        (Kind::Sources, Value::String(_) | Value::Table(_)) => Err(Wrong {
            nearest: vec![Value::List(vec![value.clone()])],
            ..wrong_type(key, value)
        }),
        (Kind::Texts, Value::List(items)) if items.iter().all(|item| item.as_str().is_some()) => {
            Ok(value.clone())
        }
        (Kind::Texts, Value::String(_)) => Err(Wrong {
            nearest: vec![Value::List(vec![value.clone()])],
            ..wrong_type(key, value)
        }),
        (Kind::Environment, Value::Table(entries)) => environment(key, entries),
        (Kind::Overrides, Value::Table(entries)) => {
            let mut flat = Vec::new();
            flatten("", entries, &mut flat);
            flat.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(Value::Table(flat))
        }
        (Kind::Recipes, Value::String(_)) => Ok(Value::List(vec![value.clone()])),
        (Kind::Recipes, Value::List(items)) if items.iter().all(|item| item.as_str().is_some()) => {
            Ok(value.clone())
        }
        _ => Err(wrong_type(key, value)),
    }
}

fn wrong_type(key: &Key, value: &Value) -> Wrong {
    Wrong {
        code: "E0103",
        message: format!(
            "`{}` must be {}, found {} ({value})",
            key.path,
            key.kind.expected(),
            value.type_name()
        ),
        nearest: Vec::new(),
    }
}

fn out_of_range(key: &Key, value: &Value, nearest: Value) -> Wrong {
    let range = key.kind.range();
    let must = if range.starts_with(['>', '<']) {
        range
    } else {
        format!("in {range}")
    };
    Wrong {
        code: "E0201",
        message: format!("`{}` = {value}, but it must be {must}", key.path),
        nearest: vec![nearest],
    }
}

fn one_of(key: &Key, words: &[&str], word: &str) -> Result<Value, Wrong> {
    if words.contains(&word) {
        return Ok(Value::String(word.into()));
    }
    Err(Wrong {
        code: "E0202",
        message: format!(
            "`{}` = \"{word}\", but it must be one of {}",
            key.path,
            words.join(", ")
        ),
        nearest: closest(word, words.iter().copied())
            .into_iter()
            .map(|near| Value::String(near.into()))
            .collect(),
    })
}

/// Variables sorted by name; each value must be a text, since that is what a process gets.
fn environment(key: &Key, entries: &[(String, Value)]) -> Result<Value, Wrong> {
    for (name, value) in entries {
        let message = if name.is_empty() || name.contains(['=', '\0']) {
            format!(
                "`{}` has a variable `{name}`, which no process can have",
                key.path
            )
        } else if value.as_str().is_none() {
            format!(
                "`{}.{name}` must be a string, found {} ({value}): write it in quotes",
                key.path,
                value.type_name()
            )
        } else {
            continue;
        };
        return Err(Wrong {
            code: "E0103",
            message,
            nearest: Vec::new(),
        });
    }
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::Table(entries))
}

/// Options of nested tables under dotted paths.
fn flatten(prefix: &str, entries: &[(String, Value)], flat: &mut Vec<(String, Value)>) {
    for (name, value) in entries {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&path, inner, flat),
            _ => flat.push((path, value.clone())),
        }
    }
}

/// A glob, or `{ text = GLOB }`, or `{ jsonl = GLOB, field = NAME }`.
fn source(key: &Key, item: &Value) -> Result<(), Wrong> {
    let Value::Table(entries) = item else {
        return match item {
            Value::String(glob) if !glob.is_empty() => Ok(()),
            _ => Err(wrong_type(key, item)),
        };
    };
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    let all_texts = entries.iter().all(|(_, value)| value.as_str().is_some());
    let known = matches!(names[..], ["text" | "jsonl"])
        || names.len() == 2 && names.contains(&"jsonl") && names.contains(&"field");
    if known && all_texts {
        return Ok(());
    }
    Err(Wrong {
        code: "E0103",
        message: format!(
            "a table in `{}` must be {{ text = GLOB }} or {{ jsonl = GLOB, field = NAME }}, found {item}",
            key.path
        ),
        nearest: Vec::new(),
    })
}
