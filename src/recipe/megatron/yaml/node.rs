//! A YAML document as a tree with places.
//!
//! What a text may cost is bounded: its bytes, how deep it nests, and how many nodes it has once every alias is replaced by what it stands for.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{At, Source};
use crate::base::{Diagnostic, LineColumn, Severity};
use crate::recipe::value::Value;

/// Longest text; a dump of Bridge has some 40 KiB.
const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting; a dump of Bridge has 6 levels.
const MAX_DEPTH: usize = 64;
/// Most nodes, those that aliases repeat counted again.
const MAX_NODES: usize = 200_000;

/// A node with its place, which for an entry of a mapping is its name's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A value, or null.
    Scalar(Option<Value>),
    /// Items in their order.
    List(Vec<Node>),
    /// Entries in their order, each name once.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value, if there is no null in it.
    pub(super) fn value(&self) -> Option<Value> {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items
                .iter()
                .map(Self::value)
                .collect::<Option<_>>()
                .map(Value::List),
            Kind::Map(entries) => entries
                .iter()
                .map(|(name, node)| Some((name.clone(), node.value()?)))
                .collect::<Option<_>>()
                .map(Value::Table),
        }
    }

    /// The entry of a mapping.
    pub(super) fn entry(&self, name: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// Levels and nodes of the tree.
    fn size(&self) -> (usize, usize) {
        let below = |sizes: &mut dyn Iterator<Item = (usize, usize)>| {
            sizes.fold((0, 0), |(depth, count), (d, n)| (depth.max(d), count + n))
        };
        let (depth, count) = match &self.kind {
            Kind::Scalar(_) => (0, 0),
            Kind::List(items) => below(&mut items.iter().map(Self::size)),
            Kind::Map(entries) => below(&mut entries.iter().map(|(_, node)| node.size())),
        };
        (depth + 1, count + 1)
    }
}

/// What is being read: items of a list, or entries of a mapping with the name that waits for its value.
enum Open {
    List(Vec<Node>),
    Map {
        entries: Vec<(String, Node)>,
        names: BTreeSet<String>,
        waiting: Option<(String, At)>,
    },
}

/// The one document of a text. Warns of tags that are not followed.
pub(super) fn parse(
    source: Source<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Node, Box<Diagnostic>> {
    let text = source.text;
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes, but a configuration has at most {MAX_BYTES}",
            text.len()
        );
        return Err(source.refusal("E0121", At::TOP, message));
    }
    let mut reader = Reader {
        source,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
        root: None,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| broken(source, &error))?;
        reader.take(event, place(span), warnings)?;
    }
    reader
        .root
        .ok_or_else(|| source.refusal("E0120", At::TOP, "the file has no document in it"))
}

fn place(span: Span) -> At {
    At {
        start: span.start.index(),
        end: span.end.index(),
        line_column: LineColumn {
            line: span.start.line().max(1),
            column: span.start.col() + 1,
        },
    }
}

fn broken(source: Source<'_>, error: &ScanError) -> Box<Diagnostic> {
    let marker = error.marker();
    let at = At {
        start: marker.index(),
        end: marker.index() + 1,
        line_column: LineColumn {
            line: marker.line().max(1),
            column: marker.col() + 1,
        },
    };
    let line = source.text.lines().nth(at.line_column.line - 1);
    let message = format!("this is no YAML: {}", error.info());
    let mut diagnostic = source.refusal("E0120", at, message);
    diagnostic.hint = Some(
        if line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t')) {
            "YAML is indented with blanks, never with tabs"
        } else {
            "give the file that --dry-run wrote, without other lines of the log; quote texts that have `: ` or ` #` in them"
        }
        .into(),
    );
    diagnostic
}

