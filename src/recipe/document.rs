//! One TOML file as a list of keys with values and places.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::key::{self, Key, Wrong, closest};
use super::recover::{SyntaxError, recover};
use super::value::Value;
use crate::base::{Diagnostic, Fix, LineColumn, Place, Severity};

/// A value that stands in a document and fits its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: &'static Key,
    pub(super) value: Value,
    pub(super) place: Place,
    /// Of a list, the place of each item.
    pub(super) items: Vec<Place>,
}

/// What a file says and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Document {
    pub(super) entries: Vec<Entry>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Keys that are there, though their value is wrong: nobody shall call them missing.
    pub(super) wrong: BTreeSet<&'static str>,
    /// Whether the parser had to leave something out.
    pub(super) is_broken: bool,
}

/// Reads a document. What the parser can make sense of is read even if other parts are broken.
pub(super) fn read(path: &Path, text: &str) -> Document {
    let (readable, errors) = recover(text);
    let (table, _) = DeTable::parse_recoverable(&readable);
    let mut reader = Reader {
        path,
        text,
        broken_lines: BTreeSet::new(),
        document: Document::default(),
    };
    for error in &errors {
        reader.syntax(error);
    }
    reader.document.is_broken = !errors.is_empty();
    reader.table("", table.get_ref());
    reader.document.diagnostics.sort_by_key(|d| match &d.place {
        Place::File { span, .. } => span.start,
        _ => 0,
    });
    reader.document
}

/// The place of a byte range.
pub(super) fn place(path: &Path, text: &str, span: Range<usize>) -> Place {
    Place::File {
        path: path.into(),
        at: LineColumn::of(text, span.start),
        span,
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Lines with a syntax error, where the parser's guess of what was meant says nothing.
    broken_lines: BTreeSet<usize>,
    document: Document,
}

impl Reader<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        place(self.path, self.text, span)
    }

    fn line(&self, span: &Range<usize>) -> usize {
        LineColumn::of(self.text, span.start).line
    }

    fn syntax(&mut self, error: &SyntaxError) {
        let SyntaxError { message, span } = error.clone();
        let line = self.line(&span);
        // One line that went wrong often leaves several complaints; the first names the cause.
        if !self.broken_lines.insert(line) {
            return;
        }
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        self.document.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code: "E0101",
            message: format!("not TOML: {}", message.trim().replace('\n', ", ")),
            hint: syntax_hint(source, &message).map(Into::into),
            place: self.place(span),
            key: None,
            nearest: Vec::new(),
            fix: None,
        });
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let dotted = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let (name_span, span) = (name.span(), value.span());
            if self.broken_lines.contains(&self.line(&name_span)) {
                continue;
            }
            if let Some(key) = key::find(&dotted) {
                self.value(key, value.get_ref(), span);
            } else if key::is_section(&dotted) {
                if let DeValue::Table(inner) = value.get_ref() {
                    self.table(&dotted, inner);
                } else {
                    self.section_is_value(&dotted, name_span);
                }
            } else {
                let is_table = matches!(value.get_ref(), DeValue::Table(_));
                self.unknown(prefix, name.get_ref(), name_span, is_table);
            }
        }
    }

    fn value(&mut self, key: &'static Key, value: &DeValue<'_>, span: Range<usize>) {
        let checked = match Value::from_document(value) {
            Ok(value) => key::check(key, &value),
            Err(reason) => Err(Wrong {
                code: "E0103",
                message: format!("`{}` must be {}: {reason}", key.path, key.kind.expected()),
                nearest: Vec::new(),
            }),
        };
        let items = match value {
            DeValue::Array(items) => items.iter().map(|item| self.place(item.span())).collect(),
            _ => Vec::new(),
        };
        match checked {
            Ok(value) => self.document.entries.push(Entry {
                key,
                value,
                place: self.place(span),
                items,
            }),
            Err(wrong) => {
                self.document.wrong.insert(key.path);
                let place = self.place(span);
                self.document
                    .diagnostics
                    .push(wrong_value(key, wrong, place));
            }
        }
    }

    fn section_is_value(&mut self, section: &str, span: Range<usize>) {
        self.document.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            code: "E0109",
            message: format!("`{section}` is a section and cannot have a value of its own"),
            place: self.place(span),
            key: Some(section.into()),
            hint: Some(format!(
                "write [{section}] on a line of its own, its keys below"
            )),
            nearest: Vec::new(),
            fix: None,
        });
    }

    fn unknown(&mut self, prefix: &str, name: &str, span: Range<usize>, is_table: bool) {
        let place = self.place(span.clone());
        let mut diagnostic = unknown_key(prefix, name, place);
        if is_table && prefix.is_empty() {
            diagnostic.message = format!("unknown section `{name}`");
        }
        // A quoted or dotted name is replaced as a whole, for that is its span.
        if let [best, ..] = &diagnostic.nearest[..] {
            let right = match best.strip_prefix(prefix).and_then(|r| r.strip_prefix('.')) {
                Some(inside) if !prefix.is_empty() => Some(inside),
                _ if prefix.is_empty() && !best.contains('.') => Some(best.as_str()),
                _ => None,
            };
            diagnostic.fix = right.map(|right| Fix {
                title: format!("replace with {right}"),
                path: self.path.into(),
                span,
                replacement: right.into(),
            });
        }
        self.document.diagnostics.push(diagnostic);
    }
}

