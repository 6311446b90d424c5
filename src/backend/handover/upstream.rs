//! A recipe of `recipes/megatron`: upstream's recipe of its name, and what differs from it.

use std::path::{Path, PathBuf};

use super::{Extra, Handover, absolute, mode_of};
use crate::backend::Job;
use crate::backend::job::{Folders, Sizes};
use crate::backend::preflight::Finding;
use crate::recipe::{self, Megatron, Parallel, Value};
use crate::spec::TextConfig;

pub(super) fn hand_over(recipe: &Megatron, name: &str, extra: &Extra, here: &Path) -> Handover {
    let upstream = extra.upstream.as_ref().unwrap_or(&recipe.recipe);
    let base = recipe::published(upstream);
    let count = |key: &str| usize::try_from(recipe.get(key)?.as_i64()?).ok();
    let mut job = Job {
        name: name.to_owned(),
        recipe: upstream.clone(),
        mode: match mode_of(upstream) {
            Some(_) => None,
            None => mode(recipe).map(str::to_owned),
        },
        model: recipe.model_name.clone(),
        parallel: parallel(recipe),
        ranks: Some(recipe.gpus),
        mtp_depth: recipe.model.text.mtp_num_hidden_layers,
        sizes: sizes(recipe),
        overrides: Vec::new(),
        environment: environment(recipe),
        dataset: dataset(recipe, base.as_ref()),
        saves: recipe.get("megatron.checkpoints") != Some(&Value::Boolean(false)),
        folders: folders(recipe, base.as_ref(), extra, here),
        accepted: Vec::new(),
    };
    // Without interleaving the option is null, which no argument can say.
    job.overrides = recipe::overrides(recipe, base.as_ref())
        .iter()
        .filter_map(|word| word.split_once('='))
        .filter(|(path, _)| !job.says(path))
        .map(|(path, value)| (path.to_owned(), value.to_owned()))
        .collect();
    let mut findings = Vec::new();
    differences(recipe, base.as_ref(), upstream, &mut findings);
    if let Some(precision) = precision(recipe, base.as_ref()) {
        job.overrides
            .push(("mixed_precision".to_owned(), precision.to_owned()));
    }
    Handover {
        needs_weights: matches!(mode(recipe), Some("sft" | "lora" | "dora")),
        planned: recipe.job(),
        hardware: recipe.text("megatron.hardware").map(str::to_owned),
        gpus_per_node: count("megatron.gpus_per_node"),
        source: recipe.text("megatron.model.hf_model_id").map(str::to_owned),
        recipe_toml: recipe.to_toml(),
        findings,
        job,
    }
}

/// Upstream's word for what is trained.
fn mode(recipe: &Megatron) -> Option<&'static str> {
    match recipe.text("megatron.mode")? {
        "pretrain" => Some("pretrain"),
        "sft" => Some("sft"),
        _ if recipe.text("megatron.peft_scheme") == Some("dora") => Some("dora"),
        _ => Some("lora"),
    }
}

fn parallel(recipe: &Megatron) -> Parallel {
    let d = recipe.degrees;
    Parallel {
        tp: d.tp,
        pp: d.pp,
        vpp: d.vpp,
        cp: d.cp,
        ep: d.ep,
        etp: d.etp,
        dp: d.dp,
        sequence_parallel: d.sequence_parallel,
    }
}

fn sizes(recipe: &Megatron) -> Sizes {
    let number = |key: &str| recipe.get(key).and_then(Value::as_i64);
    let whole = |key: &str| number(key).and_then(|n| u64::try_from(n).ok());
    let rate = |key: &str| recipe.get(key).and_then(Value::as_f64);
    Sizes {
        steps: whole("train.steps"),
        seq_length: Some(recipe.batch.seq_length),
        micro_batch_size: Some(recipe.batch.micro_batch_size),
        global_batch_size: Some(recipe.batch.global_batch_size),
        lr: rate("optimizer.lr"),
        min_lr: rate("schedule.min_lr"),
        warmup_steps: whole("schedule.warmup_steps"),
        decay_steps: whole("schedule.decay_steps"),
        save_interval: whole("checkpoint.interval"),
    }
}