struct Reader<'a> {
    source: Source<'a>,
    open: Vec<(Open, usize, At)>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Reader<'_> {
    fn error(&self, at: At, message: impl Into<String>) -> Box<Diagnostic> {
        self.source.refusal("E0120", at, message)
    }

    fn take(
        &mut self,
        event: Event<'_>,
        at: At,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<(), Box<Diagnostic>> {
        let (kind, anchor, at) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), at, warnings);
                if let Some((Open::Map { names, waiting, .. }, _, _)) = self.open.last_mut()
                    && waiting.is_none()
                {
                    let name = value.map_or_else(
                        || text.clone().into_owned(),
                        |value| match value {
                            Value::String(name) => name,
                            value => value.to_string(),
                        },
                    );
                    if !names.insert(name.clone()) {
                        return Err(self.error(at, format!("`{name}` stands twice in a mapping")));
                    }
                    *waiting = Some((name, at));
                    return Ok(());
                }
                (Kind::Scalar(value), anchor, at)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error(at, "an alias stands for what it is a part of"));
                };
                let (depth, count) = node.size();
                self.bound(depth, count, at)?;
                (node.kind, 0, at)
            }
            Event::SequenceStart(anchor, tag) => {
                self.untagged(tag.as_deref(), at, warnings);
                self.bound(1, 0, at)?;
                self.open.push((Open::List(Vec::new()), anchor, at));
                return Ok(());
            }
            Event::MappingStart(anchor, tag) => {
                self.untagged(tag.as_deref(), at, warnings);
                self.bound(1, 0, at)?;
                let map = Open::Map {
                    entries: Vec::new(),
                    names: BTreeSet::new(),
                    waiting: None,
                };
                self.open.push((map, anchor, at));
                return Ok(());
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((Open::List(items), anchor, at)) => (Kind::List(items), anchor, at),
                Some((Open::Map { entries, names, .. }, anchor, at)) => {
                    (Kind::Map(merged(entries, names)), anchor, at)
                }
                None => return Ok(()),
            },
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(self.error(
                    at,
                    "a second document starts here: a configuration is one document",
                ));
            }
            _ => return Ok(()),
        };
        self.bound(0, 1, at)?;
        let mut node = Node { at, kind };
        if anchor > 0 {
            // A copy, which costs as much as an alias does.
            let (_, count) = node.size();
            self.bound(0, count, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some((Open::List(items), _, _)) => items.push(node),
            Some((
                Open::Map {
                    entries, waiting, ..
                },
                _,
                _,
            )) => match waiting.take() {
                Some((name, at)) => {
                    node.at = at;
                    entries.push((name, node));
                }
                None => return Err(self.error(at, "a mapping's key must be a word")),
            },
            None => self.root = Some(node),
        }
        Ok(())
    }

    /// Counts nodes and checks the depth that `deeper` levels reach below those that are open.
    fn bound(&mut self, deeper: usize, count: usize, at: At) -> Result<(), Box<Diagnostic>> {
        self.nodes += count;
        let message = if self.open.len() + deeper > MAX_DEPTH {
            format!("the file nests deeper than the {MAX_DEPTH} levels that are read")
        } else if self.nodes > MAX_NODES {
            format!(
                "the file has more than the {MAX_NODES} values that are read, aliases counted as what they stand for"
            )
        } else {
            return Ok(());
        };
        Err(self.source.refusal("E0121", at, message))
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        at: At,
        warnings: &mut Vec<Diagnostic>,
    ) -> Option<Value> {
        let core = tag.filter(|tag| tag.is_yaml_core_schema());
        match core.map(|tag| tag.suffix.as_str()) {
            Some("str") => return Some(Value::String(text.into())),
            Some("int" | "float" | "bool" | "null") => return resolved(text),
            Some(_) => self.untagged(tag, at, warnings),
            None => self.untagged(tag, at, warnings),
        }
        if style == ScalarStyle::Plain {
            resolved(text)
        } else {
            Some(Value::String(text.into()))
        }
    }

    /// Warns of a tag that asks for a type which recipes do not have.
    fn untagged(&self, tag: Option<&Tag>, at: At, warnings: &mut Vec<Diagnostic>) {
        const MOST: usize = 20;
        let Some(tag) = tag else { return };
        let is_plain = tag.is_yaml_core_schema() && matches!(&*tag.suffix, "map" | "seq");
        let known = warnings.iter().filter(|w| w.code == "W0440").count();
        if is_plain || known >= MOST {
            return;
        }
        let message = format!(
            "the tag `{}{}` is not followed: the value is taken as it stands",
            tag.handle, tag.suffix
        );
        warnings.push(
            self.source
                .diagnostic(Severity::Warning, "W0440", at, message),
        );
    }
}

/// A mapping with what its `<<` brings in; what it says itself wins.
fn merged(entries: Vec<(String, Node)>, mut names: BTreeSet<String>) -> Vec<(String, Node)> {
    if !names.contains("<<") {
        return entries;
    }
    let (merge, mut entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(name, _)| name == "<<");
    let mut bring = |kind: Kind| {
        if let Kind::Map(brought) = kind {
            for (name, node) in brought {
                if names.insert(name.clone()) {
                    entries.push((name, node));
                }
            }
        }
    };
    for (_, node) in merge {
        match node.kind {
            Kind::List(items) => items.into_iter().for_each(|item| bring(item.kind)),
            kind => bring(kind),
        }
    }
    entries
}

/// What a plain scalar is: null, true, a number, or text.
fn resolved(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return None,
        "true" | "True" | "TRUE" => return Some(Value::Boolean(true)),
        "false" | "False" | "FALSE" => return Some(Value::Boolean(false)),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Some(Value::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => return Some(Value::Float(f64::NEG_INFINITY)),
        ".nan" | ".NaN" | ".NAN" => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    if let Ok(n) = text.parse() {
        return Some(Value::Integer(n));
    }
    let is_number = text.bytes().any(|b| b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse() {
        Ok(x) if is_number => Some(Value::Float(x)),
        _ => Some(Value::String(text.into())),
    }
}
