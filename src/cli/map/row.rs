//! The tensors of a map, one row each.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{Filter, Mapped};
use crate::base::Shape;
use crate::mapping::{Axis, Entry, Place, Shard, Spelling};

/// What a line of the table says.
#[derive(Debug)]
pub(super) struct Row {
    /// Hugging Face names, what differs in braces.
    pub(super) huggingface: String,
    /// Their extents.
    pub(super) huggingface_shapes: String,
    /// The rule.
    pub(super) rule: &'static str,
    /// Megatron's name.
    pub(super) megatron: String,
    /// Its extents.
    pub(super) shape: String,
    /// How it is cut.
    pub(super) cut: String,
    /// Extents on one rank.
    pub(super) on_rank: String,
    /// Where it is.
    pub(super) held_by: String,
}

/// A tensor as `--json` prints it.
#[derive(Serialize)]
struct Listed<'a> {
    megatron: String,
    megatron_shape: &'a Shape,
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expert: Option<usize>,
    huggingface: Vec<Source<'a>>,
    /// Rows of the Megatron tensor in runs; none where the sources follow one another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    permutation: Vec<Run>,
    cut: &'static str,
    axis: Option<&'static str>,
    sections: &'a [usize],
    rank_shape: Shape,
    held_by: Vec<Holder>,
}

#[derive(Serialize)]
struct Source<'a> {
    name: &'a str,
    shape: &'a Shape,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<&'static str>,
}

#[derive(Serialize)]
struct Run {
    row: usize,
    source: usize,
    source_row: usize,
    rows: usize,
}

#[derive(Serialize)]
struct Holder {
    stage: usize,
    name: String,
    ranks: String,
}

/// Indices of the entries with a name that matches.
pub(super) fn matching(mapped: &Mapped, filter: Option<&Filter>) -> Vec<usize> {
    let entries = mapped.table.entries().iter().enumerate();
    let wanted = |entry: &Entry| {
        filter.is_none_or(|filter| {
            filter.matches(&entry.name)
                || filter.matches(&spelled(mapped, entry))
                || entry.sources.iter().any(|s| filter.matches(&s.name))
        })
    };
    entries
        .filter(|(_, entry)| wanted(entry))
        .map(|(index, _)| index)
        .collect()
}

/// Megatron's name with global numbers, MTP and experts spelled as asked for.
pub(super) fn spelled(mapped: &Mapped, entry: &Entry) -> String {
    respelled(mapped, &entry.name, entry.expert)
}

/// A name with MTP and experts spelled as asked for, and the number that an expert is to have.
fn respelled(mapped: &Mapped, name: &str, expert: Option<usize>) -> String {
    let options = &mapped.layout.options;
    let name = match options.spelling {
        Spelling::MtpModelLayer => name.to_owned(),
        Spelling::TransformerLayer => name.replacen(".mtp_model_layer.", ".transformer_layer.", 1),
    };
    let Some(expert) = expert else {
        return name;
    };
    let stem = stem(&name);
    match stem.rsplit_once("experts.") {
        Some((start, linear)) if options.sequential_experts => {
            format!("{start}experts.local_experts.{expert}.{linear}")
        }
        _ => format!("{stem}{expert}"),
    }
}

/// A name without the number at its end.
fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// Lines of the table; the experts of a layer are one line where all of them are shown.
pub(super) fn rows(mapped: &Mapped, shown: &[usize]) -> Vec<Row> {
    let entries = mapped.table.entries();
    let experts = mapped.config().text.moe.map_or(0, |moe| moe.num_experts);
    let mut members: HashMap<&str, usize> = HashMap::new();
    for &index in shown {
        if entries[index].is_expert() {
            *members.entry(stem(&entries[index].name)).or_default() += 1;
        }
    }
    let mut holders = Holders::new(mapped);
    let mut rows = Vec::with_capacity(shown.len());
    for &index in shown {
        let entry = &entries[index];
        let all = entry.is_expert() && members[stem(&entry.name)] == experts && experts > 1;
        match entry.expert {
            Some(expert) if all && expert > 0 => {}
            _ => rows.push(row(mapped, entry, all, &mut holders)),
        }
    }
    rows
}

