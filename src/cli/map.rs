//! `trestle map`: both sides of a model, and the way of one element between them.

mod row;
mod text;
mod trace;

use std::fmt::Write as _;
use std::path::Path;

use glob::Pattern;
use serde::Serialize;

use super::arguments::MapArguments;
use super::model::{self, Model};
use super::{Context, Exit, Failure, OrExit, Outcome, layout};
use crate::base::DType;
use crate::checkpoint::safetensors::Directory;
use crate::checkpoint::{CheckpointError, huggingface};
use crate::mapping::{Audit, Found, Layout, Problem, Table, View, audit, expert_style};
use crate::spec::{ExpertStyle, ModelConfig, TensorSpec, model_tensors};

/// What is mapped.
struct Mapped {
    /// The model's name for people.
    title: String,
    table: Table,
    layout: Layout,
    /// The directory's tensors, where there is a directory with weights.
    weights: Option<Directory>,
}

pub(super) fn run(arguments: &MapArguments, context: &Context) -> Outcome {
    let mapped = open(arguments)?;
    if let Some(element) = &arguments.trace {
        return trace::run(element, &mapped, arguments.json, context);
    }
    let audit = mapped.audit();
    if arguments.unmapped {
        return unmapped(&mapped, &audit, arguments.json, context);
    }
    let filter = arguments.tensor.as_deref().map(Filter::new).transpose()?;
    let shown = row::matching(&mapped, filter.as_ref());
    if shown.is_empty() {
        let pattern = arguments.tensor.as_deref().unwrap_or_default();
        return Err(Exit::Usage
            .because(format!("no tensor of either side matches `{pattern}`"))
            .hint("quote the pattern, and let `*` stand for layer numbers"));
    }
    if arguments.json {
        context.out.write(row::json(&mapped, &shown)?)?;
    } else {
        let rows = row::rows(&mapped, &shown);
        context
            .out
            .write(text::page(&mapped, &rows, &context.out))?;
    }
    complain(&audit)
}

/// Opens the model and lays it out.
fn open(arguments: &MapArguments) -> Result<Mapped, Failure> {
    let (mut title, mut config, published, mut weights) = match model::resolve(&arguments.model)? {
        Model::Registry(entry) => (
            entry.display.to_owned(),
            entry.model.clone(),
            entry.experts,
            None,
        ),
        Model::Directory(path) => {
            let config = huggingface::read_model(&path).or_exit(Exit::Data)?;
            let title = path.display().to_string();
            (title, config, ExpertStyle::QWEN3_5, open_weights(&path)?)
        }
    };
    if arguments.text_only && config.vision.is_some() {
        // The files name tensors as the multimodal class does, so there is nothing to compare with.
        if weights.take().is_some() {
            title += " (its weights not compared)";
        }
        config = config.text_only();
    }
    let style = match &weights {
        None => published,
        Some(directory) => {
            let names = directory.tensors.iter().map(|tensor| tensor.name.as_str());
            expert_style(names).map_err(|problem| Exit::Data.because(problem.to_string()))?
        }
    };
    let layout = layout::layout(&arguments.layout, &config)?;
    Ok(Mapped {
        title,
        table: Table::new(&config, style),
        layout,
        weights,
    })
}

/// The weights of a directory; none of a directory without and of a `config.json`.
fn open_weights(path: &Path) -> Result<Option<Directory>, Failure> {
    if path.is_file() {
        return Ok(None);
    }
    match Directory::open(path) {
        Ok(directory) => Ok(Some(directory)),
        Err(CheckpointError::NoWeights { .. }) => Ok(None),
        Err(error) => Err(Failure::new(Exit::Data, error)),
    }
}

impl Mapped {
    fn config(&self) -> &ModelConfig {
        self.table.config()
    }

    /// Compares the Hugging Face tensors of the table with those of the directory, else with those that the model has by itself.
    fn audit(&self) -> Audit {
        let view = View::huggingface(&self.table);
        let Some(directory) = &self.weights else {
            let own = model_tensors(self.config(), self.table.style());
            return audit(&self.table, &view, &self.found(&own));
        };
        let found: Vec<Found> = directory
            .tensors
            .iter()
            .map(|tensor| Found {
                name: &tensor.name,
                shape: &tensor.shape,
                dtype: tensor.dtype,
            })
            .collect();
        audit(&self.table, &view, &found)
    }

    /// Tensors of the model as if files had them.
    fn found<'a>(&self, tensors: &'a [TensorSpec]) -> Vec<Found<'a>> {
        let dtype = self.config().text.dtype;
        tensors
            .iter()
            .map(|tensor| Found {
                name: &tensor.name,
                shape: &tensor.shape,
                dtype: dtype.unwrap_or(DType::BF16),
            })
            .collect()
    }
}

/// Which tensors are wanted.
enum Filter {
    Word(String),
    Pattern(Pattern),
}

impl Filter {
    fn new(text: &str) -> Result<Self, Failure> {
        if !text.contains(['*', '?', '[']) {
            return Ok(Self::Word(text.to_owned()));
        }
        match Pattern::new(text) {
            Ok(pattern) => Ok(Self::Pattern(pattern)),
            Err(error) => Err(Exit::Usage.because(format!("`{text}` is no pattern: {error}"))),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Word(word) => name.contains(word.as_str()),
            Self::Pattern(pattern) => pattern.matches(name),
        }
    }
}

/// A problem as `--json` prints it.
#[derive(Serialize)]
struct Unmapped<'a> {
    tensor: &'a str,
    problem: String,
    rule: &'a str,
    nearest: Option<&'a str>,
}

/// Lists what has no partner.
fn unmapped(mapped: &Mapped, audit: &Audit, json: bool, context: &Context) -> Outcome {
    let Audit { problems, .. } = audit;
    if json {
        let lines: Result<Vec<String>, _> = problems
            .iter()
            .map(|problem| {
                serde_json::to_string(&Unmapped {
                    tensor: &problem.tensor,
                    problem: problem.to_string(),
                    rule: &problem.rule,
                    nearest: problem.nearest.as_deref(),
                })
            })
            .collect();
        context.out.write(
            lines?
                .into_iter()
                .map(|line| line + "\n")
                .collect::<String>(),
        )?;
    } else {
        let mut text = listed(problems);
        for remark in text::remarks(mapped, audit) {
            let _ = writeln!(text, "{remark}");
        }
        let _ = writeln!(text, "{}", text::count(mapped, problems.len()));
        context.out.write(text)?;
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::said(Exit::Data))
    }
}

/// Tells what does not fit on standard error.
fn complain(audit: &Audit) -> Outcome {
    const MOST: usize = 20;
    let problems = &audit.problems;
    if problems.is_empty() {
        return Ok(());
    }
    let shown = &problems[..problems.len().min(MOST)];
    let mut message = format!("{}\n{}", text::problems(problems.len()), listed(shown));
    match problems.len() - shown.len() {
        0 => message.truncate(message.trim_end().len()),
        more => {
            let _ = write!(message, "  and {more} more");
        }
    }
    Err(Exit::Data
        .because(message)
        .hint("`--unmapped` lists all of them"))
}

fn listed(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(text, "  {problem}");
    }
    text
}
