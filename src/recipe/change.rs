//! What differs between two recipes, and which of it a running trainer can take.

use std::io;
use std::path::Path;

use super::document;
use super::flat;
use super::key::{self, Key};
use super::load::{Loaded, load};
use super::overlay::parse;
use super::print::to_toml;
use super::resolved::Recipe;
use super::value::Value;
use crate::base::{Diagnostic, Place, Severity};

/// A key with two values.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The key.
    pub key: &'static Key,
    /// Its value before; none if it had none.
    pub from: Option<Value>,
    /// Its value after.
    pub to: Option<Value>,
}

impl Change {
    /// Whether a running trainer can take it.
    pub fn is_live(&self) -> bool {
        self.key.live && self.to.is_some()
    }
}

/// The keys whose values differ, in the order of the key table. Of a recipe with errors, what it says counts.
pub fn diff(before: &Loaded, after: &Loaded) -> Vec<Change> {
    changes(|key| {
        let value = |loaded: &Loaded| loaded.values.get(key).map(|l| l.value.clone());
        // How a geometry is written does not matter when both are known.
        let both = before.recipe.is_some() && after.recipe.is_some();
        if both && matches!(key, "model.size" | "model.hf" | "extends") {
            return (None, None);
        }
        (value(before), value(after))
    })
}

/// The keys whose values differ between two resolved recipes.
pub fn diff_recipes(before: &Recipe, after: &Recipe) -> Vec<Change> {
    let (before, after) = (flat::values(before), flat::values(after));
    changes(|key| (before.get(key).cloned(), after.get(key).cloned()))
}

fn changes(values: impl Fn(&str) -> (Option<Value>, Option<Value>)) -> Vec<Change> {
    key::KEYS
        .iter()
        .filter_map(|key| {
            let (from, to) = values(key.path);
            (from != to).then_some(Change { key, from, to })
        })
        .collect()
}

/// The value of a live key, as typed by a person who wants a running trainer to take it; or why it cannot be.
pub fn parse_live(path: &str, text: &str) -> Result<Value, Box<Diagnostic>> {
    let place = Place::CommandLine {
        argument: format!("{path}={text}"),
    };
    let Some(key) = key::find(path) else {
        let (prefix, name) = path.rsplit_once('.').unwrap_or(("", path));
        return Err(document::unknown_key(prefix, name, place).into());
    };
    if !key.live {
        return Err(Box::new(Diagnostic {
            severity: Severity::Error,
            code: "E0210",
            message: format!("`{path}` cannot be changed while a trainer runs"),
            place,
            key: Some(path.into()),
            hint: Some("fork the run with the new value; `trestle keys` marks live keys".into()),
            nearest: Vec::new(),
            fix: None,
        }));
    }
    parse(key, text).map_err(|wrong| document::wrong_value(key, wrong, place).into())
}

/// The recipe with one live key changed, if every rule still holds.
pub fn apply_live(recipe: &Recipe, path: &str, text: &str) -> Result<Recipe, Box<Diagnostic>> {
    let value = parse_live(path, text)?;
    // The resolved document is loaded again, so that every rule speaks.
    let document = to_toml(recipe);
    let set = format!("{path}={value}");
    let read = |_: &Path| -> io::Result<String> { Ok(document.clone()) };
    let loaded = load(Path::new("recipe.toml"), std::slice::from_ref(&set), &read);
    let error = loaded
        .diagnostics
        .into_iter()
        .find(|d| d.severity == Severity::Error);
    match (loaded.recipe, error) {
        (Some(changed), None) => Ok(changed),
        (_, Some(mut error)) => {
            error.place = Place::CommandLine { argument: set };
            error.fix = None;
            Err(error.into())
        }
        (None, None) => Err(Box::new(Diagnostic {
            severity: Severity::Error,
            code: "E0300",
            message: format!("`{path}` = {value} leaves no valid recipe"),
            place: Place::CommandLine { argument: set },
            key: Some(path.into()),
            hint: None,
            nearest: Vec::new(),
            fix: None,
        })),
    }
}
