//! Starts a run from a checkpoint of another.

use std::path::Path;

use super::arguments::ForkArguments;
use super::train::{check, start};
use super::{Context, Exit, OrExit, Outcome};
use crate::base::Severity;
use crate::checkpoint::training;
use crate::event::{Parent, layout};
use crate::recipe;
use crate::run::{self, CreateRun};

pub(super) fn run(arguments: &ForkArguments, context: &Context) -> Outcome {
    let runs = context.runs_dir();
    let parent = run::find(&runs, &arguments.run)?;
    let checkpoint = match arguments.step {
        Some(step) => Some(layout::checkpoint(&parent.path, step)).filter(|path| path.is_dir()),
        None => training::latest(&parent.path).or_exit(Exit::Data)?,
    };
    let Some(checkpoint) = checkpoint else {
        let wanted = match arguments.step {
            Some(step) => format!("no checkpoint of step {step}"),
            None => "no checkpoint".to_owned(),
        };
        return Err(Exit::Data
            .because(format!("{} has {wanted}", parent.id()))
            .hint(steps_of(&parent.path)));
    };
    let step = checkpoint
        .file_name()
        .and_then(|name| layout::checkpoint_step(&name.to_string_lossy()))
        .unwrap_or_default();
    // What was changed while the parent ran holds for the fork too, unless it says otherwise.
    let mut sets = crate::train::live_values(&checkpoint).map_err(super::trainer::failure)?;
    sets.extend(arguments.sets.set.iter().cloned());
    let path = parent.join(layout::RECIPE);
    let loaded = recipe::load(&path, &sets, &|path: &Path| std::fs::read_to_string(path));
    let problems: Vec<String> = loaded
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .map(ToString::to_string)
        .collect();
    let recipe = match loaded.recipe {
        Some(recipe) if problems.is_empty() => recipe,
        _ => {
            return Err(Exit::Recipe.because(format!(
                "the fork's recipe is not valid\n{}",
                problems.join("\n")
            )));
        }
    };
    check(&recipe)?;
    let name = arguments
        .name
        .clone()
        .unwrap_or_else(|| parent.info.name.clone());
    let run = run::create(
        parent.path.parent().unwrap_or(&runs),
        CreateRun {
            name,
            recipe_toml: recipe::to_toml(&recipe),
            source: parent.info.source.clone(),
            overrides: arguments.sets.set.clone(),
            parent: Some(Parent {
                run: parent.id().to_owned(),
                checkpoint,
                step,
            }),
            ..CreateRun::default()
        },
    )?;
    start(&run, arguments.detach, arguments.json, context)
}

fn steps_of(run: &Path) -> String {
    let mut steps: Vec<u64> = std::fs::read_dir(run.join(layout::CHECKPOINTS))
        .into_iter()
        .flatten()
        .filter_map(|entry| layout::checkpoint_step(&entry.ok()?.file_name().to_string_lossy()))
        .collect();
    steps.sort_unstable();
    if steps.is_empty() {
        return "`trestle checkpoint RUN` makes one while the run is trained".to_owned();
    }
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    format!("there are checkpoints of steps {}", steps.join(", "))
}
