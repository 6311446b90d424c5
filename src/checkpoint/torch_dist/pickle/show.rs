//! A value as text, as Python would print it, cut off where it gets long.

use std::fmt::{self, Write};

use super::{Compound, Pickle, Value};

/// How deep values are shown.
const DEPTH: usize = 8;

/// Prints a value of a pickle on one line, of at most `limit` bytes and eight levels; `...` stands for the rest.
#[derive(Debug)]
pub struct Shown<'p, 'a> {
    /// The pickle.
    pub pickle: &'p Pickle<'a>,
    /// The value.
    pub value: Value<'a>,
    /// Bytes of text at most, about.
    pub limit: usize,
}

impl fmt::Display for Shown<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.value(self.value, DEPTH, &mut out)?;
        f.write_str(&out)
    }
}

impl<'a> Shown<'_, 'a> {
    fn value(&self, value: Value<'a>, depth: usize, out: &mut String) -> fmt::Result {
        if depth == 0 || out.len() >= self.limit {
            return out.write_str("...");
        }
        match value {
            Value::None => out.write_str("None"),
            Value::Bool(true) => out.write_str("True"),
            Value::Bool(false) => out.write_str("False"),
            Value::Int(n) => write!(out, "{n}"),
            Value::Float(x) => write!(out, "{x:?}"),
            Value::Str(text) => {
                let room = self.limit - out.len();
                match text.char_indices().nth(room) {
                    Some((end, _)) => write!(out, "{:?}...", &text[..end]),
                    None => write!(out, "{text:?}"),
                }
            }
            Value::Bytes(bytes) => write!(out, "<{} bytes>", bytes.len()),
            Value::Global(known) => write!(out, "{known}"),
            Value::Node(_) => match self.pickle.compound(value) {
                None => out.write_str("?"),
                Some(Compound::Tuple(items)) => self.items("(", items, ")", depth, out),
                Some(Compound::List(items)) => self.items("[", items, "]", depth, out),
                Some(Compound::Set(items)) => self.items("{", items, "}", depth, out),
                Some(Compound::Dict(entries)) => self.entries("{", entries, "}", depth, out),
                Some(Compound::Long(bytes)) => write!(out, "<int of {} bytes>", bytes.len()),
                Some(Compound::Persistent(id)) => {
                    out.write_str("<")?;
                    self.value(*id, depth - 1, out)?;
                    out.write_str(">")
                }
                Some(Compound::Object { class, args, state }) => {
                    out.write_str(class.name)?;
                    match state.and_then(|state| self.pickle.dict(state)) {
                        Some(entries) => self.entries("(", entries, ")", depth, out),
                        None => self.value(state.unwrap_or(*args), depth - 1, out),
                    }
                }
            },
        }
    }

    fn items(
        &self,
        open: &str,
        items: &[Value<'a>],
        close: &str,
        depth: usize,
        out: &mut String,
    ) -> fmt::Result {
        out.write_str(open)?;
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.write_str(", ")?;
            }
            if out.len() >= self.limit {
                out.write_str("...")?;
                break;
            }
            self.value(*item, depth - 1, out)?;
        }
        out.write_str(close)
    }

    fn entries(
        &self,
        open: &str,
        entries: &[(Value<'a>, Value<'a>)],
        close: &str,
        depth: usize,
        out: &mut String,
    ) -> fmt::Result {
        out.write_str(open)?;
        for (i, (key, value)) in entries.iter().enumerate() {
            if i > 0 {
                out.write_str(", ")?;
            }
            if out.len() >= self.limit {
                out.write_str("...")?;
                break;
            }
            self.value(*key, depth - 1, out)?;
            out.write_str(": ")?;
            self.value(*value, depth - 1, out)?;
        }
        out.write_str(close)
    }
}
