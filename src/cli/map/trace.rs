//! `--trace`: one element under all its names.

use serde::Serialize;

use super::row::runs;
use super::{Mapped, layout};
use crate::cli::output::Tone;
use crate::cli::{Context, Exit, Failure, Outcome};
use crate::mapping::{At, MappingError, Trace};

/// An element as `--json` prints it.
#[derive(Serialize)]
struct Traced<'a> {
    huggingface: Element<'a>,
    rule: &'static str,
    megatron: Element<'a>,
    torch_dist: Element<'a>,
    ranks: Vec<Held<'a>>,
    back: Element<'a>,
}

#[derive(Serialize)]
struct Element<'a> {
    name: &'a str,
    index: &'a [usize],
}

#[derive(Serialize)]
struct Held<'a> {
    ranks: &'a [usize],
    tp: usize,
    pp: usize,
    ep: usize,
    etp: usize,
    name: &'a str,
    index: &'a [usize],
}

impl<'a> From<&'a At> for Element<'a> {
    fn from(at: &'a At) -> Self {
        Self {
            name: &at.name,
            index: &at.index,
        }
    }
}

pub(super) fn run(element: &str, mapped: &Mapped, json: bool, context: &Context) -> Outcome {
    let (name, index) = parse(element)?;
    let trace = follow(mapped, name, &index)?;
    // The way back starts from Megatron's name alone.
    let back = mapped
        .table
        .trace(&trace.megatron.name, &trace.megatron.index, &mapped.layout)
        .map_err(layout::failure)?
        .huggingface;
    let kind = mapped.table.entries()[trace.entry].kind();
    if json {
        let traced = Traced {
            huggingface: (&trace.huggingface).into(),
            rule: kind.label(),
            megatron: (&trace.megatron).into(),
            torch_dist: (&trace.torch_dist).into(),
            ranks: trace
                .ranks
                .iter()
                .map(|held| Held {
                    ranks: &held.ranks,
                    tp: held.coordinates.tp,
                    pp: held.coordinates.pp,
                    ep: held.coordinates.ep,
                    etp: held.coordinates.etp,
                    name: &held.at.name,
                    index: &held.at.index,
                })
                .collect(),
            back: (&back).into(),
        };
        context.out.line(serde_json::to_string(&traced)?)?;
        return Ok(());
    }
    let mut lines = vec![
        (
            "Hugging Face".to_owned(),
            trace.huggingface.to_string(),
            String::new(),
        ),
        (
            "rule".to_owned(),
            format!("{}: {}", kind.label(), kind.explanation()),
            String::new(),
        ),
        (
            "Megatron".to_owned(),
            trace.megatron.to_string(),
            String::new(),
        ),
        (
            "torch_dist".to_owned(),
            trace.torch_dist.to_string(),
            String::new(),
        ),
    ];
    for held in &trace.ranks {
        lines.push((
            match held.ranks.len() {
                1 => format!("rank {}", held.ranks[0]),
                _ => format!("ranks {}", runs(held.ranks.iter().copied())),
            },
            held.at.to_string(),
            held.coordinates.to_string(),
        ));
    }
    lines.push(("back".to_owned(), back.to_string(), String::new()));
    let labels = lines.iter().map(|line| line.0.len()).max().unwrap_or(0);
    let of_ranks = lines.iter().filter(|line| !line.2.is_empty());
    let names = of_ranks.map(|line| line.1.len()).max().unwrap_or(0);
    let text: String = lines
        .iter()
        .map(|(label, name, note)| {
            let label = context
                .out
                .paint(Tone::Name, format_args!("{label:labels$}"));
            if note.is_empty() {
                format!("{label}  {name}\n")
            } else {
                format!("{label}  {name:names$}  {note}\n")
            }
        })
        .collect();
    context.out.write(text)?;
    Ok(())
}

/// `NAME[1,2]` as name and index.
fn parse(element: &str) -> Result<(&str, Vec<usize>), Failure> {
    let wrong = || {
        Exit::Usage
            .because(format!("`{element}` is no element of a tensor"))
            .hint("write NAME[ROW,COLUMN], for instance 'model.norm.weight[3]', in quotes")
    };
    let (name, index) = element
        .strip_suffix(']')
        .and_then(|text| text.split_once('['))
        .ok_or_else(wrong)?;
    let index: Option<Vec<usize>> = index
        .split(',')
        .map(|number| number.trim().parse().ok())
        .collect();
    Ok((name.trim(), index.ok_or_else(wrong)?))
}

/// Follows an element; in multimodal models a name of the text class counts as well.
fn follow(mapped: &Mapped, name: &str, index: &[usize]) -> Result<Trace, Failure> {
    let find = |name: &str| mapped.table.trace(name, index, &mapped.layout);
    let unknown = match find(name) {
        Err(error @ MappingError::UnknownTensor { .. }) => error,
        found => return found.map_err(layout::failure),
    };
    if mapped.config().vision.is_some() {
        let longer = match name.strip_prefix("model.") {
            Some(rest) => format!("model.language_model.{rest}"),
            None => format!("language_model.{name}"),
        };
        match find(&longer) {
            Err(MappingError::UnknownTensor { .. }) => {}
            found => return found.map_err(layout::failure),
        }
    }
    Err(layout::failure(unknown))
}
