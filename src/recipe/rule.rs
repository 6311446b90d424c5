//! Rules about values that must go together.

use super::key::KEYS;
use super::megatron::Megatron;
use super::overlay::Overlay;
use super::report::Report;
use super::resolved::{DeviceChoice, Packing, PrecisionChoice, Recipe, Recompute, ScheduleKind};
use super::value::Value;
use crate::base::Severity::{Error, Warning};
use crate::plan::{self, BatchShape, Degrees};
use crate::spec::TextConfig;

/// The layout of a recipe, for the planner.
pub fn degrees(recipe: &Recipe) -> Degrees {
    let parallel = &recipe.parallel;
    Degrees {
        tp: parallel.tp,
        cp: parallel.cp,
        ep: parallel.ep,
        etp: parallel.etp,
        dp: parallel.dp,
        pp: parallel.pp,
        vpp: parallel.vpp,
        sequence_parallel: parallel.sequence_parallel,
    }
}

/// The batch of a recipe, for the planner.
pub fn batch_shape(recipe: &Recipe) -> BatchShape {
    BatchShape {
        seq_length: recipe.train.seq_length,
        micro_batch_size: recipe.train.micro_batch_size,
        global_batch_size: recipe.train.global_batch_size,
    }
}

/// Checks a recipe whose values fit their keys one by one.
pub(super) fn check(recipe: &Recipe, overlay: &Overlay, report: &mut Report<'_>) {
    layout(recipe, report);
    precision(recipe, report);
    schedule(recipe, report);
    packing(recipe, report);
    recompute(recipe, overlay, report);
    mtp(recipe, overlay, report);
    intervals(recipe, report);
}

/// Checks a recipe for Megatron-Bridge.
pub(super) fn check_megatron(recipe: &Megatron, report: &mut Report<'_>) {
    for problem in plan::problems(&recipe.job()) {
        let mut keys: Vec<&str> = problem
            .fixes
            .iter()
            .map(|fix| key_of_fix(&fix.key))
            .collect();
        let first = keys.first().copied();
        keys.extend(Report::named_in(&problem.message));
        keys.extend(["megatron.gpus", "model.size"]);
        let nearest: Vec<String> = problem
            .fixes
            .iter()
            .filter(|fix| Some(key_of_fix(&fix.key)) == first && fix.also.is_empty())
            .map(|fix| match fix.value.parse::<toml::Value>() {
                Ok(_) => fix.value.clone(),
                Err(_) => Value::String(fix.value.clone()).to_string(),
            })
            .collect();
        let ways: Vec<String> = problem.fixes.iter().map(change).collect();
        let draft = report.add(problem.severity, problem.code, &keys, problem.message);
        let draft = draft.nearest(nearest);
        if !ways.is_empty() {
            draft.hint(&format!("set {}", ways.join("; or ")));
        }
    }
    let of = |key: &str| recipe.get(key).and_then(Value::as_f64);
    if let (Some(lr), Some(min_lr)) = (of("optimizer.lr"), of("schedule.min_lr"))
        && min_lr > lr
    {
        floor(lr, min_lr, report);
    }
}

/// A change that mends a problem, in words: `train.global_batch_size = 64`.
pub fn change(fix: &plan::Fix) -> String {
    let mut words = vec![one_change(&fix.key, &fix.value)];
    words.extend(fix.also.iter().map(|(key, value)| one_change(key, value)));
    words.join(" and ")
}

fn one_change(key: &str, value: &str) -> String {
    let key = key_of_fix(key);
    let option = key.strip_prefix("megatron.").unwrap_or(key);
    if value == "null" {
        format!("\"{option}\" in megatron.unset")
    } else {
        format!("{key} = {value}")
    }
}

/// The recipe's key for one in a fix of the planner, which has Megatron's own names directly below `megatron`.
pub fn key_of_fix(key: &str) -> &str {
    let Some(name) = key.strip_prefix("megatron.") else {
        return key;
    };
    if name == "calculate_per_token_loss" {
        return "train.per_token_loss";
    }
    let mut known = KEYS.iter().map(|known| known.path);
    known
        .find(|path| {
            path.starts_with("megatron.") && path.ends_with(key.trim_start_matches("megatron"))
        })
        .unwrap_or(key)
}

