//! How long a run of a million steps takes to open, and how much memory.
//!
//! `cargo bench --bench history [-- STEPS]` writes the events of such a run, then opens it in a process of its own, first without cache and
//! then with it, draws four charts of 120 columns, and prints one JSON object. Times are of the whole opening: events
//! read, tables built, charts' buckets asked for. Memory is the largest resident set of that process.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result"
)]

#[path = "support/machine.rs"]
#[allow(dead_code, reason = "this result is not kept with its commit")]
mod machine;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use trestle::event::{DepthStep, Event, Record, StepRecord, VERSION, layout};
use trestle::run::History;
use trestle::run::series::{Axis, Metric};

use machine::machine;

const SERIES: [Metric; 4] = [
    Metric::Loss,
    Metric::MtpLoss(1),
    Metric::GradNorm,
    Metric::TokensPerSecond,
];

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["open", run] => println!("{}", open(Path::new(run))),
        [] => compare(1_000_000),
        [steps] => compare(steps.parse().unwrap()),
        _ => panic!("one number of steps, or nothing"),
    }
}

fn compare(steps: u64) {
    let run = std::env::temp_dir().join(format!("trestle-history-{steps}"));
    fs::create_dir_all(&run).unwrap();
    write(&run, steps);
    let _ = fs::remove_dir_all(run.join(layout::CACHE));
    let first = measure(&run);
    let again = [measure(&run), measure(&run), measure(&run)];
    let events_bytes = fs::metadata(run.join(layout::EVENTS)).unwrap().len();
    let cache_bytes = fs::metadata(run.join("cache/history")).unwrap().len();
    let result = json!({
        "command": format!("cargo bench --bench history --profile dev -- {steps}"),
        "machine": machine(),
        "steps": steps,
        "series": SERIES.map(|m| m.to_string()),
        "events_bytes": events_bytes,
        "cache_bytes": cache_bytes,
        "first_open": first,
        "later_opens": again,
    });
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
    fs::remove_dir_all(&run).unwrap();
}

fn measure(run: &Path) -> Value {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("open")
        .arg(run)
        .output()
        .unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn open(run: &Path) -> Value {
    let start = Instant::now();
    let mut history = History::open(run).unwrap();
    let opened = start.elapsed();
    history.train.set_smoothing(0.98);
    let (first, last) = history.train.x_range(Axis::Tokens).unwrap();
    let edges: Vec<f64> = (0..=240)
        .map(|i| first + (last - first) * f64::from(i) / 240.0)
        .collect();
    let draw = || -> u64 {
        let count = |m| {
            history
                .train
                .buckets(m, Axis::Tokens, &edges)
                .iter()
                .map(|b| u64::from(b.node.count))
                .sum::<u64>()
        };
        SERIES.iter().map(|&m| count(m)).sum()
    };
    let points = draw();
    let drawn = start.elapsed();
    let again = Instant::now();
    assert_eq!(draw(), points);
    let redraw = again.elapsed();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kib = |key: &str| -> f64 {
        let line = status.lines().find(|l| l.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let usage = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = usage
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    json!({
        "opened_seconds": opened.as_secs_f64(),
        "opened_and_drawn_seconds": drawn.as_secs_f64(),
        "redraw_seconds": redraw.as_secs_f64(),
        "cpu_seconds": ticks / 100.0,
        "peak_mib": kib("VmHWM") / 1024.0,
        "resident_mib": kib("VmRSS") / 1024.0,
        "points_honoured": points,
    })
}

/// Writes a run with a falling, noisy loss.
fn write(run: &Path, steps: u64) {
    let mut out =
        BufWriter::with_capacity(1 << 20, File::create(run.join(layout::EVENTS)).unwrap());
    let mut noise = 1u64;
    let mut random = || {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (noise >> 11) as f64 / (1u64 << 53) as f64
    };
    for step in 1..=steps {
        let loss = 2.0 + 8.0 / (1.0 + step as f64 / 2000.0).sqrt() + 0.1 * random();
        let seconds = 0.1 + 0.01 * random();
        let record = StepRecord {
            step,
            tokens: step * 4096,
            loss,
            mtp: vec![DepthStep {
                loss: loss + 0.3 + 0.1 * random(),
                correct: (random() * 2000.0) as u64,
                total: 4032,
            }],
            grad_norm: 0.5 + random(),
            lr: 3e-4 * (1.0 - step as f64 / steps as f64),
            mtp_loss_scale: 0.1,
            step_seconds: seconds,
            parts: [
                ("data", 0.001),
                ("forward_backward", 0.09),
                ("optimizer", 0.005),
                ("other", 0.001),
            ]
            .map(|(name, value)| (name.to_owned(), value * (1.0 + random())))
            .into(),
            tokens_per_second: 4096.0 / seconds,
            mfu: 0.0,
            allocated: 1 << 30,
            peak: (1 << 30) + step,
            rss: (2 << 30) + step,
            hfu: 0.0,
            memory: None,
            skipped: false,
            ..StepRecord::default()
        };
        let record = Record {
            v: VERSION,
            seq: step - 1,
            time_ms: 1_700_000_000_000 + step as i64 * 100,
            event: Event::Step(Box::new(record)),
        };
        out.write_all(record.to_line().as_bytes()).unwrap();
    }
    out.flush().unwrap();
}
