//! Checks every published recipe of upstream: which can start, on which GPU counts, and what the others need.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::{Place, Severity};
use crate::cli::output::Tone;
use crate::cli::{Context, Exit, Failure, OrExit, Outcome, bundled};
use crate::plan::{self, Fix, Job};
use crate::recipe::{self, Loaded, Megatron, load};

/// A recipe and what is wrong with it.
#[derive(Serialize)]
struct Row {
    name: String,
    path: PathBuf,
    gpus: usize,
    can_start: bool,
    /// GPU counts on which it starts as it is, ascending.
    starts_on: Vec<usize>,
    problems: Vec<Said>,
}

/// A problem with its place and every change that mends it.
#[derive(Serialize)]
struct Said {
    code: &'static str,
    severity: Severity,
    span: Place,
    reason: String,
    fixes: Vec<Fix>,
}

pub(super) fn run(json: bool, context: &Context) -> Outcome {
    let rows = rows(&bundled::published()?)?;
    let stuck = rows.iter().filter(|row| !row.can_start).count();
    if json {
        context.out.json(&rows)?;
    } else {
        context.out.write(table(&rows, context))?;
        let all = rows.len();
        context.out.line(format_args!(
            "{all} recipes: {} can start, {stuck} cannot",
            all - stuck
        ))?;
    }
    Ok(())
}

fn rows(folder: &Path) -> Result<Vec<Row>, Failure> {
    let listed = fs::read_dir(folder).map_err(|error| {
        Exit::Usage.because(format!("{} cannot be listed: {error}", folder.display()))
    })?;
    let mut paths = Vec::new();
    for entry in listed {
        let path = entry.or_exit(Exit::Failure)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|path| row(&path)).collect())
}

fn row(path: &Path) -> Row {
    let loaded = load(path, &[], &|path| fs::read_to_string(path));
    let problems = said(&loaded);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Row {
        name: loaded
            .megatron
            .as_ref()
            .map_or_else(|| stem.into_owned(), |recipe| recipe.recipe.clone()),
        path: path.into(),
        gpus: loaded.megatron.as_ref().map_or(0, |recipe| recipe.gpus),
        can_start: loaded.is_valid(),
        starts_on: loaded.megatron.as_ref().map(starts_on).unwrap_or_default(),
        problems,
    }
}

fn said(loaded: &Loaded) -> Vec<Said> {
    let planned = loaded
        .megatron
        .as_ref()
        .map(|recipe| plan::problems(&recipe.job()))
        .unwrap_or_default();
    loaded
        .diagnostics
        .iter()
        .map(|diagnostic| Said {
            code: diagnostic.code,
            severity: diagnostic.severity,
            span: diagnostic.place.clone(),
            reason: diagnostic.message.clone(),
            fixes: planned
                .iter()
                .find(|p| p.code == diagnostic.code && p.message == diagnostic.message)
                .map(|problem| problem.fixes.iter().map(ours).collect())
                .unwrap_or_default(),
        })
        .collect()
}

/// A fix with the recipe's keys.
fn ours(fix: &Fix) -> Fix {
    let key = |key: &str| recipe::key_of_fix(key).to_owned();
    Fix {
        key: key(&fix.key),
        value: fix.value.clone(),
        also: fix
            .also
            .iter()
            .map(|(k, value)| (key(k), value.clone()))
            .collect(),
    }
}

/// GPU counts on which a recipe starts unchanged: data-parallel degrees that divide the batch, tried one by one.
fn starts_on(recipe: &Megatron) -> Vec<usize> {
    let job = recipe.job();
    let copy = job.degrees.tp * job.degrees.pp * job.degrees.cp;
    let micro = job.batch.micro_batch_size.max(1);
    let most = job.batch.global_batch_size / micro;
    (1..=most)
        .filter(|dp| most.is_multiple_of(*dp))
        .map(|dp| dp * copy)
        .filter(|gpus| starts(&job.clone().with_gpus(*gpus)))
        .collect()
}

fn starts(job: &Job) -> bool {
    let problems = plan::problems(job);
    problems.iter().all(|p| p.severity != Severity::Error)
}

/// One line a recipe: whether it can start, on which counts, and what stops it with the smallest change that lets it start.
fn table(rows: &[Row], context: &Context) -> String {
    let head = ["recipe", "GPUs", "verdict", "starts unchanged on"];
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let verdict = if row.can_start {
                "can start"
            } else {
                "cannot start"
            };
            [
                row.name.clone(),
                row.gpus.to_string(),
                verdict.into(),
                counts(&row.starts_on),
            ]
        })
        .collect();
    let width = |column: usize| {
        let widths = cells.iter().map(|cells| cells[column].len());
        widths.max().unwrap_or(0).max(head[column].len())
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |cells: [&str; 4], tone: Tone, last: &str| {
        let [name, gpus, verdict, counts] = widths;
        let verdict = context.out.paint(tone, format!("{:verdict$}", cells[2]));
        let line = format!(
            "{:name$}  {:>gpus$}  {verdict}  {:counts$}  {last}",
            cells[0], cells[1], cells[3]
        );
        format!("{}\n", line.trim_end())
    };
    let mut text = line(head, Tone::Heading, "reason, and the smallest change");
    for (row, cells) in rows.iter().zip(&cells) {
        let [name, gpus, verdict, counts] = cells;
        let tone = if row.can_start {
            Tone::Good
        } else {
            Tone::Error
        };
        let stops = row
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| match problem.fixes.first() {
                Some(fix) => format!("{}; {}", problem.reason, recipe::change(fix)),
                None => problem.reason.clone(),
            });
        let stops: Vec<String> = stops.collect();
        text += &line([name, gpus, verdict, counts], tone, &stops.join(" | "));
    }
    text
}

/// Counts of GPUs; of many, those at the ends.
fn counts(counts: &[usize]) -> String {
    let words = |counts: &[usize]| {
        let words: Vec<String> = counts.iter().map(ToString::to_string).collect();
        words.join(", ")
    };
    match counts {
        [] => "none".into(),
        [first, second, _, _, .., last] => format!("{}, .. {last}", words(&[*first, *second])),
        few => words(few),
    }
}
