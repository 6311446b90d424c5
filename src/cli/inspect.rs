//! What is in a directory of weights: tensors, shapes, types, and on demand what their numbers look like.

mod found;
mod numbers;
mod table;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde::Serialize;

use super::arguments::InspectArguments;
use super::output::Tone;
use super::{Context, Exit, Failure, Outcome, model};
use crate::base::Shape;
use crate::checkpoint::statistics::{Detail, Statistics, hash};
use crate::checkpoint::{CheckpointError, StoredTensor};
use found::Found;
use table::Table;

/// Tensors whose numbers are looked at before their lines are printed.
const AT_ONCE: usize = 64;

/// A tensor as `--json` prints it.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    shape: &'a Shape,
    dtype: &'static str,
    bytes: u64,
    files: Vec<&'a str>,
    chunks: usize,
    #[serde(flatten)]
    looked_at: LookedAt,
}

/// What reading a tensor gave.
#[derive(Debug, Default, Serialize)]
struct LookedAt {
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<Statistics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    summary: found::Summary<'a>,
    tensors: Vec<Listed<'a>>,
}

pub(super) fn run(arguments: &InspectArguments, context: &Context) -> Outcome {
    let path = located(&arguments.path)?;
    let found = Found::open(&path)?;
    let tensors = matching(&found.tensors, arguments.tensor.as_deref())?;
    if arguments.json {
        return json(&found, &tensors, arguments, context);
    }
    let out = &context.out;
    out.write(found.head(out))?;
    let table = Table::new(&found, &tensors, arguments.shows_statistics(), out);
    out.write(table.heading())?;
    let mut odd = Vec::new();
    for part in tensors.chunks(AT_ONCE) {
        let looked_at = look(&found.files, part, arguments)?;
        let mut text = String::new();
        for (tensor, looked_at) in part.iter().zip(&looked_at) {
            table.line(&mut text, tensor, looked_at);
            let statistics = looked_at.statistics.as_ref();
            if statistics.is_some_and(|s| s.finite() < s.elements) {
                odd.push(tensor.name.as_str());
            }
        }
        out.write(text)?;
    }
    if !odd.is_empty() {
        let what = match odd.len() {
            1 => "a tensor has".to_owned(),
            n => format!("{n} tensors have"),
        };
        let first: Vec<String> = odd
            .iter()
            .take(5)
            .map(|name| table::printable(name))
            .collect();
        let more = match odd.len().saturating_sub(5) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "{what} NaN or infinite elements: {}{more}",
            first.join(", ")
        );
        out.line(out.paint(Tone::Warning, text))?;
    }
    Ok(())
}

/// The path, or the snapshot of a Hub id.
fn located(path: &std::path::Path) -> Result<PathBuf, Failure> {
    // A link that leads to itself is there too; opening it says what is wrong.
    match path.to_str() {
        Some(name) if path.symlink_metadata().is_err() => model::directory(name),
        _ => Ok(path.to_owned()),
    }
}

/// The tensors whose name fits the pattern.
fn matching<'a>(
    tensors: &'a [StoredTensor],
    pattern: Option<&str>,
) -> Result<Vec<&'a StoredTensor>, Failure> {
    let Some(text) = pattern else {
        return Ok(tensors.iter().collect());
    };
    let pattern = glob::Pattern::new(text).map_err(|error| {
        Exit::Usage.because(format!(
            "--tensor {text}: {} at character {}",
            error.msg, error.pos
        ))
    })?;
    let fitting: Vec<&StoredTensor> = tensors
        .iter()
        .filter(|t| pattern.matches(&t.name))
        .collect();
    if !fitting.is_empty() {
        return Ok(fitting);
    }
    let failure = Exit::Data.because(format!(
        "none of {} tensors has a name like {text}",
        tensors.len()
    ));
    let word = text.trim_matches('*');
    let near = tensors.iter().filter(|t| t.name.contains(word)).count();
    Err(match (near, tensors.first()) {
        (1.., _) => failure.hint(format!(
            "{near} contain it: a pattern is of the whole name, try --tensor '*{word}*'"
        )),
        (0, Some(first)) => failure.hint(format!(
            "names are like {}; * stands for any text, ? for a character",
            table::printable(&first.name)
        )),
        (0, None) => failure,
    })
}

/// Reads the tensors as far as the options ask for it.
fn look(
    files: &[PathBuf],
    tensors: &[&StoredTensor],
    arguments: &InspectArguments,
) -> Result<Vec<LookedAt>, Failure> {
    let never = AtomicBool::new(false);
    let detail = if arguments.histogram {
        Detail::Histogram
    } else {
        Detail::Numbers
    };
    tensors
        .par_iter()
        .map(|tensor| {
            let mut looked_at = LookedAt::default();
            if arguments.shows_statistics() {
                looked_at.statistics = Statistics::read(files, tensor, detail, &never)?;
            }
            if arguments.hash {
                looked_at.blake3 = hash(files, tensor, &never)?;
            }
            Ok(looked_at)
        })
        .collect::<Result<_, CheckpointError>>()
        .map_err(unusable)
}

fn json(
    found: &Found,
    tensors: &[&StoredTensor],
    arguments: &InspectArguments,
    context: &Context,
) -> Outcome {
    let looked_at = look(&found.files, tensors, arguments)?;
    let tensors = tensors.iter().zip(looked_at);
    let whole = Whole {
        summary: found.summary(),
        tensors: tensors
            .map(|(tensor, looked_at)| Listed {
                name: &tensor.name,
                shape: &tensor.shape,
                dtype: tensor.dtype.safetensors_name(),
                bytes: tensor.bytes(),
                files: found.files_of(tensor),
                chunks: tensor.extents.len(),
                looked_at,
            })
            .collect(),
    };
    context.out.json(&whole)?;
    Ok(())
}

/// Weights that cannot be used are bad data, with the hint that their error has.
fn unusable(error: CheckpointError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Exit::Data, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
