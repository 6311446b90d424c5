//! A value of a recipe, without its place.

use std::fmt;

use serde::Serialize;
use toml::de::DeValue;

/// A TOML value as recipes use them; [`Display`](fmt::Display) prints TOML that reads back as the same value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// A number with a point or an exponent; may be infinite or not a number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// Text.
    String(String),
    /// Several values.
    List(Vec<Self>),
    /// Named values, as written between braces.
    Table(Vec<(String, Self)>),
}

impl Value {
    /// What people call the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// A count as a value; what does not fit into TOML's 64 bits is its largest number.
    pub(super) fn count(n: impl TryInto<i64>) -> Self {
        Self::Integer(n.try_into().unwrap_or(i64::MAX))
    }

    /// The value of a parsed document. Fails with words on what recipes do not have: dates, integers beyond 64 bits.
    pub(super) fn from_document(value: &DeValue<'_>) -> Result<Self, String> {
        Ok(match value {
            DeValue::String(s) => Self::String(s.to_string()),
            DeValue::Integer(n) => Self::Integer(
                i64::from_str_radix(n.as_str(), n.radix())
                    .map_err(|_overflow| format!("{n} does not fit into 64 bits"))?,
            ),
            DeValue::Float(x) => Self::Float(x.as_str().parse().map_err(
                |_unreadable: std::num::ParseFloatError| format!("{x} is not a number"),
            )?),
            DeValue::Boolean(b) => Self::Boolean(*b),
            DeValue::Datetime(_) => return Err("recipes have no dates".into()),
            DeValue::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| Self::from_document(item.get_ref()))
                    .collect::<Result<_, _>>()?,
            ),
            DeValue::Table(table) => Self::Table(
                table
                    .iter()
                    .map(|(key, item)| {
                        let item = Self::from_document(item.get_ref())?;
                        Ok((key.get_ref().to_string(), item))
                    })
                    .collect::<Result<_, String>>()?,
            ),
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Float(x) if x.is_nan() => f.write_str("nan"),
            // Rust's shortest form that reads back as the same float is TOML too.
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Boolean(b) => write!(f, "{b}"),
            Self::String(s) => quoted(s).fmt(f),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Table(items) => {
                f.write_str("{ ")?;
                for (i, (key, item)) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    let bare = !key.is_empty()
                        && key
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                    if bare {
                        f.write_str(key)?;
                    } else {
                        quoted_key(key).fmt(f)?;
                    }
                    write!(f, " = {item}")?;
                }
                f.write_str(" }")
            }
        }
    }
}

/// A string in TOML's quotes.
fn quoted(text: &str) -> toml::Value {
    toml::Value::String(text.into())
}

/// A key in TOML's quotes, which have no line breaks in them; JSON escapes as TOML does, but for the last character of ASCII.
fn quoted_key(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_toml_that_reads_back() {
        let values = [
            Value::Integer(-3),
            Value::Float(3e-4),
            Value::Float(1.0),
            Value::Float(1e300),
            Value::Float(f64::INFINITY),
            Value::Boolean(true),
            Value::String("a \"b\"\n\\c\u{1}".into()),
            Value::List(vec![Value::Integer(1), Value::String(String::new())]),
            Value::Table(vec![("a b".into(), Value::Integer(1))]),
            Value::Table(vec![("\n\"\\\u{7f}".into(), Value::Integer(1))]),
        ];
        for value in values {
            let text = value.to_string();
            let read = DeValue::parse(&text).expect("printed TOML parses");
            assert_eq!(Value::from_document(read.get_ref()), Ok(value), "{text}");
        }
    }
}
