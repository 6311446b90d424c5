//! The run's recipe, and changes to it while running.

use std::path::Path;

use crate::base::Diagnostic;
use crate::event::layout;
use crate::recipe::{self, Recipe};

use super::TrainError;

/// Reads `recipe.toml` of a run.
pub(super) fn read(run: &Path) -> Result<Recipe, TrainError> {
    let path = run.join(layout::RECIPE);
    std::fs::metadata(&path).map_err(|e| TrainError::read(&path, e))?;
    let loaded = recipe::load(&path, &[], &|path: &Path| std::fs::read_to_string(path));
    if let Some(megatron) = &loaded.megatron {
        return Err(TrainError::Recipe {
            path,
            problems: format!(
                "it is for Megatron-Bridge ({}), which our own trainer cannot run",
                megatron.recipe
            ),
        });
    }
    match loaded.recipe {
        Some(recipe) if loaded.diagnostics.iter().all(|d| !is_error(d)) => Ok(recipe),
        _ => Err(TrainError::Recipe {
            path,
            problems: loaded
                .diagnostics
                .iter()
                .filter(|d| is_error(d))
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        }),
    }
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == crate::base::Severity::Error
}

/// Sets a live key; its value before and its value now, as TOML, `None` if they are equal, or why the change is refused.
pub(super) fn set_live(
    recipe: &mut Recipe,
    key: &str,
    value: &str,
) -> Result<Option<(String, String)>, String> {
    let mut changed = recipe::apply_live(recipe, key, value).map_err(|d| {
        let mut reason = d.message;
        for more in d
            .nearest
            .first()
            .map(|n| format!("nearest: {n}"))
            .into_iter()
            .chain(d.hint)
        {
            reason += "; ";
            reason += &more;
        }
        reason
    })?;
    // No live key is about the model, whose config may come from a file that has changed since.
    changed.model = recipe.model.clone();
    let text = |value: Option<recipe::Value>| value.map(|v| v.to_string()).unwrap_or_default();
    let change = recipe::diff_recipes(recipe, &changed)
        .into_iter()
        .find(|change| change.key.path == key)
        .map(|change| (text(change.from), text(change.to)));
    *recipe = changed;
    Ok(change)
}
