//! Work of the Recipes screen: listing, reading and validating, fixes, new files, launching.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Outside;
use crate::app::launch::LaunchRequest;
use crate::app::recipes::{Message as Recipes, Outcome};
use crate::app::{Message, Tone};
use crate::backend;
use crate::base::{Fix, Severity};
use crate::recipe;
use crate::run::{self, CreateRun};
use crate::telemetry::Sampler;
use crate::watch::Folder;

/// Folders are followed this deep; deeper ones are no recipes of this workbench.
const DEPTH: usize = 6;

/// What is watched: the recipes' folder in depth, and the own files of folders that recipes extend into.
pub(super) fn watched(recipes: &Path, outside: &[PathBuf]) -> Vec<Folder> {
    let mut folders = vec![Folder {
        path: recipes.to_owned(),
        depth: DEPTH,
    }];
    folders.extend(outside.iter().map(|path| Folder {
        path: path.clone(),
        depth: 0,
    }));
    folders
}

pub(super) fn list(outside: &Outside) {
    let folder = outside.recipes.clone();
    outside.worker.run(move || {
        let mut paths = Vec::new();
        let listed = walk(&folder, DEPTH, &mut paths)
            .map(|()| paths)
            .map_err(|error| format!("{}: {error}", folder.display()));
        Some(Message::Recipes(Recipes::Listed(listed)))
    });
}

/// Every `*.toml` below `folder` except hidden ones.
fn walk(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            // Parts that recipes extend are no recipes.
            if depth > 0 && entry.file_name() != "base" {
                // One folder that cannot be read does not hide the others.
                let _ = walk(&path, depth - 1, paths);
            }
        } else if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    Ok(())
}

pub(super) fn check(outside: &Outside, path: PathBuf) {
    outside.worker.run(move || {
        let outcome = Outcome::read(path, &|path| fs::read_to_string(path));
        Some(Message::Recipes(Recipes::Checked(Box::new(outcome))))
    });
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Message {
    Message::Say(Tone::Bad, format!("{what} {}: {error}", path.display()))
}

pub(super) fn apply_fix(outside: &Outside, fix: Fix, expected: Option<String>) {
    outside.worker.run(move || {
        let mut text = match fs::read_to_string(&fix.path) {
            Ok(text) => text,
            Err(error) => return Some(failed("cannot read", &fix.path, &error)),
        };
        let found = text.get(fix.span.clone());
        if found.is_none() || expected.is_some_and(|e| found != Some(e.as_str())) {
            let why = "the file changed in the meantime; look again";
            return Some(Message::Say(Tone::Bad, why.into()));
        }
        text.replace_range(fix.span, &fix.replacement);
        Some(match replace(&fix.path, &text) {
            Ok(()) => Message::Recipes(Recipes::Changed(vec![fix.path])),
            Err(error) => failed("cannot write", &fix.path, &error),
        })
    });
}

pub(super) fn replace_file(outside: &Outside, path: PathBuf, text: String) {
    outside.worker.run(move || {
        Some(match replace(&path, &text) {
            Ok(()) => Message::Recipes(Recipes::Changed(vec![path])),
            Err(error) => failed("cannot write", &path, &error),
        })
    });
}

/// Writes a file so that a reader sees the old text or the new one.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".trestle-tmp");
    let temporary = path.with_file_name(name);
    let written = fs::write(&temporary, text)
        .and_then(|()| fs::set_permissions(&temporary, fs::metadata(path)?.permissions()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error that counts is the one above.
        let _ = fs::remove_file(&temporary);
    }
    written
}

pub(super) fn create_file(outside: &Outside, path: PathBuf, text: String) {
    outside.worker.run(move || {
        let create = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = fs::File::create_new(&path)?;
            file.write_all(text.as_bytes())
        };
        Some(match create() {
            Ok(()) => Message::Recipes(Recipes::Created(path)),
            Err(error) => failed("cannot write", &path, &error),
        })
    });
}

/// Looks at the machine, without the counters that have to be waited for.
pub(super) fn look(outside: &Outside) {
    outside.worker.run(move || {
        let sample = Box::new(Sampler::new().sample(None, false));
        Some(Message::Recipes(Recipes::Looked(sample)))
    });
}

pub(super) fn launch(outside: &Outside, request: LaunchRequest) {
    let runs = outside.runs.clone();
    outside
        .worker
        .run(move || Some(Message::Launched(start(&request, runs.as_deref()))));
}

/// Resolves the recipe, makes its run directory and starts the trainer.
fn start(request: &LaunchRequest, runs: Option<&Path>) -> Result<PathBuf, String> {
    let read = |path: &Path| fs::read_to_string(path);
    let loaded = recipe::load(&request.recipe, &request.sets, &read);
    let Some(resolved) = loaded.recipe else {
        let first = loaded
            .diagnostics
            .into_iter()
            .find(|d| d.severity == Severity::Error);
        return Err(first.map_or_else(
            || "the recipe is not valid".to_owned(),
            |problem| format!("{} ({})", problem.message, problem.place),
        ));
    };
    // With its overrides, and with what is free at this moment.
    if request.check_memory {
        let sample = Sampler::new().sample(None, false);
        if let Some(why) = request.refusal(&resolved, &sample) {
            return Err(why);
        }
    }
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let resolved = resolved.with_absolute_paths(&here);
    let name = request.name.clone().unwrap_or_else(|| {
        let stem = request.recipe.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    });
    let folder = runs.map_or_else(|| resolved.logging.runs.clone(), Path::to_owned);
    let new = CreateRun {
        name,
        recipe_toml: recipe::to_toml(&resolved),
        source: Some(request.recipe.clone()),
        overrides: request.sets.clone(),
        parent: None,
        tags: request.tags.clone(),
    };
    let run = run::create(&folder, new).map_err(|error| error.to_string())?;
    backend::local::spawn(&run).map_err(|error| error.to_string())?;
    Ok(run.path)
}
