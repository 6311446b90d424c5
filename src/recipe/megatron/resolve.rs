//! From what was said to a resolved recipe.

use std::collections::BTreeMap;

use super::super::model;
use super::super::overlay::{Loader, Located, Overlay};
use super::super::report::Report;
use super::super::value::Value;
use super::{Megatron, option};
use crate::base::{Place, Severity};
use crate::plan::{BatchShape, Degrees};

/// What every recipe must say.
const ESSENTIAL: [&str; 5] = [
    "megatron.recipe",
    "megatron.gpus",
    "train.seq_length",
    "train.micro_batch_size",
    "train.global_batch_size",
];

/// The degrees, which are 1 where nobody says otherwise.
const DEGREES: [&str; 6] = [
    "parallel.tp",
    "parallel.pp",
    "parallel.vpp",
    "parallel.cp",
    "parallel.ep",
    "parallel.etp",
];

/// Resolves a recipe. `values` gets the defaults and what follows from other values. Problems go to the report.
pub(in super::super) fn resolve(
    overlay: &Overlay,
    report: &mut Report<'_>,
    loader: &Loader<'_>,
    files: &mut Vec<std::path::PathBuf>,
    values: &mut BTreeMap<&'static str, Located>,
) -> Option<Megatron> {
    for key in overlay.values.keys().filter(|key| !option::is_used(key)) {
        if **key != *"extends" {
            report
                .add(
                    Severity::Warning,
                    "W0430",
                    &[key],
                    format!("`{key}` counts only for our own trainer, but this is a recipe for Megatron-Bridge"),
                )
                .hint("remove it, or say Bridge's option in [megatron.overrides]");
        }
    }
    let missing: Vec<&str> = ESSENTIAL
        .into_iter()
        .filter(|key| !overlay.values.contains_key(key) && !overlay.wrong.contains(key))
        .collect();
    if !missing.is_empty() && !overlay.is_broken {
        report
            .add(
                Severity::Error,
                "E0360",
                &missing,
                format!(
                    "a recipe for Megatron-Bridge must say {}",
                    missing.join(", ")
                ),
            )
            .hint("extend one of recipes/megatron, which says them");
    }
    for (key, value) in DEGREES
        .map(|key| (key, Value::Integer(1)))
        .into_iter()
        .chain([("parallel.sequence_parallel", Value::Boolean(false))])
    {
        values.entry(key).or_insert_with(|| derived(value, None));
    }
    let (model_name, config) = model::upstream(overlay, report, loader, files)?;
    let mut said: BTreeMap<_, _> = overlay
        .values
        .iter()
        .filter(|(key, _)| **key != "extends" && **key != "parallel.dp")
        .map(|(key, located)| (*key, located.value.clone()))
        .collect();
    // TOML has no null: what a recipe extends is taken back by name.
    if let Some(Value::List(unset)) = said.get("megatron.unset").cloned() {
        for key in unset
            .iter()
            .filter_map(Value::as_str)
            .filter_map(option::key_of)
        {
            said.remove(key);
            values.remove(key);
        }
    }
    let count = |key: &str| usize::try_from(values.get(key)?.value.as_i64()?).ok();
    let gpus = count("megatron.gpus")?;
    let mut degrees = Degrees {
        tp: count("parallel.tp")?,
        pp: count("parallel.pp")?,
        vpp: count("parallel.vpp")?,
        cp: count("parallel.cp")?,
        ep: count("parallel.ep")?,
        etp: count("parallel.etp")?,
        dp: 1,
        sequence_parallel: values.get("parallel.sequence_parallel")?.value == Value::Boolean(true),
    };
    degrees.dp = (gpus / degrees.world_size().max(1)).max(1);
    let dp = i64::try_from(degrees.dp).unwrap_or(i64::MAX);
    if let Some(located) = overlay.values.get("parallel.dp")
        && located.value != Value::Integer(dp)
    {
        report
            .add(
                Severity::Error,
                "E0361",
                &["parallel.dp", "megatron.gpus"],
                format!(
                    "dp = {}, but {gpus} GPUs over tp * pp * cp = {} leave {dp}",
                    located.value,
                    degrees.tp * degrees.pp * degrees.cp
                ),
            )
            .nearest([dp.to_string()]);
    }
    let batch = BatchShape {
        seq_length: count("train.seq_length")?,
        micro_batch_size: count("train.micro_batch_size")?,
        global_batch_size: count("train.global_batch_size")?,
    };
    values
        .entry("parallel.dp")
        .or_insert_with(|| derived(Value::Integer(dp), Some("megatron.gpus")));
    let depth = Value::count(config.text.mtp_num_hidden_layers);
    values
        .entry("model.mtp_num_hidden_layers")
        .or_insert_with(|| derived(depth, Some("model.size")));
    Some(Megatron {
        recipe: said.get("megatron.recipe")?.as_str()?.into(),
        model_name,
        model: config,
        gpus,
        degrees,
        batch,
        values: said,
    })
}

fn derived(value: Value, from: Option<&str>) -> Located {
    Located {
        value,
        place: Place::Default,
        derived_from: from.map(Into::into),
        base: None,
    }
}
