//! From a path to a recipe, with everything that is wrong on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::key::{Fallback, KEYS};
use super::overlay::{self, Loader, Located, Overlay};
use super::report::Report;
use super::resolved::Recipe;
use super::value::Value;
use super::{Megatron, document, flat, megatron, model, rule};
use crate::base::{Diagnostic, Place, Severity};

/// What came of loading a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The file, without `.` and `..`.
    pub path: PathBuf,
    /// The recipe of our own trainer, if it is one and there are no errors.
    pub recipe: Option<Recipe>,
    /// The recipe for Megatron-Bridge, if it is one that could be read; there may be errors all the same.
    pub megatron: Option<Megatron>,
    /// Every problem, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// Every value with its origin, by dotted key. Defaults that follow from other values are there only if there is a recipe.
    pub values: BTreeMap<&'static str, Located>,
    /// Every file the outcome depends on, those that are missing too; the recipe itself first.
    pub files: Vec<PathBuf>,
    /// The recipes that the file itself extends.
    pub extends: Vec<PathBuf>,
}

impl Loaded {
    /// Whether it can be trained or launched.
    pub fn is_valid(&self) -> bool {
        self.recipe.is_some() || self.megatron.is_some() && self.errors() == 0
    }

    /// Whether the document itself is right: what errors there are, the plan of its job has found.
    ///
    /// Codes of the planner are words (`heads-by-tp`), those of documents are a letter and digits (`E0201`).
    pub fn is_readable(&self) -> bool {
        let is_word = |code: &str| code.starts_with(|c: char| c.is_ascii_lowercase());
        let mut errors = self.diagnostics.iter();
        errors.all(|d| d.severity != Severity::Error || is_word(d.code))
    }

    /// Problems that keep the recipe from running.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Problems that the user should know.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        let is_it = |d: &&Diagnostic| d.severity == severity;
        self.diagnostics.iter().filter(is_it).count()
    }
}

/// Loads a recipe: the file, what it extends, then `sets` (`key=value`), then defaults.
///
/// Paths in the result are joined with the folder of the file that says them; those of `sets` and `logging.runs` stay as they are.
pub fn load(path: &Path, sets: &[String], loader: &Loader<'_>) -> Loaded {
    let mut overlay = overlay::collect(path, sets, loader);
    let path = overlay::normalize(path);
    let mut files = std::mem::take(&mut overlay.files);
    let mut diagnostics = std::mem::take(&mut overlay.diagnostics);
    let mut report = Report::new(&overlay, document::place(&path, "", 0..0));
    let mut values = overlay.values.clone();
    let mut recipe = None;
    let mut upstream = None;
    if megatron::is_one(&overlay) {
        upstream = megatron::resolve(&overlay, &mut report, loader, &mut files, &mut values);
    } else {
        let model = model::resolve(&overlay, &mut report, loader, &mut files);
        values = complete(&overlay);
        recipe = model.and_then(|model| {
            let plain = values.iter().map(|(key, l)| (*key, l.value.clone()));
            flat::recipe(&plain.collect(), model)
        });
    }
    if let Some(recipe) = &recipe {
        // What a broken statement would have said is not known.
        if !overlay.is_broken {
            rule::check(recipe, &overlay, &mut report);
        }
        fill(&mut values, recipe, &overlay);
    }
    if let (Some(upstream), false) = (&upstream, overlay.is_broken) {
        rule::check_megatron(upstream, &mut report);
    }
    // A rule over a default that stands in for a wrong value would blame the wrong key.
    diagnostics.extend(report.diagnostics.into_iter().filter(|diagnostic| {
        let names = |key: &str| {
            diagnostic.key.as_deref() == Some(key)
                || Report::named_in(&diagnostic.message).contains(&key)
        };
        !overlay.wrong.iter().any(|key| names(key))
    }));
    diagnostics.dedup();
    let order = |diagnostic: &Diagnostic| match &diagnostic.place {
        Place::File { path, span, .. } => (
            files.iter().position(|f| f == path).unwrap_or(files.len()),
            span.start,
        ),
        Place::CommandLine { .. } | Place::Default => (usize::MAX, 0),
    };
    diagnostics.sort_by_key(order);
    let is_valid = diagnostics.iter().all(|d| d.severity != Severity::Error);
    Loaded {
        path,
        recipe: recipe.filter(|_| is_valid),
        megatron: upstream,
        diagnostics,
        values,
        files,
        extends: overlay.extends,
    }
}