fn row(mapped: &Mapped, entry: &Entry, all_experts: bool, holders: &mut Holders<'_>) -> Row {
    let mut megatron = spelled(mapped, entry);
    let mut names: Vec<String> = entry.sources.iter().map(|s| s.name.clone()).collect();
    if all_experts && let Some(moe) = mapped.config().text.moe {
        let range = format!("{{0..{}}}", moe.num_experts - 1);
        megatron = if mapped.layout.options.sequential_experts {
            megatron.replacen(".0.linear", &format!(".{range}.linear"), 1)
        } else {
            format!("{}{range}", stem(&megatron))
        };
        for name in &mut names {
            *name = name.replacen(".experts.0.", &format!(".experts.{range}."), 1);
        }
    }
    let mut shapes: Vec<String> = entry.sources.iter().map(|s| s.shape.to_string()).collect();
    shapes.dedup();
    Row {
        huggingface: braced(&names),
        huggingface_shapes: shapes.join(" "),
        rule: entry.kind().label(),
        megatron,
        shape: entry.shape.to_string(),
        cut: cut(mapped, entry),
        on_rank: rank_shape(mapped, entry).to_string(),
        held_by: holders.text(entry, all_experts),
    }
}

/// How an entry is cut, with the degree: `column / 2`.
fn cut(mapped: &Mapped, entry: &Entry) -> String {
    let degree = degree(mapped, entry);
    match &entry.shard {
        Shard::Replicated => "replicated".into(),
        shard if degree == 1 => shard.label().into(),
        shard => format!("{} / {degree}", shard.label()),
    }
}

fn degree(mapped: &Mapped, entry: &Entry) -> usize {
    match entry.axis() {
        Axis::Tp => mapped.layout.options.tp,
        Axis::Etp => mapped.layout.options.etp,
    }
}

/// Extents on each rank that holds an entry; they are the same on all.
fn rank_shape(mapped: &Mapped, entry: &Entry) -> Shape {
    let degree = degree(mapped, entry);
    let mut shape = entry.shape.clone();
    let last = shape.0.len().saturating_sub(1);
    match &entry.shard {
        Shard::Replicated => {}
        Shard::Row { .. } => shape.0[last] /= degree,
        Shard::Column { .. } => {
            if matches!(entry.place, Place::Embedding | Place::Head) {
                shape.0[0] = mapped.layout.vocab_rows;
            }
            shape.0[0] /= degree;
        }
    }
    shape
}

/// The names as one, with what differs between a common start and end in braces.
fn braced(names: &[String]) -> String {
    let [first, rest @ ..] = names else {
        return String::new();
    };
    if rest.is_empty() {
        return first.clone();
    }
    let shared = |a: &str, b: &str| {
        let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y);
        same.map(|(x, _)| x.len_utf8()).sum::<usize>()
    };
    let backwards = |text: &str| text.chars().rev().collect::<String>();
    let start = rest.iter().map(|n| shared(first, n)).min().unwrap_or(0);
    let shortest = names.iter().map(String::len).min().unwrap_or(0);
    let end = rest
        .iter()
        .map(|name| shared(&backwards(first), &backwards(name)))
        .min()
        .unwrap_or(0)
        .min(shortest - start);
    let middle: Vec<&str> = names.iter().map(|n| &n[start..n.len() - end]).collect();
    format!(
        "{}{{{}}}{}",
        &first[..start],
        middle.join(","),
        &first[first.len() - end..]
    )
}

/// Which ranks hold what, found once for all entries of a place.
struct Holders<'a> {
    mapped: &'a Mapped,
    /// Ranks by stage and, for experts, expert rank.
    ranks: HashMap<(usize, Option<usize>), String>,
}

impl<'a> Holders<'a> {
    fn new(mapped: &'a Mapped) -> Self {
        Self {
            mapped,
            ranks: HashMap::new(),
        }
    }

    /// The expert-parallel rank of an expert, and the expert's number there.
    fn expert_rank(&self, entry: &Entry) -> Option<(usize, usize)> {
        let moe = self.mapped.config().text.moe?;
        let per_rank = moe.num_experts / self.mapped.layout.options.ep;
        let expert = entry.expert?;
        Some((expert / per_rank, expert % per_rank))
    }

    fn ranks(&mut self, stage: usize, expert: Option<usize>) -> String {
        let layout = &self.mapped.layout;
        self.ranks
            .entry((stage, expert))
            .or_insert_with(|| {
                let in_stage = layout.world() / layout.stages.len();
                let held = (stage * in_stage..(stage + 1) * in_stage).filter(|&rank| {
                    expert.is_none_or(|expert| layout.coordinates_of(rank).ep == expert)
                });
                runs(held)
            })
            .clone()
    }

