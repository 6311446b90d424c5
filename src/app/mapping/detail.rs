//! What the screen says about the row under the cursor.

use super::group::group;
use super::role::{does, extents, role, starts};
use super::{Content, Item, Model, Report, Row, Side, Standing, rule};
use crate::app::preview::grouped;
use crate::base::{Bytes, DType, Shape};
use crate::mapping::{Arithmetic, Entry, Place};
use crate::spec::LayerKind;

/// The text about a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detail {
    /// Its full name.
    pub title: String,
    /// Facts with their name.
    pub facts: Vec<Fact>,
    /// In which order the Megatron tensor has its rows.
    pub order: Vec<rule::Group>,
    /// What the bars are of; empty if there are none.
    pub bars_title: String,
    /// Its parts by size.
    pub bars: Vec<Bar>,
}

/// A fact.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Its name; empty where it goes on from the one above.
    pub name: &'static str,
    /// What it says.
    pub text: String,
    /// How it stands.
    pub tone: FactTone,
}

/// What a fact means for the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactTone {
    /// It informs.
    Plain,
    /// Something is as it should be.
    Good,
    /// Something is wrong.
    Bad,
}

/// A part with its size.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it is.
    pub label: String,
    /// Share of the whole, 0 to 1.
    pub share: f64,
    /// Its size for people.
    pub text: String,
}

/// The fact that says whether the way there and back gives the same.
const BACK: &str = "there, back";

impl Detail {
    /// Says what a verification found of a tensor, in place of what its rule promises.
    pub(super) fn verified(&mut self, model: &Model, item: Item, report: &Report) {
        let Some(files) = &model.files else {
            return;
        };
        let of = model.stored_of(item);
        let names = of.iter().map(|&stored| files.stored[stored].name.as_str());
        // Where names repeat from rank to rank, the rank's file is before the name.
        let is_one = |said: &str| {
            let mut names = names.clone();
            names.any(|name| said == name || said.ends_with(&format!(": {name}")))
        };
        let found = |list: &[(String, String)]| -> Vec<String> {
            let list = list.iter().filter(|(said, _)| is_one(said));
            list.map(|(said, why)| format!("{said}: {why}")).collect()
        };
        let (different, rounded) = (found(&report.different), found(&report.rounded));
        let mut facts = Facts::default();
        for why in &different {
            facts.say(BACK, format!("✗ {why}"), FactTone::Bad);
        }
        for why in &rounded {
            facts.say(BACK, format!("within its rounding: {why}"), FactTone::Plain);
        }
        if different.is_empty() && rounded.is_empty() && !of.is_empty() {
            facts.say(BACK, "✓ verified: the same bits", FactTone::Good);
        }
        if let Some(at) = self.facts.iter().position(|fact| fact.name == BACK) {
            self.facts.splice(at..=at, facts.0);
        }
    }
}

/// The kind of a layer for people.
pub fn kind_name(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::LinearAttention => "gated delta net",
        LayerKind::FullAttention => "full attention",
    }
}