/// Adds the defaults that the table of keys has, and those that follow from other values.
fn complete(overlay: &Overlay) -> BTreeMap<&'static str, Located> {
    let mut values = overlay.values.clone();
    for key in KEYS {
        if let Some(value) = overlay::default_of(key) {
            values.entry(key.path).or_insert_with(|| default(value));
        }
    }
    let get = |values: &BTreeMap<&'static str, Located>, key: &str| {
        values
            .get(key)
            .and_then(|l| l.value.as_f64())
            .unwrap_or(0.0)
    };
    let derive = |values: &mut BTreeMap<&'static str, Located>, key, from: &str, value| {
        values.entry(key).or_insert_with(|| Located {
            derived_from: Some(from.into()),
            ..default(value)
        });
    };
    let steps = get(&values, "train.steps") as i64;
    derive(
        &mut values,
        "schedule.warmup_steps",
        "train.steps",
        Value::Integer((steps / 20).min(500)),
    );
    derive(
        &mut values,
        "schedule.decay_steps",
        "train.steps",
        Value::Integer(steps),
    );
    let decay = get(&values, "schedule.decay_steps") as i64;
    derive(
        &mut values,
        "schedule.wsd_decay_steps",
        "schedule.decay_steps",
        Value::Integer(decay / 10),
    );
    let lr = get(&values, "optimizer.lr");
    derive(
        &mut values,
        "schedule.min_lr",
        "optimizer.lr",
        Value::Float(lr / 10.0),
    );
    values
}

/// Adds what only the resolved recipe knows: the geometry.
fn fill(values: &mut BTreeMap<&'static str, Located>, recipe: &Recipe, overlay: &Overlay) {
    let origin = model::origin(overlay);
    for (key, value) in flat::values(recipe) {
        values.entry(key).or_insert_with(|| Located {
            derived_from: origin
                .as_ref()
                .filter(|_| key.starts_with("model."))
                .map(|(key, _)| (*key).into())
                .or_else(|| follows(key)),
            ..default(value)
        });
    }
}

fn follows(key: &str) -> Option<String> {
    match super::key::find(key)?.default {
        // Without a size the family's value counts.
        Fallback::Derived(words) if !words.starts_with("from model.size") => Some(words.into()),
        _ => None,
    }
}

fn default(value: Value) -> Located {
    Located {
        value,
        place: Place::Default,
        derived_from: None,
        base: None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn loaded(text: &str) -> Loaded {
        load(
            Path::new("a.toml"),
            &[],
            &|_: &Path| -> io::Result<String> { Ok(text.into()) },
        )
    }

    #[test]
    fn a_rule_stays_silent_about_a_value_that_is_wrong_by_itself() {
        let loaded = loaded(
            "[model]\nsize = \"toy\"\n[train]\nsteps = -5\n[schedule]\nwarmup_steps = 2000\n",
        );
        let codes: Vec<_> = loaded.diagnostics.iter().map(|d| d.code).collect();
        assert_eq!(codes, ["E0201"]);
    }

    #[test]
    fn defaults_follow_the_values_they_derive_from() {
        let loaded =
            loaded("[model]\nsize = \"toy\"\n[train]\nsteps = 100\n[optimizer]\nlr = 1e-2\n");
        let recipe = loaded.recipe.expect("valid");
        assert_eq!(recipe.schedule.warmup_steps, 5);
        assert_eq!(recipe.schedule.decay_steps, 100);
        assert_eq!(recipe.schedule.min_lr, 1e-3);
        let origin = &loaded.values["model.hidden_size"];
        assert_eq!(origin.derived_from.as_deref(), Some("model.size"));
    }
}
