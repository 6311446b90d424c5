//! Every step of some runs as text: one row a step and a column a number, or one object a run.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::app::train::metrics_of;
use crate::run::History;
use crate::run::series::{Metric, PHASES};

/// How the steps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepsFormat {
    /// A line a step; runs one after another; what a step does not have is empty, what is not finite `nan`.
    Csv,
    /// An array with an object a run, its numbers as arrays; what is absent or not finite is null.
    Json,
}

impl StepsFormat {
    /// The format that a file's name asks for; none if it asks for neither.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A metric as a column's name: `grad_norm`, `tokens_per_second`.
fn column(metric: Metric) -> String {
    match metric {
        Metric::TokensPerSecond => "tokens_per_second".into(),
        phase if PHASES.contains(&phase) => {
            format!("{}_seconds", phase.to_string().replace(['+', ' '], "_"))
        }
        other => other.to_string().replace([' ', '/'], "_").to_lowercase(),
    }
}

/// Numbers that any of the runs has.
fn metrics(runs: &[(String, History)]) -> Vec<Metric> {
    let depth = runs
        .iter()
        .map(|(_, history)| history.train.mtp_depth())
        .max();
    let all = metrics_of(depth.unwrap_or(0));
    all.chain(PHASES)
        .filter(|&m| runs.iter().any(|(_, history)| history.train.has(m)))
        .collect()
}

/// The steps of the runs, each named by its id. Abandoned steps are left out.
pub fn steps(runs: &[(String, History)], format: StepsFormat) -> String {
    let metrics = metrics(runs);
    match format {
        StepsFormat::Csv => csv(runs, &metrics),
        StepsFormat::Json => {
            let objects: Vec<Value> = runs
                .iter()
                .map(|(id, history)| object(id, history, &metrics))
                .collect();
            let mut text = serde_json::to_string(&objects).unwrap_or_default();
            text.push('\n');
            text
        }
    }
}

fn csv(runs: &[(String, History)], metrics: &[Metric]) -> String {
    let mut text = String::from("run,step,tokens,time_ms");
    for &metric in metrics {
        let _ = write!(text, ",{}", column(metric));
    }
    text.push('\n');
    for (id, history) in runs {
        let table = &history.train;
        for row in 0..table.rows() {
            let (step, tokens) = (table.step(row), table.tokens(row));
            let _ = write!(text, "{id},{step},{tokens},{}", table.time_ms(row));
            for &metric in metrics {
                let _ = match table.value(metric, row) {
                    None => write!(text, ","),
                    Some(value) if value.is_finite() => write!(text, ",{value}"),
                    Some(_) => write!(text, ",nan"),
                };
            }
            text.push('\n');
        }
    }
    text
}

fn object(id: &str, history: &History, metrics: &[Metric]) -> Value {
    let table = &history.train;
    let rows = 0..table.rows();
    let mut object = Map::new();
    object.insert("run".into(), json!(id));
    let steps: Vec<u64> = rows.clone().map(|row| table.step(row)).collect();
    let tokens: Vec<u64> = rows.clone().map(|row| table.tokens(row)).collect();
    let times: Vec<i64> = rows.clone().map(|row| table.time_ms(row)).collect();
    object.insert("step".into(), json!(steps));
    object.insert("tokens".into(), json!(tokens));
    object.insert("time_ms".into(), json!(times));
    for &metric in metrics.iter().filter(|&&m| table.has(m)) {
        let finite = |row| table.value(metric, row).filter(|v| v.is_finite());
        let values: Vec<Option<f32>> = rows.clone().map(finite).collect();
        object.insert(column(metric), json!(values));
    }
    Value::Object(object)
}
