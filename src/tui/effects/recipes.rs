//! Work of the Recipes screen: listing, reading and validating, fixes, new files, launching.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Outside;
use crate::app::launch::LaunchRequest;
use crate::app::recipes::{Checked, Message as Recipes, Outcome};
use crate::app::{Message, Tone};
use crate::base::Fix;

/// Folders are followed this deep; deeper ones are no recipes of this workbench.
const DEPTH: usize = 6;

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
            if depth > 0 {
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
        let outcome = outcome(path);
        Some(Message::Recipes(Recipes::Checked(Box::new(outcome))))
    });
}

/// Reads a recipe and everything it extends, and validates it.
fn outcome(path: PathBuf) -> Outcome {
    let checked = fs::read_to_string(&path)
        .map(|text| Checked {
            text,
            files: vec![path.clone()],
            ..Checked::default()
        })
        .map_err(|error| error.to_string());
    Outcome {
        path,
        checked,
        recipe: None,
        preview: None,
    }
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
fn replace(path: &Path, text: &str) -> io::Result<()> {
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

pub(super) fn launch(outside: &Outside, request: LaunchRequest) {
    outside.worker.run(move || {
        let why = format!(
            "cannot launch {}: this build cannot resolve recipes",
            request.recipe.display()
        );
        Some(Message::Launched(Err(why)))
    });
}
