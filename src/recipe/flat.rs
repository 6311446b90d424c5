//! A recipe as a flat list of keys and values, and back.
//!
//! [`values`] and [`recipe`] are inverse to each other; printing, comparing and live changes all go through them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::resolved::{
    Alerts, Checkpoint, Data, DataSource, DeviceChoice, Init, Logging, Mtp, Optimizer, Packing,
    Parallel, PrecisionChoice, Recipe, Recompute, RecomputeModule, Schedule, ScheduleKind, Train,
};
use super::value::Value;
use super::{Model, model};

/// Values by dotted key.
pub(super) type Values = BTreeMap<&'static str, Value>;

/// Words of an enum, in the order of the key's choices.
trait Words: Sized + Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];

    fn word(self) -> Value {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        Value::String(found.map_or("", |(word, _)| word).into())
    }

    fn of(word: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, value)| *value)
    }
}

impl Words for DeviceChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("cpu", Self::Cpu),
        ("cuda", Self::Cuda),
    ];
}

impl Words for PrecisionChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("bf16", Self::Bf16),
        ("f32", Self::F32),
    ];
}

impl Words for ScheduleKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("constant", Self::Constant),
        ("linear", Self::Linear),
        ("cosine", Self::Cosine),
        ("wsd", Self::Wsd),
    ];
}

impl Words for Packing {
    const WORDS: &'static [(&'static str, Self)] =
        &[("packed", Self::Packed), ("concat", Self::Concat)];
}

impl Words for RecomputeModule {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("core_attn", Self::CoreAttn),
        ("gated_delta", Self::GatedDelta),
        ("mlp_act", Self::MlpAct),
        ("norm", Self::Norm),
    ];
}

fn path(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

fn source(source: &DataSource) -> Value {
    let text = |text: &String| Value::String(text.clone());
    match source {
        DataSource::Bundled => Value::String("bundled".into()),
        DataSource::Text { glob } => Value::Table(vec![("text".into(), text(glob))]),
        DataSource::Jsonl { glob, field } => Value::Table(vec![
            ("jsonl".into(), text(glob)),
            ("field".into(), text(field)),
        ]),
    }
}

fn source_of(value: &Value) -> Option<DataSource> {
    match value {
        Value::String(word) if word == "bundled" => Some(DataSource::Bundled),
        Value::String(glob) if has_jsonl_extension(glob) => Some(DataSource::Jsonl {
            glob: glob.clone(),
            field: "text".into(),
        }),
        Value::String(glob) => Some(DataSource::Text { glob: glob.clone() }),
        Value::Table(entries) => {
            let get = |name: &str| {
                let found = entries.iter().find(|(known, _)| known == name)?;
                found.1.as_str().map(String::from)
            };
            match (get("text"), get("jsonl")) {
                (Some(glob), _) => Some(DataSource::Text { glob }),
                (None, Some(glob)) => Some(DataSource::Jsonl {
                    glob,
                    field: get("field").unwrap_or_else(|| "text".into()),
                }),
                (None, None) => None,
            }
        }
        _ => None,
    }
}

fn has_jsonl_extension(glob: &str) -> bool {
    Path::new(glob)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("ndjson"))
}

