//! Checks every published recipe of upstream: which can start, on which GPU counts, and what the others need.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::{Place, Severity};
use crate::cli::{Context, Exit, Failure, OrExit, Outcome};
use crate::plan::{self, Fix, Job};
use crate::recipe::{self, Loaded, Megatron, load};

/// Where the recipes lie, seen from a clone.
const FOLDER: &str = "recipes/megatron";

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
    let rows = rows(Path::new(FOLDER))?;
    let stuck = rows.iter().filter(|row| !row.can_start).count();
    if json {
        context.out.json(&rows)?;
    } else {
        for row in &rows {
            context.out.write(text(row))?;
        }
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
        Exit::Usage
            .because(format!("{} cannot be listed: {error}", folder.display()))
            .hint("run it in a clone, where the published recipes lie")
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

fn text(row: &Row) -> String {
    use std::fmt::Write;
    let counts: Vec<String> = row.starts_on.iter().map(ToString::to_string).collect();
    let counts = match &counts[..] {
        [] => "on no GPU count".into(),
        counts => format!("on {} GPUs", counts.join(", ")),
    };
    let verdict = if row.can_start {
        "can start"
    } else {
        "cannot start"
    };
    let mut text = format!(
        "{}: {verdict} on {} GPUs; starts unchanged {counts}\n",
        row.name, row.gpus
    );
    for problem in &row.problems {
        if problem.severity == Severity::Error {
            let _ = writeln!(text, "  error[{}]: {}", problem.code, problem.reason);
            if let Some(fix) = problem.fixes.first() {
                let _ = writeln!(text, "    smallest change: {}", recipe::change(fix));
            }
        }
    }
    text
}
