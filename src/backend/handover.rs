//! From a recipe to a [`Job`] of Megatron-Bridge.
//!
//! A recipe of `recipes/megatron` names upstream's recipe and is handed over as what differs from it. A recipe of our own trainer is handed over
//! by its sizes, degrees and rates, to a recipe of upstream that the user names; what Bridge would do otherwise is said.

mod own;
mod upstream;

use std::path::{Path, PathBuf};

use super::Job;
use super::preflight::Finding;
use crate::plan;
use crate::recipe::Loaded;

/// What is said beside the recipe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// Upstream's name of the recipe.
    pub upstream: Option<String>,
    /// Weights to start from.
    pub pretrained: Option<PathBuf>,
    /// Options of Bridge's configuration, `KEY=VALUE`.
    pub options: Vec<String>,
}

/// A job with what is known of it beyond its command.
#[derive(Debug, Clone, PartialEq)]
pub struct Handover {
    /// The job; its folders are those that the recipe names, the rest is empty.
    pub job: Job,
    /// What the planner is asked.
    pub planned: plan::Job,
    /// The machine it is for, by name.
    pub hardware: Option<String>,
    /// GPUs of a node of that machine, where the recipe says it.
    pub gpus_per_node: Option<usize>,
    /// Whether weights are needed to start from.
    pub needs_weights: bool,
    /// Where they can be had: a folder of Hugging Face weights or an id of the Hub.
    pub source: Option<String>,
    /// The recipe as the run directory keeps it.
    pub recipe_toml: String,
    /// What the hand-over itself found.
    pub findings: Vec<Finding>,
}

/// Why a recipe cannot be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaid {
    /// What is missing.
    pub message: String,
    /// What to say.
    pub hint: Option<String>,
}

/// Turns a recipe that was loaded without errors of its own into a job called `name`. Relative paths are those of `here`.
pub fn hand_over(
    loaded: &Loaded,
    name: &str,
    extra: &Extra,
    here: &Path,
) -> Result<Handover, Unsaid> {
    let mut handed = match (&loaded.megatron, &loaded.recipe) {
        (Some(recipe), _) => Ok(upstream::hand_over(recipe, name, extra, here)),
        (None, Some(recipe)) => own::hand_over(recipe, name, extra, here),
        (None, None) => Err(Unsaid {
            message: format!("{} is not valid", loaded.path.display()),
            hint: None,
        }),
    }?;
    for option in &extra.options {
        let Some((key, value)) = option.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Unsaid {
                message: format!("--option {option}: KEY=VALUE is missing its ="),
                hint: None,
            });
        };
        handed
            .job
            .overrides
            .push((key.to_owned(), value.to_owned()));
    }
    Ok(handed)
}

/// The mode that upstream reads from a recipe's name; `None` where the name does not tell.
fn mode_of(recipe: &str) -> Option<&'static str> {
    let modes: [(&str, &[&str]); 4] = [
        ("pretrain", &["_pretrain_"]),
        ("sft", &["_sft_", "_finetune_"]),
        ("dora", &["_dora_"]),
        ("lora", &["_peft_", "_lora_"]),
    ];
    let is_in = |words: &[&str]| words.iter().any(|word| recipe.contains(word));
    modes
        .iter()
        .find(|(_, words)| is_in(words))
        .map(|(mode, _)| *mode)
}

fn absolute(path: &Path, here: &Path) -> PathBuf {
    here.join(path)
}