/// The code of a planner's rule.
fn code(rule: &str) -> &'static str {
    match rule {
        "range" => "E0310",
        "heads-by-tp" => "E0311",
        "kv-heads-by-tp" => "E0312",
        "linear-key-heads" => "E0313",
        "linear-value-heads" => "E0314",
        "mlp-by-tp" => "E0315",
        "vocab-by-tp" => "E0316",
        "hidden-by-tp" => "E0317",
        "no-experts" => "E0318",
        "seq-by-cp" => "E0319",
        "seq-by-tp" => "E0320",
        "sequence-parallel" => "E0321",
        "layers-by-pp" => "E0322",
        "layers-by-vpp" => "E0323",
        "vpp-needs-pp" => "E0324",
        "micro-batches-by-pp" => "E0325",
        "global-batch" => "E0326",
        "max-position" => "W0401",
        "micro-batches-fill-pipeline" => "W0402",
        "mtp-on-last-stage" => "W0403",
        _ => "E0300",
    }
}

fn layout(recipe: &Recipe, report: &mut Report<'_>) {
    violations(
        &recipe.model.config,
        &degrees(recipe),
        &batch_shape(recipe),
        |key| current_of(key, recipe),
        report,
    );
    let world = recipe.parallel.world_size();
    if world > 1 {
        let keys = ["parallel.tp", "parallel.pp", "parallel.dp", "parallel.cp"];
        report
            .add(
                Warning,
                "W0405",
                &keys,
                format!("the layout needs {world} ranks, but this version trains in 1 process"),
            )
            .hint("it can be planned and checked; to train here, set every degree to 1");
        if recipe.data.packing == Packing::Packed && recipe.train.micro_batch_size > 1 {
            report
                .add(
                    Warning,
                    "W0406",
                    &["train.micro_batch_size", "data.packing"],
                    format!(
                        "micro_batch_size = {} with packed rows: Megatron packs into 1 row",
                        recipe.train.micro_batch_size
                    ),
                )
                .nearest(["1".to_string()]);
        }
    }
}

fn violations(
    config: &TextConfig,
    degrees: &Degrees,
    batch: &BatchShape,
    current_of: impl Fn(&str) -> Option<i64>,
    report: &mut Report<'_>,
) {
    for violation in plan::check(config, degrees, batch) {
        let mut code = code(violation.rule);
        if violation.rule == "kv-heads-by-tp" && violation.severity == Warning {
            code = "W0404";
        }
        let mut keys = vec![violation.key];
        keys.extend(Report::named_in(&violation.message));
        keys.extend(["model.size", "model.hf"]);
        let mut nearest = violation.nearest;
        let current = current_of(violation.key);
        nearest.sort_by_key(|text| {
            text.parse::<i64>()
                .map_or(i64::MAX, |n| (n - current.unwrap_or(n)).abs())
        });
        report
            .add(violation.severity, code, &keys, violation.message)
            .nearest(nearest);
    }
}

fn current_of(key: &str, recipe: &Recipe) -> Option<i64> {
    super::flat::values(recipe).get(key).and_then(Value::as_i64)
}

fn precision(recipe: &Recipe, report: &mut Report<'_>) {
    let train = &recipe.train;
    if train.device == DeviceChoice::Cpu && train.precision == PrecisionChoice::Bf16 {
        report
            .add(
                Error,
                "E0327",
                &["train.precision", "train.device"],
                "precision = \"bf16\" with device = \"cpu\": the CPU computes in f32 alone".into(),
            )
            .nearest(["\"f32\"".to_string(), "\"auto\"".to_string()])
            .hint("leave train.precision at \"auto\", which is bf16 on CUDA and f32 on the CPU");
    }
}

fn schedule(recipe: &Recipe, report: &mut Report<'_>) {
    let (schedule, steps) = (&recipe.schedule, recipe.train.steps);
    let (warmup, decay) = (schedule.warmup_steps, schedule.decay_steps);
    if warmup >= steps {
        report
            .add(
                Error,
                "E0330",
                &["schedule.warmup_steps", "train.steps"],
                format!(
                    "warmup_steps = {warmup} is not below steps = {steps}: the learning rate never reaches its peak"
                ),
            )
            .nearest([(steps - 1).to_string()]);
    }
    let has_curve = schedule.kind != ScheduleKind::Constant;
    if has_curve && warmup < steps && decay <= warmup {
        report
            .add(
                Error,
                "E0331",
                &["schedule.decay_steps", "schedule.warmup_steps", "train.steps"],
                format!(
                    "decay_steps = {decay} is not above warmup_steps = {warmup}: the curve has no room"
                ),
            )
            .nearest([steps.to_string()]);
    }
    if schedule.kind == ScheduleKind::Wsd && warmup + schedule.wsd_decay_steps > decay.max(warmup) {
        report
            .add(
                Error,
                "E0332",
                &["schedule.wsd_decay_steps", "schedule.decay_steps", "schedule.warmup_steps"],
                format!(
                    "wsd_decay_steps = {} and warmup_steps = {warmup} do not fit into decay_steps = {decay}",
                    schedule.wsd_decay_steps
                ),
            )
            .nearest([decay.saturating_sub(warmup).to_string()]);
    }
    let (lr, min_lr) = (recipe.optimizer.lr, schedule.min_lr);
    if min_lr > lr {
        floor(lr, min_lr, report);
    }
}