/// What there is to say about a row.
pub fn detail(model: &Model, side: Side, row: &Row) -> Detail {
    match row.content {
        Content::Tensor(name) => tensor(model, side, name),
        Content::Group { node, .. } => group(model, side, row, node),
        Content::Same {
            node,
            count,
            parameters,
        } => {
            let to = model.tree(side).path(node);
            let mut facts = Facts::default();
            facts.add("which", row.label.clone());
            facts.add("parameters", grouped(parameters));
            facts.add("each", grouped(parameters / (count.max(1) as u64)));
            facts.add("bytes", bytes(parameters, model.dtype()));
            Detail {
                title: format!("{count} same as {to}"),
                facts: facts.0,
                ..Detail::default()
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Facts(pub(super) Vec<Fact>);

impl Facts {
    pub(super) fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.say(name, text, FactTone::Plain);
    }

    pub(super) fn say(&mut self, name: &'static str, text: impl Into<String>, tone: FactTone) {
        let text = text.into();
        self.0.push(Fact { name, text, tone });
    }
}

pub(super) fn bytes(parameters: u64, dtype: DType) -> String {
    format!("{} in {dtype}", Bytes(parameters * dtype.size()))
}

/// Name, extents, type and bytes in one line.
fn sized(name: &str, shape: &Shape, dtype: DType) -> String {
    let size = Bytes(shape.elements() * dtype.size());
    format!("{name}  {shape} {dtype} {size}")
}

fn tensor(model: &Model, side: Side, name: u32) -> Detail {
    let title = model.tree(side).names.get(name as usize).to_owned();
    let mut facts = Facts::default();
    let item = model.item(side, name);
    let entries = match item {
        Item::Entry(entry) => vec![entry],
        Item::Source(source) => model.entries_of(source),
        Item::Extra(_) => Vec::new(),
    };
    let mut order = Vec::new();
    match (item, entries.as_slice()) {
        (Item::Extra(_), _) | (_, []) => stray(model, item, &mut facts),
        (Item::Source(source), [first, .., last]) => {
            let own = &model.huggingface.tensors[source];
            facts.add("hf", sized(&own.name, &own.shape, model.dtype_of(item)));
            let entry = &model.table.entries()[*first];
            facts.add(
                "becomes",
                format!("{} tensors, one an expert", entries.len()),
            );
            for &entry in [first, last] {
                let entry = &model.table.entries()[entry];
                facts.add("", sized(&entry.name, &entry.shape, model.dtype()));
            }
            how(entry, &mut facts);
        }
        (_, &[first, ..]) => {
            let entry = &model.table.entries()[first];
            sources(model, first, &mut facts);
            megatron(model, first, &mut facts);
            how(entry, &mut facts);
            order = rule::order(entry);
        }
    }
    check(model, item, &mut facts);
    let source = match item {
        Item::Source(source) => Some(source),
        Item::Entry(entry) if model.sources_of(entry).len() == 1 => {
            Some(model.sources_of(entry)[0] as usize)
        }
        _ => None,
    };
    if let Some(source) = source {
        about(model, source, &mut facts);
    }
    Detail {
        title,
        facts: facts.0,
        order,
        ..Detail::default()
    }
}

/// A tensor that the model has no place for.
fn stray(model: &Model, item: Item, facts: &mut Facts) {
    if let (Item::Extra(index), Some(files)) = (item, &model.files) {
        let stored = &files.stored[index];
        facts.add("stored", sized(&stored.name, &stored.shape, stored.dtype));
    }
}

fn sources(model: &Model, entry: usize, facts: &mut Facts) {
    let list = &model.table.entries()[entry].sources;
    for (at, (source, &number)) in list.iter().zip(model.sources_of(entry)).enumerate() {
        let item = Item::Source(number as usize);
        let mut text = sized(&source.name, &source.shape, model.dtype_of(item));
        let (rows, _) = source.shape.matrix();
        if source.rows.len() < rows {
            let per_expert = source.rows.len().max(1);
            text = format!("{text}, expert {} of it", source.rows.start / per_expert);
        }
        let is_there = model.standing(item) == Standing::Fine;
        let tone = if is_there {
            FactTone::Plain
        } else {
            FactTone::Bad
        };
        facts.say(if at == 0 { "hf" } else { "" }, text, tone);
    }
}

fn megatron(model: &Model, index: usize, facts: &mut Facts) {
    let entry = &model.table.entries()[index];
    let dtype = model.dtype_of(Item::Entry(index));
    facts.add("megatron", sized(&entry.name, &entry.shape, dtype));
    if entry.name.contains(".mtp_model_layer.") {
        let other = entry
            .name
            .replacen(".mtp_model_layer.", ".transformer_layer.", 1);
        facts.add("also", format!("{other}, as checkpoints spell it"));
    }
    match (entry.parts, entry.expert) {
        ([], None) => {}
        (parts, None) => facts.add(
            "torch_dist",
            format!("{}.{{{}}}", entry.name, parts.join(",")),
        ),
        (_, Some(expert)) => {
            let stem = entry.name.trim_end_matches(|c: char| c.is_ascii_digit());
            let stem = stem.replacen(".mlp.experts.", ".mlp.experts.experts.", 1);
            facts.add("torch_dist", format!("{stem}[{expert}]"));
        }
    }
}

/// The rule: its kind, what it does, its pattern, how ranks cut it.
fn how(entry: &Entry, facts: &mut Facts) {
    facts.add("rule", rule::kind(entry));
    facts.add("", entry.kind().explanation());
    facts.add("pattern", rule::pattern(&entry.source_names()));
    facts.add("cut", rule::cut(entry));
}

/// Whether extents and type are right, and that the way there and back gives the same.
fn check(model: &Model, item: Item, facts: &mut Facts) {
    for problem in model.problems_of(item) {
        facts.say("problem", format!("✗ {problem}"), FactTone::Bad);
    }
    match model.standing(item) {
        Standing::Missing => facts.say(
            "check",
            "✗ the files lack it; Megatron would keep its random start",
            FactTone::Bad,
        ),
        Standing::Extra => facts.say("check", "✗ the model has no place for it", FactTone::Bad),
        Standing::Wrong => {}
        Standing::Fine if model.files.is_some() => {
            facts.say("check", "✓ shape  ✓ type", FactTone::Good);
        }
        Standing::Fine => {}
    }
    let entry = match item {
        Item::Entry(entry) => Some(&model.table.entries()[entry]),
        Item::Source(source) => model
            .entries_of(source)
            .first()
            .map(|&e| &model.table.entries()[e]),
        Item::Extra(_) => None,
    };
    if let Some(entry) = entry {
        match entry.arithmetic {
            Arithmetic::Copy => {
                facts.say(
                    BACK,
                    "✓ the same bits: rows move, values stay",
                    FactTone::Good,
                );
            }
            Arithmetic::ShiftByOne => facts.add(
                BACK,
                "w - 1 and + 1 again: exact in f32, within 1 ulp of max(|w|, |w-1|) in bf16",
            ),
        }
    }
}

/// What the Hugging Face tensor does in the model.
fn about(model: &Model, source: usize, facts: &mut Facts) {
    let config = model.table.config();
    let tensor = &model.huggingface.tensors[source];
    let Some(role) = role(config, model.table.style(), &tensor.name) else {
        return;
    };
    facts.add("role", format!("{}: {}", role.label(), does(role)));
    let extents = extents(&config.text, role);
    if !extents.is_empty() {
        facts.add("extents", extents);
    }
    let first = model.entries_of(source).first().copied();
    match first.map(|entry| model.table.entries()[entry].place) {
        Some(Place::Layer(layer)) => {
            let kind = kind_name(config.text.layer_types[layer]);
            facts.add("layer", format!("{layer}, {kind}"));
        }
        Some(Place::Mtp(depth)) => {
            let published = if depth == 0 {
                "published name"
            } else {
                "our own name: one depth is published"
            };
            facts.add("mtp", format!("depth {}, {published}", depth + 1));
        }
        Some(Place::Embedding) if config.text.tie_word_embeddings => {
            facts.add("tied", "the head is this tensor too");
        }
        _ => {}
    }
    facts.add("parameters", share(model, tensor.shape.elements()));
    facts.add("starts as", starts(&config.text, role));
    let decays = tensor.shape.0.len() >= 2;
    facts.add("decay", if decays { "yes" } else { "no: one dimension" });
}

pub(super) fn share(model: &Model, parameters: u64) -> String {
    let total = model.tree(Side::HuggingFace).node(0).parameters;
    format!(
        "{} ({:.2} % of the model)",
        grouped(parameters),
        100.0 * parameters as f64 / total.max(1) as f64
    )
}