/// The recipe's values under their keys; every key of the table that the recipe needs to come back the same.
pub(super) fn values(recipe: &Recipe) -> Values {
    let mut v = Values::new();
    model::flatten(&recipe.model, &mut v);
    let Parallel {
        tp,
        pp,
        vpp,
        cp,
        ep,
        etp,
        dp,
        sequence_parallel,
    } = recipe.parallel;
    for (key, degree) in [
        ("parallel.tp", tp),
        ("parallel.pp", pp),
        ("parallel.vpp", vpp),
        ("parallel.cp", cp),
        ("parallel.ep", ep),
        ("parallel.etp", etp),
        ("parallel.dp", dp),
    ] {
        v.insert(key, Value::count(degree));
    }
    v.insert(
        "parallel.sequence_parallel",
        Value::Boolean(sequence_parallel),
    );

    let train = &recipe.train;
    v.insert("train.device", train.device.word());
    v.insert("train.precision", train.precision.word());
    v.insert("train.check_memory", Value::Boolean(train.check_memory));
    v.insert("train.cuda_graph", Value::Boolean(train.cuda_graph));
    v.insert("train.threads", Value::count(train.threads));
    v.insert("train.steps", Value::count(train.steps));
    v.insert("train.seq_length", Value::count(train.seq_length));
    v.insert(
        "train.micro_batch_size",
        Value::count(train.micro_batch_size),
    );
    v.insert(
        "train.global_batch_size",
        Value::count(train.global_batch_size),
    );
    v.insert("train.seed", Value::count(train.seed));
    v.insert("train.per_token_loss", Value::Boolean(train.per_token_loss));
    v.insert("train.eval_interval", Value::count(train.eval_interval));
    v.insert("train.eval_batches", Value::count(train.eval_batches));
    v.insert("train.max_non_finite", Value::count(train.max_non_finite));
    v.insert("train.loss_chunk", Value::count(train.loss_chunk));

    let optimizer = &recipe.optimizer;
    for (key, x) in [
        ("optimizer.lr", optimizer.lr),
        ("optimizer.beta1", optimizer.beta1),
        ("optimizer.beta2", optimizer.beta2),
        ("optimizer.eps", optimizer.eps),
        ("optimizer.weight_decay", optimizer.weight_decay),
        ("optimizer.clip_grad", optimizer.clip_grad),
        ("schedule.min_lr", recipe.schedule.min_lr),
        ("data.validation_fraction", recipe.data.validation_fraction),
        ("mtp.loss_scale", recipe.mtp.loss_scale),
        ("alerts.loss_spike", recipe.alerts.loss_spike),
        ("alerts.throughput_drop", recipe.alerts.throughput_drop),
    ] {
        v.insert(key, Value::Float(x));
    }

    let schedule = &recipe.schedule;
    v.insert("schedule.kind", schedule.kind.word());
    v.insert("schedule.warmup_steps", Value::count(schedule.warmup_steps));
    v.insert("schedule.decay_steps", Value::count(schedule.decay_steps));
    v.insert(
        "schedule.wsd_decay_steps",
        Value::count(schedule.wsd_decay_steps),
    );

    let data = &recipe.data;
    v.insert(
        "data.sources",
        Value::List(data.sources.iter().map(source).collect()),
    );
    if let Some(tokenizer) = &data.tokenizer {
        v.insert("data.tokenizer", path(tokenizer));
    }
    v.insert("data.packing", data.packing.word());
    v.insert("data.shuffle", Value::Boolean(data.shuffle));
    v.insert("data.prefetch", Value::count(data.prefetch));
    if let Some(cache) = &data.cache {
        v.insert("data.cache", path(cache));
    }

    let mode = match &recipe.recompute {
        Recompute::None => "none",
        Recompute::Full => "full",
        Recompute::Selective(modules) => {
            let modules = modules.iter().map(|module| module.word()).collect();
            v.insert("recompute.modules", Value::List(modules));
            "selective"
        }
    };
    v.insert("recompute.mode", Value::String(mode.into()));

    v.insert(
        "checkpoint.interval",
        Value::count(recipe.checkpoint.interval),
    );
    v.insert("checkpoint.keep", Value::count(recipe.checkpoint.keep));
    v.insert(
        "checkpoint.at_end",
        Value::Boolean(recipe.checkpoint.at_end),
    );
    v.insert("logging.interval", Value::count(recipe.logging.interval));
    v.insert(
        "logging.tensorboard",
        Value::Boolean(recipe.logging.tensorboard),
    );
    v.insert("logging.runs", path(&recipe.logging.runs));
    v
}

