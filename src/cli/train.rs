//! Trains a recipe headless.

use std::path::{Path, PathBuf};

use super::arguments::TrainArguments;
use super::follow::{follow, how_to_come_back};
use super::{Context, Exit, Failure, OrExit, Outcome, trainer};
use crate::backend::local;
use crate::base::Severity;
use crate::data::{Loader, Split};
use crate::recipe::{self, Recipe};
use crate::run::{self, CreateRun, RunDirectory, Tail};
use crate::train;

pub(super) fn run(arguments: &TrainArguments, context: &Context) -> Outcome {
    let mut sets = arguments.sets.set.clone();
    sets.extend(arguments.steps.map(|n| format!("train.steps={n}")));
    let recipe = load(&arguments.recipe, &sets)?;
    check(&recipe)?;
    let name = arguments.name.clone().unwrap_or_else(|| {
        let stem = arguments.recipe.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    });
    let runs = context
        .runs
        .clone()
        .unwrap_or_else(|| recipe.logging.runs.clone());
    let run = run::create(
        &runs,
        CreateRun {
            name,
            recipe_toml: recipe::to_toml(&recipe),
            source: Some(arguments.recipe.clone()),
            overrides: sets,
            ..CreateRun::default()
        },
    )?;
    start(&run, arguments.detach, arguments.json, context)
}

/// Loads a recipe with absolute paths; its problems go to standard error.
fn load(path: &Path, sets: &[String]) -> Result<Recipe, Failure> {
    let loaded = recipe::load(path, sets, &|path: &Path| std::fs::read_to_string(path));
    let text: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    if let Some(megatron) = &loaded.megatron {
        return Err(not_ours(path, &megatron.recipe));
    }
    match loaded.recipe {
        Some(recipe)
            if loaded
                .diagnostics
                .iter()
                .all(|d| d.severity < Severity::Error) =>
        {
            if !text.is_empty() {
                use std::io::Write;
                // Warnings do not stop a run, and neither does a closed standard error.
                let _ = writeln!(std::io::stderr(), "{}", text.join("\n"));
            }
            Ok(recipe.with_absolute_paths(&working_folder()?))
        }
        _ => Err(Exit::Recipe.because(format!(
            "{} cannot be trained\n{}",
            path.display(),
            text.join("\n")
        ))),
    }
}

/// Why our own trainer does not start a recipe for Megatron-Bridge, and what does.
pub(super) fn not_ours(path: &Path, upstream: &str) -> Failure {
    let path = path.display();
    Exit::Recipe
        .because(format!(
            "{path} is for Megatron-Bridge ({upstream}): our own trainer has one GPU and other options, so it cannot run it here"
        ))
        .hint(format!(
            "`trestle launch {path} --on torchrun` trains it on the GPUs of this machine, `--on slurm` in a cluster; `--dry-run` shows the script"
        ))
}

fn working_folder() -> Result<PathBuf, Failure> {
    Ok(std::env::current_dir()?)
}

/// Refuses what the trainer would refuse, before there is a run: an absent device, missing or bad text.
pub(super) fn check(recipe: &Recipe) -> Outcome {
    train::check(recipe).map_err(trainer::failure)?;
    let folder = working_folder()?;
    Loader::open(recipe, Split::Train, &folder).or_exit(Exit::Data)?;
    if recipe.train.eval_interval > 0 {
        Loader::open(recipe, Split::Validation, &folder).or_exit(Exit::Data)?;
    }
    Ok(())
}

/// Starts the trainer of `run` and follows it, or says how to.
pub(super) fn start(run: &RunDirectory, detach: bool, json: bool, context: &Context) -> Outcome {
    let tail = Tail::from_end(&run.path)?;
    let pid = local::spawn(run)?;
    if detach {
        if json {
            return Ok(context.out.json(&serde_json::json!({
                "run": run.id(),
                "path": run.path,
                "pid": pid,
            }))?);
        }
        context.out.line(run.id())?;
        return Ok(());
    }
    if !json {
        context.out.line(format_args!(
            "{} in {} (process {pid}); {}",
            run.id(),
            run.path.display(),
            how_to_come_back(run)
        ))?;
    }
    follow(run, tail, pid, json, context)
}
