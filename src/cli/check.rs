//! Finds every problem of recipes.

mod all;

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::arguments::CheckArguments;
use super::diagnostics;
use super::{Context, Exit, Failure, Outcome};
use crate::base::Diagnostic;
use crate::recipe::{Loaded, load};

/// What `--json` says about a recipe.
#[derive(Serialize)]
struct Checked<'a> {
    path: &'a Path,
    valid: bool,
    errors: usize,
    warnings: usize,
    diagnostics: &'a [Diagnostic],
    files: &'a [std::path::PathBuf],
}

pub(super) fn run(arguments: &CheckArguments, context: &Context) -> Outcome {
    if arguments.all {
        return all::run(arguments.json, context);
    }
    let loaded: Vec<Loaded> = arguments
        .recipes
        .iter()
        .map(|path| load(path, &arguments.sets.set, &|path| fs::read_to_string(path)))
        .collect();
    if arguments.json {
        let checked: Vec<Checked<'_>> = loaded
            .iter()
            .map(|loaded| Checked {
                path: &loaded.path,
                valid: loaded.is_valid(),
                errors: loaded.errors(),
                warnings: loaded.warnings(),
                diagnostics: &loaded.diagnostics,
                files: &loaded.files,
            })
            .collect();
        context.out.json(&checked)?;
    } else {
        for loaded in &loaded {
            context
                .out
                .write(diagnostics::report(loaded, context.out.color))?;
        }
    }
    if loaded.iter().all(Loaded::is_valid) {
        Ok(())
    } else {
        Err(Failure::said(Exit::Recipe))
    }
}
