//! The rule behind a tensor, drawn and spelled.

use std::ops::Range;

use crate::mapping::{Entry, Kind, Permutation, Shard};

/// Rows of a Megatron tensor that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What it is: `g0`; empty where there are no groups.
    pub label: String,
    /// Its parts, in the order of the rows.
    pub parts: Vec<Part>,
}

/// Rows of a Megatron tensor that come from one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is: `q0`, `gate0`, `k0`.
    pub label: String,
    /// Rows of the Megatron tensor.
    pub rows: Range<usize>,
    /// Which kind of part it is, to colour it by.
    pub colour: usize,
}

/// In which order a Megatron tensor has its rows; empty if it is one run.
pub(super) fn order(entry: &Entry) -> Vec<Group> {
    let mut row = 0;
    let mut part = |label: String, rows: usize, colour| {
        row += rows;
        Part {
            label,
            rows: row - rows..row,
            colour,
        }
    };
    match entry.permutation {
        Permutation::GatedQkv {
            heads,
            kv_heads,
            head_dim,
        } => {
            let per_group = heads / kv_heads.max(1);
            let mut group = |g: usize| {
                let heads = g * per_group..(g + 1) * per_group;
                let mut parts: Vec<Part> = Vec::new();
                for (colour, name) in ["q", "gate"].into_iter().enumerate() {
                    for head in heads.clone() {
                        parts.push(part(format!("{name}{head}"), head_dim, colour));
                    }
                }
                parts.push(part(format!("k{g}"), head_dim, 2));
                parts.push(part(format!("v{g}"), head_dim, 3));
                Group {
                    label: format!("g{g}"),
                    parts,
                }
            };
            (0..kv_heads).map(&mut group).collect()
        }
        Permutation::HeadQkv { heads, head_dim } => {
            let mut group = |head: usize| Group {
                label: format!("h{head}"),
                parts: ["q", "k", "v"]
                    .into_iter()
                    .zip([0, 2, 3])
                    .map(|(name, colour)| part(format!("{name}{head}"), head_dim, colour))
                    .collect(),
            };
            (0..heads).map(&mut group).collect()
        }
        Permutation::Concat => {
            let Shard::Column { sections, .. } = &entry.shard else {
                return Vec::new();
            };
            let names: &[&str] = match (entry.parts, sections.len()) {
                ([], 2) => &["gate", "up"],
                (parts, n) if parts.len() == n => parts,
                _ => return Vec::new(),
            };
            let mut group = |(colour, (name, rows)): (usize, (&&str, &usize))| Group {
                label: String::new(),
                parts: vec![part((*name).to_owned(), *rows, colour)],
            };
            names
                .iter()
                .zip(sections)
                .enumerate()
                .map(&mut group)
                .collect()
        }
    }
}

/// How a tensor is cut, in words.
pub(super) fn cut(entry: &Entry) -> String {
    let axis = match entry.shard.axis() {
        Some(crate::mapping::Axis::Etp) => "etp",
        _ => "tp",
    };
    let experts = if entry.is_expert() {
        ", experts over ep"
    } else {
        ""
    };
    let how = match &entry.shard {
        Shard::Replicated => "replicated: every rank holds all of it".to_owned(),
        Shard::Row { .. } => format!("row parallel: columns over {axis}"),
        Shard::Column { sections, .. } if sections.len() > 1 => format!(
            "column parallel: rows of each of {} sections over {axis}",
            sections.len()
        ),
        Shard::Column { .. } => format!("column parallel: rows over {axis}"),
    };
    format!("{how}{experts}")
}

/// The kind of a rule with what it is made of: `gated qkv: groups 2, heads/group 4, head_dim 256`.
pub(super) fn kind(entry: &Entry) -> String {
    let label = entry.kind().label();
    match entry.permutation {
        Permutation::GatedQkv {
            heads,
            kv_heads,
            head_dim,
        } => format!(
            "{label}: {kv_heads} groups, {} heads a group, head_dim {head_dim}",
            heads / kv_heads.max(1)
        ),
        Permutation::HeadQkv { heads, head_dim } => {
            format!("{label}: {heads} heads, head_dim {head_dim}")
        }
        Permutation::Concat => match (&entry.shard, entry.kind()) {
            (_, Kind::Direct) => label.to_owned(),
            (Shard::Column { sections, .. }, _) if sections.len() > 1 => {
                let sizes: Vec<String> = sections.iter().map(ToString::to_string).collect();
                format!("{label}: rows {}", sizes.join(" + "))
            }
            _ => label.to_owned(),
        },
    }
}