fn environment(recipe: &Megatron) -> std::collections::BTreeMap<String, String> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    recipe
        .entries("megatron.env")
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// The folders that the recipe names. Upstream's own for checkpoints is one for all recipes, so a run would resume another's: it is not taken.
fn folders(recipe: &Megatron, base: Option<&Megatron>, extra: &Extra, here: &Path) -> Folders {
    let named = |key: &str| {
        let path = recipe.text(key)?;
        let is_shared = base.and_then(|base| base.text(key)) == Some(path)
            || path.starts_with("nemo_experiments/default");
        (!is_shared).then(|| absolute(Path::new(path), here))
    };
    let pretrained = extra.pretrained.as_deref().map(|path| absolute(path, here));
    let save = named("megatron.checkpoint.save").unwrap_or_default();
    Folders {
        run: PathBuf::new(),
        load: named("megatron.checkpoint.load").unwrap_or_default(),
        tensorboard: named("megatron.logger.tensorboard_dir").unwrap_or_default(),
        pretrained: pretrained.or_else(|| named("megatron.checkpoint.pretrained_checkpoint")),
        save,
    }
}

/// The word for `--dataset`, where the recipe has other data than upstream's.
fn dataset(recipe: &Megatron, base: Option<&Megatron>) -> Option<String> {
    let data = recipe.text("megatron.data")?;
    if base?.text("megatron.data") == Some(data) {
        return None;
    }
    Some(match data {
        "mock-gpt" | "mock-vlm-sft" => "mock".to_owned(),
        "hf-conversation" => recipe
            .text("megatron.dataset.source.dataset_name")?
            .replace('_', "-"),
        other => other.to_owned(),
    })
}

fn precision<'a>(recipe: &'a Megatron, base: Option<&Megatron>) -> Option<&'a str> {
    let precision = recipe.text("megatron.precision")?;
    (base?.text("megatron.precision") != Some(precision)).then_some(precision)
}

/// What upstream's recipe decides otherwise and no option changes.
fn differences(
    recipe: &Megatron,
    base: Option<&Megatron>,
    upstream: &str,
    found: &mut Vec<Finding>,
) {
    let Some(base) = base else {
        found.push(Finding::warning(
            "upstream",
            format!("no published recipe is called {upstream}: everything that the recipe says is handed over"),
            None,
        ));
        return;
    };
    if let Some(difference) = geometry(&recipe.model.text, &base.model.text) {
        found.push(Finding::error(
            "model",
            format!(
                "{upstream} is of {}, and the recipe's model has another {difference}",
                base.model_name
            ),
            Some("megatron.recipe of a published recipe of this size".to_owned()),
        ));
    }
    if let (Some(ours), Some(theirs)) = (mode(recipe), mode(base))
        && ours != theirs
    {
        found.push(Finding::error(
            "mode",
            format!("{upstream} is for {theirs}, and the recipe says {ours}"),
            None,
        ));
    }
    if let Some(precision) = precision(recipe, Some(base)) {
        let theirs = base.text("megatron.precision").unwrap_or("not said");
        found.push(Finding::warning(
            "precision",
            format!("{upstream} is in {theirs}, and the recipe says {precision}: it is set as a whole, without what the recipe sets in it"),
            None,
        ));
    }
}

/// The first of a geometry's sizes that differ. MTP's depth is an option and does not count.
pub(super) fn geometry(ours: &TextConfig, theirs: &TextConfig) -> Option<String> {
    let sizes = [
        (
            "num_hidden_layers",
            ours.num_hidden_layers,
            theirs.num_hidden_layers,
        ),
        ("hidden_size", ours.hidden_size, theirs.hidden_size),
        (
            "num_attention_heads",
            ours.num_attention_heads,
            theirs.num_attention_heads,
        ),
        (
            "num_key_value_heads",
            ours.num_key_value_heads,
            theirs.num_key_value_heads,
        ),
        ("head_dim", ours.head_dim, theirs.head_dim),
        ("vocab_size", ours.vocab_size, theirs.vocab_size),
    ];
    sizes
        .iter()
        .find(|(_, ours, theirs)| ours != theirs)
        .map(|(name, ours, theirs)| format!("{name}: {ours}, not {theirs}"))
}