/// The diagnostic of a value that does not fit its key, with a fix where the place is in a file.
pub(super) fn wrong_value(key: &Key, wrong: Wrong, place: Place) -> Diagnostic {
    let nearest: Vec<String> = wrong.nearest.iter().map(ToString::to_string).collect();
    Diagnostic {
        severity: Severity::Error,
        code: wrong.code,
        message: wrong.message,
        fix: replacement(&place, nearest.first()),
        place,
        key: Some(key.path.into()),
        hint: None,
        nearest,
    }
}

/// A fix that puts `value` in the place of a file's value.
pub(super) fn replacement(place: &Place, value: Option<&String>) -> Option<Fix> {
    let (Place::File { path, span, .. }, Some(value)) = (place, value) else {
        return None;
    };
    (!span.is_empty()).then(|| Fix {
        title: format!("replace with {value}"),
        path: path.clone(),
        span: span.clone(),
        replacement: value.clone(),
    })
}

/// The diagnostic of a key that is not in the table. `nearest` has dotted paths.
pub(super) fn unknown_key(prefix: &str, name: &str, place: Place) -> Diagnostic {
    let is_top = prefix.is_empty();
    let dotted = if is_top {
        name.to_string()
    } else {
        format!("{prefix}.{name}")
    };
    let inside = key::KEYS
        .iter()
        .filter(|key| key.section() == prefix)
        .map(Key::name);
    let mut nearest: Vec<String> = closest(name, inside)
        .into_iter()
        .map(|near| {
            if is_top {
                near.into()
            } else {
                format!("{prefix}.{near}")
            }
        })
        .collect();
    if nearest.is_empty() && is_top {
        let mut sections: Vec<&str> = key::KEYS.iter().map(Key::section).collect();
        sections.dedup();
        nearest = closest(name, sections.into_iter().filter(|s| !s.is_empty()))
            .into_iter()
            .map(Into::into)
            .collect();
    }
    // The right name in the wrong section.
    let mut hint = None;
    if nearest.is_empty() {
        let last = name.rsplit('.').next().unwrap_or(name);
        nearest = key::KEYS
            .iter()
            .filter(|key| key.name() == last)
            .map(|key| key.path.to_string())
            .collect();
        hint = nearest
            .first()
            .map(|path| format!("the key is `{path}`, in another section"));
    }
    if let ([best, ..], None) = (&nearest[..], &hint) {
        hint = Some(format!("did you mean `{best}`?"));
    }
    if hint.is_none() {
        hint = Some(if is_top {
            "`trestle keys` lists every key".into()
        } else {
            format!("`trestle keys {prefix}` lists the keys of this section")
        });
    }
    Diagnostic {
        severity: Severity::Error,
        code: "E0102",
        message: format!("unknown key `{dotted}`"),
        place,
        key: Some(dotted),
        hint,
        nearest,
        fix: None,
    }
}

/// What was probably meant by a line that does not parse.
fn syntax_hint(line: &str, message: &str) -> Option<&'static str> {
    let line = line.trim();
    if message.contains("duplicate key") {
        return Some("a key may stand once in a file; remove one of them");
    }
    if line.starts_with('[') && !line.contains(']') {
        return Some("a section ends in ]");
    }
    if let Some((name, value)) = line.split_once('=') {
        let value = value.trim();
        if value.is_empty() {
            return Some("a key needs a value after =");
        }
        if value.matches('"').count() % 2 == 1 {
            return Some("a string ends in \" on the same line");
        }
        if matches!(value, "True" | "False") {
            return Some("TOML writes true and false in lower case");
        }
        if name.trim().contains(' ') {
            return Some("a key is one word, or words joined by dots");
        }
        if value.starts_with(|c: char| c.is_alphabetic()) {
            return Some("a string needs quotes: \"...\"");
        }
        if value.contains(',') && !value.starts_with(['[', '{']) {
            return Some("several values stand in brackets: [1, 2]; digits are grouped by _");
        }
        return None;
    }
    (!line.is_empty() && !line.starts_with('#'))
        .then_some("a line is `key = value`, `[section]` or `# comment`; `key: value` is not TOML")
}
