//! Writes a resolved recipe as a document of its own.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::flat;
use super::key::KEYS;
use super::resolved::{DataSource, Init, Recipe};
use super::value::Value;

/// The recipe as TOML with every value in it. Loading it gives an equal recipe if its paths are absolute; make them so with
/// [`Recipe::with_absolute_paths`].
pub fn to_toml(recipe: &Recipe) -> String {
    let values = flat::values(recipe);
    let title = "# Resolved by trestle: every value, defaults included.\n";
    document(title, |key| values.get(key).cloned())
}

/// A document with the values of keys, in the order of the table; the keys of a section stand together.
pub(super) fn document(title: &str, value: impl Fn(&str) -> Option<Value>) -> String {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for key in KEYS {
        let Some(value) = value(key.path) else {
            continue;
        };
        let known = sections.iter().position(|(name, _)| *name == key.section());
        let at = known.unwrap_or_else(|| {
            sections.push((key.section(), String::new()));
            sections.len() - 1
        });
        let _ = writeln!(sections[at].1, "{} = {value}", key.name());
    }
    let mut text = String::from(title);
    for (name, lines) in sections {
        if !name.is_empty() {
            let _ = writeln!(text, "\n[{name}]");
        }
        text += &lines;
    }
    text
}

impl Recipe {
    /// The recipe with every relative path joined to `folder`, which should be absolute.
    #[must_use]
    pub fn with_absolute_paths(mut self, folder: &Path) -> Self {
        let join = |path: &mut PathBuf| *path = folder.join(&*path);
        if let Init::HuggingFace(path) = &mut self.model.init {
            join(path);
        }
        for source in &mut self.data.sources {
            match source {
                DataSource::Bundled => {}
                DataSource::Text { glob } | DataSource::Jsonl { glob, .. } => {
                    *glob = folder.join(&*glob).to_string_lossy().into_owned();
                }
            }
        }
        self.data.tokenizer.as_mut().map(join);
        self.data.cache.as_mut().map(join);
        join(&mut self.logging.runs);
        self
    }
}
