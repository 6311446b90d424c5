//! Recipes for Megatron-Bridge: jobs that are planned and launched here and trained there.
//!
//! A recipe with a key below `megatron` is one. It shares `[model]`, `[parallel]`, batch, optimizer and schedule with recipes of our own
//! trainer, and says the rest under Bridge's own names. What it does not say is as upstream's recipe of that name says it.

mod job;
mod option;
mod overrides;
mod resolve;
mod yaml;

use super::flat::Values;
use super::key::KEYS;
use super::overlay::Overlay;
use super::value::Value;
use crate::plan::{BatchShape, Degrees};
use crate::spec::ModelConfig;

pub use option::{key_of, options};
pub use overrides::{overrides, settings};
pub(super) use resolve::resolve;
pub use yaml::{Imported, Known, Published, from_yaml, to_yaml};

/// A resolved recipe for Megatron-Bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Megatron {
    /// Upstream's name of the recipe.
    pub recipe: String,
    /// Registry name of the model, or the name of the directory it comes from.
    pub model_name: String,
    /// Geometry; the MTP depth is the model's (R6).
    pub model: ModelConfig,
    /// GPUs of the job.
    pub gpus: usize,
    /// How they are used; `dp` is what the other degrees leave.
    pub degrees: Degrees,
    /// Sizes of the batch.
    pub batch: BatchShape,
    /// What was said, by key: the recipe, what it extends, `--set`. Nothing that is only a default.
    values: Values,
}

impl Megatron {
    /// What the recipe says about a key; nothing where it leaves that to upstream.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Every value that was said, in the order of [`KEYS`].
    pub fn said(&self) -> impl Iterator<Item = (&'static super::Key, &Value)> {
        KEYS.iter()
            .filter_map(|key| Some((key, self.values.get(key.path)?)))
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Whether a switch is on; off where nothing is said.
    pub fn is_on(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Boolean(true)))
    }

    /// The entries of a table: `megatron.env` or `megatron.overrides`.
    pub fn entries(&self, key: &str) -> &[(String, Value)] {
        match self.get(key) {
            Some(Value::Table(entries)) => entries,
            _ => &[],
        }
    }

    /// The recipe as a document of its own: what was said, without what it extended.
    pub fn to_toml(&self) -> String {
        super::print::document(
            "# Resolved by trestle: every value that is said; the rest is upstream's.\n",
            |key| self.values.get(key).cloned(),
        )
    }
}

/// Whether an overlay is a recipe for Megatron-Bridge.
pub(super) fn is_one(overlay: &Overlay) -> bool {
    overlay
        .values
        .keys()
        .chain(&overlay.wrong)
        .any(|key| key.starts_with("megatron."))
}
