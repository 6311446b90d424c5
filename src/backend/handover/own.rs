//! A recipe of our own trainer, handed to a recipe of upstream by its sizes, degrees and rates.

use std::path::{Path, PathBuf};

use super::{Extra, Handover, Unsaid, absolute, mode_of, upstream};
use crate::backend::Job;
use crate::backend::job::{Folders, Sizes};
use crate::backend::preflight::Finding;
use crate::plan;
use crate::recipe::{self, Init, Megatron, Recipe};
use crate::spec::ModelConfig;

pub(super) fn hand_over(
    recipe: &Recipe,
    name: &str,
    extra: &Extra,
    here: &Path,
) -> Result<Handover, Unsaid> {
    let Some(upstream) = extra.upstream.clone() else {
        return Err(unsaid(recipe));
    };
    let base = recipe::published(&upstream);
    let pretrained = match (&extra.pretrained, &recipe.model.init) {
        (Some(folder), _) | (None, Init::HuggingFace(folder)) => Some(absolute(folder, here)),
        (None, Init::Random) => None,
    };
    let (train, schedule) = (&recipe.train, &recipe.schedule);
    let model = ModelConfig::from(recipe.model.config.clone());
    let planned = plan::Job::new(model, recipe::degrees(recipe), recipe::batch_shape(recipe));
    let mode = mode_of(&upstream);
    let mut overrides = Vec::new();
    let depth = recipe.model.config.mtp_num_hidden_layers;
    let theirs = base
        .as_ref()
        .map(|base| base.model.text.mtp_num_hidden_layers);
    if theirs != Some(depth) {
        let value = if depth == 0 {
            "null".to_owned()
        } else {
            depth.to_string()
        };
        overrides.push(("model.mtp_num_layers".to_owned(), value));
    }
    let job = Job {
        name: name.to_owned(),
        recipe: upstream.clone(),
        mode: None,
        model: recipe.model.name.clone(),
        parallel: recipe.parallel.clone(),
        ranks: None,
        mtp_depth: depth,
        sizes: Sizes {
            steps: Some(train.steps),
            seq_length: Some(train.seq_length),
            micro_batch_size: Some(train.micro_batch_size),
            global_batch_size: Some(train.global_batch_size),
            lr: Some(recipe.optimizer.lr),
            min_lr: Some(schedule.min_lr),
            warmup_steps: Some(schedule.warmup_steps),
            decay_steps: Some(schedule.decay_steps),
            save_interval: Some(match recipe.checkpoint.interval {
                0 => train.steps,
                interval => interval,
            }),
        },
        overrides,
        environment: std::collections::BTreeMap::new(),
        dataset: None,
        saves: true,
        folders: Folders {
            pretrained,
            run: PathBuf::new(),
            ..Folders::default()
        },
        accepted: Vec::new(),
    };
    let mut findings = Vec::new();
    differences(recipe, base.as_ref(), &upstream, extra, &mut findings);
    let base_text = |key: &str| base.as_ref().and_then(|b| b.text(key)).map(str::to_owned);
    Ok(Handover {
        job,
        planned,
        hardware: base_text("megatron.hardware"),
        gpus_per_node: None,
        needs_weights: matches!(mode, Some("sft" | "lora" | "dora")),
        source: match &recipe.model.init {
            Init::HuggingFace(folder) => Some(folder.display().to_string()),
            Init::Random => base_text("megatron.model.hf_model_id"),
        },
        recipe_toml: recipe::to_toml(recipe),
        findings,
    })
}

/// Which of upstream's recipes could be meant.
fn unsaid(recipe: &Recipe) -> Unsaid {
    let of_size: Vec<String> = recipe::published_paths()
        .filter_map(|path| recipe::load_bundled(&path.to_string_lossy(), &[]).megatron)
        .filter(|other| upstream::geometry(&recipe.model.config, &other.model.text).is_none())
        .map(|other| other.recipe)
        .collect();
    let such = if of_size.is_empty() {
        "none is published for this geometry".to_owned()
    } else {
        format!("of this size: {}", of_size.join(", "))
    };
    Unsaid {
        message: "the recipe does not say which of Megatron-Bridge's recipes it is".to_owned(),
        hint: Some(format!("--upstream NAME; {such}")),
    }
}

/// What Bridge does otherwise than our trainer would.
fn differences(
    recipe: &Recipe,
    base: Option<&Megatron>,
    upstream: &str,
    extra: &Extra,
    found: &mut Vec<Finding>,
) {
    match base {
        None => found.push(Finding::warning(
            "upstream",
            format!("no published recipe is called {upstream}: its model is not compared"),
            None,
        )),
        Some(base) => {
            if let Some(difference) = upstream::geometry(&recipe.model.config, &base.model.text) {
                found.push(Finding::error(
                    "model",
                    format!(
                        "{upstream} is of {}, and the recipe's model has another {difference}",
                        base.model_name
                    ),
                    unsaid(recipe).hint,
                ));
            }
        }
    }
    let is_said = extra
        .options
        .iter()
        .any(|option| option.starts_with("dataset."));
    if !is_said {
        found.push(Finding::warning(
            "data",
            format!("Bridge reads other data than our trainer: that of {upstream} is used, not [data] of the recipe"),
            Some("--option dataset.KEY=VALUE says other data".to_owned()),
        ));
    }
}