fn floor(lr: f64, min_lr: f64, report: &mut Report<'_>) {
    report
        .add(
            Error,
            "E0333",
            &["schedule.min_lr", "optimizer.lr"],
            format!("min_lr = {min_lr:?} is above the peak lr = {lr:?}"),
        )
        .nearest([format!("{lr:?}"), "0.0".into()]);
}

fn packing(recipe: &Recipe, report: &mut Report<'_>) {
    let cp = recipe.parallel.cp;
    if recipe.data.packing == Packing::Packed && cp > 1 {
        report
            .add(
                Error,
                "E0340",
                &["data.packing", "parallel.cp"],
                format!(
                    "packed documents have any length, but cp = {cp} needs each to be a multiple of 2 * cp = {}",
                    2 * cp
                ),
            )
            .nearest(["\"concat\"".to_string()]);
    }
}

fn recompute(recipe: &Recipe, overlay: &Overlay, report: &mut Report<'_>) {
    let keys = ["recompute.modules", "recompute.mode"];
    match &recipe.recompute {
        Recompute::Selective(modules) => {
            if modules.is_empty() {
                report
                    .add(
                        Error,
                        "E0341",
                        &keys,
                        "recompute.mode = \"selective\" with 0 modules recomputes nothing".into(),
                    )
                    .nearest(["[\"core_attn\"]".to_string()]);
            }
        }
        mode => {
            if overlay.values.contains_key("recompute.modules") {
                let word = if *mode == Recompute::Full {
                    "full"
                } else {
                    "none"
                };
                report
                    .add(
                        Warning,
                        "W0410",
                        &keys,
                        format!("recompute.modules counts only with mode = \"selective\", but mode = \"{word}\""),
                    )
                    .hint("remove it, or set recompute.mode to selective");
            }
        }
    }
}

fn mtp(recipe: &Recipe, overlay: &Overlay, report: &mut Report<'_>) {
    let depth = recipe.model.config.mtp_num_hidden_layers;
    if depth == 0
        && let Some(located) = overlay.values.get("mtp.loss_scale")
        // A recipe without MTP may extend one with it.
        && report.is_own(&located.place)
    {
        report
            .add(
                Warning,
                "W0411",
                &["mtp.loss_scale"],
                format!(
                    "mtp.loss_scale = {} counts only if the model has MTP, but mtp_num_hidden_layers = 0",
                    located.value
                ),
            )
            .hint("the depth is the model's: set model.mtp_num_hidden_layers, or remove the scale");
    }
    let longest = recipe.train.seq_length;
    if depth + 1 >= longest {
        report
            .add(
                Error,
                "E0350",
                &["train.seq_length", "model.mtp_num_hidden_layers"],
                format!(
                    "seq_length = {longest} leaves no label at MTP depth {depth}, which predicts {} tokens ahead",
                    depth + 1
                ),
            )
            .nearest([(depth + 2).to_string()]);
    }
}

fn intervals(recipe: &Recipe, report: &mut Report<'_>) {
    let train = &recipe.train;
    if train.eval_interval > 0 && recipe.data.validation_fraction == 0.0 {
        report
            .add(
                Warning,
                "W0420",
                &["data.validation_fraction", "train.eval_interval"],
                format!(
                    "eval_interval = {} with validation_fraction = 0: there is no text to evaluate on",
                    train.eval_interval
                ),
            )
            .hint("hold out a share of documents, or set train.eval_interval = 0");
    }
    let checkpoint = &recipe.checkpoint;
    if !checkpoint.at_end && (checkpoint.interval == 0 || checkpoint.interval > train.steps) {
        report
            .add(
                Warning,
                "W0421",
                &["checkpoint.at_end", "checkpoint.interval"],
                format!(
                    "at_end = false and interval = {} in {} steps: nothing is ever saved",
                    checkpoint.interval, train.steps
                ),
            )
            .nearest(["true".to_string()]);
    }
}