/// The names of an entry's sources as one pattern: numbers as `{*}`, what differs in braces.
pub fn pattern(names: &[&str]) -> String {
    let split: Vec<Vec<&str>> = names.iter().map(|name| name.split('.').collect()).collect();
    let Some(first) = split.first() else {
        return String::new();
    };
    if split.iter().any(|parts| parts.len() != first.len()) {
        return names.join(", ");
    }
    let part = |at: usize| {
        let all: Vec<&str> = split.iter().map(|parts| parts[at]).collect();
        if all.iter().all(|part| *part == first[at]) {
            let is_number = !first[at].is_empty() && first[at].bytes().all(|b| b.is_ascii_digit());
            return if is_number { "{*}" } else { first[at] }.to_owned();
        }
        braces(&all)
    };
    (0..first.len()).map(part).collect::<Vec<_>>().join(".")
}

/// `{q,k,v}_proj` of `q_proj`, `k_proj`, `v_proj`.
fn braces(all: &[&str]) -> String {
    let shared = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let reversed = |text: &str| text.chars().rev().collect::<String>();
    let first = all[0];
    let start = all
        .iter()
        .map(|text| shared(first, text))
        .min()
        .unwrap_or(0);
    let shortest = all.iter().map(|text| text.len()).min().unwrap_or(0);
    let end = all
        .iter()
        .map(|text| shared(&reversed(first), &reversed(text)))
        .min();
    let end = end.unwrap_or(0).min(shortest - start);
    let inner: Vec<&str> = all
        .iter()
        .map(|text| text.get(start..text.len() - end).unwrap_or(text))
        .collect();
    let (head, tail) = (&first[..start], &first[first.len() - end..]);
    format!("{head}{{{}}}{tail}", inner.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Table;
    use crate::spec::{ExpertStyle, ModelConfig, TextConfig};

    fn table() -> Table {
        let config = ModelConfig {
            text: TextConfig::default(),
            vision: None,
        };
        Table::new(&config, ExpertStyle::QWEN3_5)
    }

    #[test]
    fn the_drawn_order_is_that_of_the_rows() {
        let table = table();
        let entry = &table.entries()[table
            .find("decoder.layers.3.self_attention.linear_qkv.weight")
            .expect("layer 3 is full attention")];
        let groups = order(entry);
        assert_eq!(groups.len(), 4);
        let labels: Vec<&str> = groups[1].parts.iter().map(|p| p.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "q4", "q5", "q6", "q7", "gate4", "gate5", "gate6", "gate7", "k1", "v1"
            ]
        );
        let (rows, _) = entry.matrix();
        assert_eq!(groups[3].parts.last().map(|p| p.rows.end), Some(rows));
        // Query 4 is rows 2 * 4 * 256 and on of q_proj, its gate the rows after.
        for (label, source, at) in [("q4", 0, 2048), ("gate4", 0, 2304), ("k1", 1, 256)] {
            let parts = groups.iter().flat_map(|g| &g.parts);
            let part = parts.into_iter().find(|p| p.label == label).expect("drawn");
            let from = entry
                .blocks()
                .into_iter()
                .find(|b| (b.row..b.row + b.rows).contains(&part.rows.start));
            let from = from.expect("every row has a block");
            let row = from.source_row + part.rows.start - from.row;
            assert_eq!((from.source, row), (source, at), "{label}");
        }
    }

    #[test]
    fn sections_of_the_delta_net_are_drawn_by_name() {
        let table = table();
        let find = |name: &str| &table.entries()[table.find(name).expect("it is there")];
        let entry = find("decoder.layers.0.self_attention.in_proj.weight");
        let labels: Vec<String> = order(entry)
            .iter()
            .map(|g| g.parts[0].label.clone())
            .collect();
        assert_eq!(labels, ["query", "key", "value", "z", "beta", "alpha"]);
        assert!(kind(entry).ends_with("2048 + 2048 + 4096 + 4096 + 32 + 32"));
        assert!(cut(entry).contains("6 sections over tp"));
        assert!(order(find("decoder.final_layernorm.weight")).is_empty());
    }

    #[test]
    fn sources_become_one_pattern() {
        let qkv = ["q", "k", "v"].map(|x| format!("model.layers.3.self_attn.{x}_proj.weight"));
        let names: Vec<&str> = qkv.iter().map(String::as_str).collect();
        assert_eq!(
            pattern(&names),
            "model.layers.{*}.self_attn.{q,k,v}_proj.weight"
        );
        let gdn = ["in_proj_qkv", "in_proj_z"];
        assert_eq!(pattern(&gdn), "in_proj_{qkv,z}");
        assert_eq!(pattern(&["model.norm.weight"]), "model.norm.weight");
        assert_eq!(pattern(&["a", "b.c"]), "a, b.c");
    }
}