    /// Stages and ranks of an entry for people; nothing where there is one rank.
    fn text(&mut self, entry: &Entry, all_experts: bool) -> String {
        let layout = &self.mapped.layout;
        if layout.world() == 1 {
            return String::new();
        }
        let expert = self
            .expert_rank(entry)
            .filter(|_| !all_experts)
            .map(|(rank, _)| rank);
        let places = layout.places(&self.mapped.table, entry);
        let stages = layout.stages.len();
        let mut parts: Vec<String> = Vec::with_capacity(places.len());
        for (stage, name) in places {
            let ranks = self.ranks(stage, expert);
            let mut part = match stages {
                1 => String::new(),
                _ => format!("stage {stage}, "),
            };
            let plural = if ranks.contains(['-', ',']) { "s" } else { "" };
            let _ = write!(part, "rank{plural} {ranks}");
            if entry.place == Place::Embedding && name.ends_with("output_layer.weight") {
                part += " as output_layer";
            }
            parts.push(part);
        }
        let mut text = parts.join("; ");
        let ep = layout.options.ep;
        if all_experts
            && ep > 1
            && let Some(moe) = self.mapped.config().text.moe
        {
            let _ = write!(text, ", {} experts each", moe.num_experts / ep);
        }
        text
    }
}

/// Numbers with runs shortened: `0-3,8`.
pub(super) fn runs(numbers: impl Iterator<Item = usize>) -> String {
    let mut list: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match list.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => list.push((number, number)),
        }
    }
    let parts: Vec<String> = list
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first}-{last}"),
        })
        .collect();
    parts.join(",")
}

/// Every shown tensor as a line of JSON.
pub(super) fn json(mapped: &Mapped, shown: &[usize]) -> Result<String, serde_json::Error> {
    let dtypes: HashMap<&str, &'static str> = mapped
        .weights
        .iter()
        .flat_map(|directory| &directory.tensors)
        .map(|tensor| (tensor.name.as_str(), tensor.dtype.name()))
        .collect();
    let mut holders = Holders::new(mapped);
    let mut text = String::new();
    for &index in shown {
        let entry = &mapped.table.entries()[index];
        text += &serde_json::to_string(&listed(mapped, entry, &dtypes, &mut holders))?;
        text.push('\n');
    }
    Ok(text)
}

fn listed<'a>(
    mapped: &Mapped,
    entry: &'a Entry,
    dtypes: &HashMap<&str, &'static str>,
    holders: &mut Holders<'_>,
) -> Listed<'a> {
    let expert = holders.expert_rank(entry);
    let sections: &[usize] = match &entry.shard {
        Shard::Column { sections, .. } => sections,
        _ => &[],
    };
    let blocks = entry.blocks();
    let in_order = blocks.len() == entry.sources.len();
    let places = mapped.layout.places(&mapped.table, entry);
    Listed {
        megatron: spelled(mapped, entry),
        megatron_shape: &entry.shape,
        rule: entry.kind().label(),
        expert: entry.expert,
        huggingface: entry
            .sources
            .iter()
            .map(|source| Source {
                name: &source.name,
                shape: &source.shape,
                rows: (source.rows.len() != source.shape.matrix().0)
                    .then_some([source.rows.start, source.rows.end]),
                dtype: dtypes.get(source.name.as_str()).copied(),
            })
            .collect(),
        permutation: if in_order {
            Vec::new()
        } else {
            blocks
                .into_iter()
                .map(|block| Run {
                    row: block.row,
                    source: block.source,
                    source_row: block.source_row,
                    rows: block.rows,
                })
                .collect()
        },
        cut: entry.shard.label(),
        axis: entry.shard.axis().map(|axis| match axis {
            Axis::Tp => "tp",
            Axis::Etp => "etp",
        }),
        sections,
        rank_shape: rank_shape(mapped, entry),
        held_by: places
            .into_iter()
            .map(|(stage, name)| Holder {
                stage,
                name: respelled(mapped, &name, expert.map(|(_, local)| local)),
                ranks: holders.ranks(stage, expert.map(|(rank, _)| rank)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_their_start_and_end() {
        let names =
            |list: &[&str]| braced(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            names(&["a.q_proj.weight", "a.k_proj.weight", "a.v_proj.weight"]),
            "a.{q,k,v}_proj.weight"
        );
        assert_eq!(names(&["a.weight"]), "a.weight");
        assert_eq!(names(&["x.aa", "x.a"]), "x.a{a,}");
    }

    #[test]
    fn runs_of_ranks_are_short() {
        assert_eq!(runs([0, 1, 2, 5, 7, 8].into_iter()), "0-2,5,7-8");
        assert_eq!(runs(std::iter::empty()), "");
    }
}
