//! Brings recipes for Megatron-Bridge in and out: its YAML, its overrides.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use super::arguments::{ExportRecipe, ImportRecipe, RecipesAction, RecipesArguments};
use super::diagnostics::{print_to_stderr, problem};
use super::{Context, Exit, Failure, OrExit, Outcome, bundled};
use crate::recipe::{self, Known, Megatron, Published, from_yaml, load, overrides, to_yaml};

/// Most bytes of a file that are read; the reader takes fewer, and says so.
const MOST: u64 = 5 << 20;

pub(super) fn run(arguments: &RecipesArguments, context: &Context) -> Outcome {
    match &arguments.action {
        RecipesAction::Import(arguments) => import(arguments, context),
        RecipesAction::Export(arguments) => export(arguments, context),
    }
}

fn import(arguments: &ImportRecipe, context: &Context) -> Outcome {
    let path = &arguments.file;
    let text = read(path)?;
    let published = match &arguments.published {
        _ if arguments.alone => Vec::new(),
        Some(folder) => published(folder, arguments.output.as_deref())?,
        None => published(&bundled::published()?, arguments.output.as_deref())?,
    };
    let known = Known {
        recipe: arguments.recipe.clone(),
        gpus: arguments.gpus.map(|gpus| gpus as usize),
    };
    let imported = match from_yaml(path, &text, &published, &known) {
        Ok(imported) => imported,
        Err(error) => {
            print_to_stderr(&problem(&error, context.color_stderr));
            return Err(Failure::said(Exit::Recipe));
        }
    };
    for warning in &imported.warnings {
        print_to_stderr(&problem(warning, context.color_stderr));
    }
    let Some(output) = &arguments.output else {
        context.out.write(imported.toml)?;
        return Ok(());
    };
    let written =
        File::create_new(output).and_then(|mut file| file.write_all(imported.toml.as_bytes()));
    written.map_err(|error| {
        Exit::Failure.because(format!("{} cannot be written: {error}", output.display()))
    })?;
    context.out.line(output.display())?;
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |why: String| Exit::Recipe.because(format!("{} {why}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MOST).read_to_end(&mut bytes)
    } else {
        let file =
            File::open(path).map_err(|error| cannot(format!("cannot be opened: {error}")))?;
        file.take(MOST).read_to_end(&mut bytes)
    };
    read.map_err(|error| cannot(format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        cannot(format!(
            "is not UTF-8 text: byte {valid} starts no character"
        ))
    })
}

/// The recipes of a folder, named as seen from the folder of the file that will extend one.
fn published(folder: &Path, output: Option<&Path>) -> Result<Vec<Published>, Failure> {
    let listed = fs::read_dir(folder).map_err(|error| {
        Exit::Usage.because(format!("{} cannot be listed: {error}", folder.display()))
    })?;
    let mut paths: Vec<PathBuf> = listed
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    let from = output.and_then(Path::parent).unwrap_or(Path::new(""));
    let read = paths.iter().filter_map(|path| {
        let loaded = load(path, &[], &|path| fs::read_to_string(path));
        Some(Published {
            path: seen_from(from, path),
            recipe: loaded.megatron?,
        })
    });
    Ok(read.collect())
}

/// `path` relative to the folder `from`; as it is where that cannot be said.
fn seen_from(from: &Path, path: &Path) -> PathBuf {
    let from = if from.as_os_str().is_empty() {
        Path::new(".")
    } else {
        from
    };
    let (Ok(from), Ok(to)) = (from.canonicalize(), path.canonicalize()) else {
        return path.into();
    };
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

fn export(arguments: &ExportRecipe, context: &Context) -> Outcome {
    let recipe = megatron(&arguments.recipe, &arguments.sets.set)?;
    if arguments.yaml {
        context.out.write(to_yaml(&recipe))?;
        return Ok(());
    }
    let base = match &arguments.base {
        Some(path) => Some(megatron(path, &[])?),
        None if arguments.changed => Some(recipe::published(&recipe.recipe).ok_or_else(|| {
            let name = &recipe.recipe;
            Exit::Recipe
                .because(format!("no published recipe is called {name}"))
                .hint("trestle check --all lists them")
        })?),
        None => None,
    };
    for line in overrides(&recipe, base.as_ref()) {
        context.out.line(line).or_exit(Exit::Failure)?;
    }
    Ok(())
}

/// A recipe that may be unable to start: who exports it may want to see why.
fn megatron(path: &Path, sets: &[String]) -> Result<Megatron, Failure> {
    let loaded = load(path, sets, &|path| fs::read_to_string(path));
    loaded.megatron.ok_or_else(|| {
        let problems: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        let message = format!(
            "{} is no recipe for Megatron-Bridge\n{}",
            path.display(),
            problems.join("\n")
        );
        Exit::Recipe
            .because(message.trim_end())
            .hint("trestle keys megatron lists what makes it one; recipes/megatron has some")
    })
}