/// The recipe of complete values, which fit their keys; `None` if one is missing that cannot be.
pub(super) fn recipe(v: &Values, model: Model) -> Option<Recipe> {
    let count = |key: &str| usize::try_from(v.get(key)?.as_i64()?).ok();
    let long = |key: &str| u64::try_from(v.get(key)?.as_i64()?).ok();
    let number = |key: &str| v.get(key)?.as_f64();
    let text = |key: &str| v.get(key)?.as_str();
    let flag = |key: &str| match v.get(key)? {
        Value::Boolean(b) => Some(*b),
        _ => None,
    };
    let list = |key: &str| match v.get(key)? {
        Value::List(items) => Some(items),
        _ => None,
    };
    Some(Recipe {
        model,
        parallel: Parallel {
            tp: count("parallel.tp")?,
            pp: count("parallel.pp")?,
            vpp: count("parallel.vpp")?,
            cp: count("parallel.cp")?,
            ep: count("parallel.ep")?,
            etp: count("parallel.etp")?,
            dp: count("parallel.dp")?,
            sequence_parallel: flag("parallel.sequence_parallel")?,
        },
        train: Train {
            device: DeviceChoice::of(text("train.device")?)?,
            precision: PrecisionChoice::of(text("train.precision")?)?,
            check_memory: flag("train.check_memory")?,
            cuda_graph: flag("train.cuda_graph")?,
            threads: count("train.threads")?,
            steps: long("train.steps")?,
            seq_length: count("train.seq_length")?,
            micro_batch_size: count("train.micro_batch_size")?,
            global_batch_size: count("train.global_batch_size")?,
            seed: long("train.seed")?,
            per_token_loss: flag("train.per_token_loss")?,
            eval_interval: long("train.eval_interval")?,
            eval_batches: count("train.eval_batches")?,
            max_non_finite: long("train.max_non_finite")?,
            loss_chunk: count("train.loss_chunk")?,
        },
        optimizer: Optimizer {
            lr: number("optimizer.lr")?,
            beta1: number("optimizer.beta1")?,
            beta2: number("optimizer.beta2")?,
            eps: number("optimizer.eps")?,
            weight_decay: number("optimizer.weight_decay")?,
            clip_grad: number("optimizer.clip_grad")?,
        },
        schedule: Schedule {
            kind: ScheduleKind::of(text("schedule.kind")?)?,
            warmup_steps: long("schedule.warmup_steps")?,
            decay_steps: long("schedule.decay_steps")?,
            wsd_decay_steps: long("schedule.wsd_decay_steps")?,
            min_lr: number("schedule.min_lr")?,
        },
        data: Data {
            sources: list("data.sources")?
                .iter()
                .map(source_of)
                .collect::<Option<_>>()?,
            tokenizer: text("data.tokenizer").map(PathBuf::from),
            validation_fraction: number("data.validation_fraction")?,
            packing: Packing::of(text("data.packing")?)?,
            shuffle: flag("data.shuffle")?,
            prefetch: count("data.prefetch")?,
            cache: text("data.cache").map(PathBuf::from),
        },
        mtp: Mtp {
            loss_scale: number("mtp.loss_scale")?,
        },
        recompute: match text("recompute.mode")? {
            "full" => Recompute::Full,
            "selective" => Recompute::Selective(match list("recompute.modules") {
                None => vec![RecomputeModule::CoreAttn],
                Some(words) => words
                    .iter()
                    .map(|word| RecomputeModule::of(word.as_str()?))
                    .collect::<Option<_>>()?,
            }),
            _ => Recompute::None,
        },
        checkpoint: Checkpoint {
            interval: long("checkpoint.interval")?,
            keep: count("checkpoint.keep")?,
            at_end: flag("checkpoint.at_end")?,
        },
        logging: Logging {
            interval: long("logging.interval")?,
            tensorboard: flag("logging.tensorboard")?,
            runs: text("logging.runs").map(PathBuf::from)?,
        },
        alerts: Alerts {
            loss_spike: number("alerts.loss_spike")?,
            throughput_drop: number("alerts.throughput_drop")?,
        },
    })
}

/// The path of `model.init`, if it is one.
pub(super) fn init_of(text: &str) -> Init {
    if text == "random" {
        Init::Random
    } else {
        Init::HuggingFace(PathBuf::from(text))
    }
}
