//! How long the log of a run of a million iterations takes to open, and until a new line of it is an event.
//!
//! `cargo bench --bench watch [-- ITERATIONS]` writes such a log, then opens it in a process of its own as `trestle watch` does: log read, events
//! written, history drawn from them. It prints one JSON object.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use trestle::backend::foreign::{Mirror, Options};
use trestle::event::layout;
use trestle::run::History;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["open", folder] => println!("{}", open(Path::new(folder))),
        [] => compare(1_000_000),
        [iterations] => compare(iterations.parse().unwrap()),
        _ => panic!("one number of iterations, or nothing"),
    }
}

fn compare(iterations: u64) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("job.out");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&log).unwrap());
    writeln!(
        out,
        "model:\n  seq_length: 4096\nStarting training loop at iteration 0"
    )
    .unwrap();
    for step in 1..=iterations {
        line(&mut out, step, iterations + 10);
    }
    out.flush().unwrap();
    let opens: Vec<Value> = (0..3)
        .map(|_| {
            let program = std::env::current_exe().unwrap();
            let output = Command::new(program)
                .arg("open")
                .arg(folder.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            serde_json::from_slice(&output.stdout).unwrap()
        })
        .collect();
    let result = json!({
        "iterations": iterations,
        "log_bytes": fs::metadata(&log).unwrap().len(),
        "cores": std::thread::available_parallelism().unwrap().get(),
        "debug_assertions": cfg!(debug_assertions),
        "opens": opens,
    });
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
}

fn line(out: &mut impl Write, step: u64, total: u64) {
    let loss = 2.0 + 8.0 / (1.0 + step as f64 / 2000.0).sqrt();
    writeln!(
        out,
        " [2026-01-{:02} {:02}:{:02}:{:02}] iteration {step:8}/{total:8} | consumed samples: {:12} | elapsed time per iteration (ms): 2481.7 | throughput per GPU (TFLOP/s/GPU): 57.2 | learning rate: 2.500000E-07 | global batch size:    32 | lm loss: {}E+00 | mtp_1 loss: {}E+00 | loss scale: 1.0 | grad norm: 1.873 | number of skipped iterations:   0 | number of nan iterations:   0 |",
        1 + step / 86_400 % 28,
        step / 3600 % 24,
        step / 60 % 60,
        step % 60,
        step * 32,
        format_args!("{:.6}", loss.min(9.999_999)),
        format_args!("{:.6}", (loss + 0.5).min(9.999_999)),
    )
    .unwrap();
}

fn open(folder: &Path) -> Value {
    let log = folder.join("job.out");
    let start = Instant::now();
    let mut mirror = Mirror::open(&log, &folder.join("cache"), Options::default()).unwrap();
    let written = start.elapsed();
    let history = History::open(mirror.folder()).unwrap();
    let opened = start.elapsed();
    let rows = history.train.rows();
    let events_bytes = fs::metadata(mirror.folder().join(layout::EVENTS))
        .unwrap()
        .len();
    let last = history.train.step(rows - 1);
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    line(&mut file, last + 1, last + 10);
    let appended = Instant::now();
    assert!(mirror.poll().unwrap().records > 0);
    let followed = appended.elapsed();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    let kib: f64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    json!({
        "rows": rows,
        "events_written_seconds": written.as_secs_f64(),
        "opened_seconds": opened.as_secs_f64(),
        "new_line_to_event_seconds": followed.as_secs_f64(),
        "events_bytes": events_bytes,
        "peak_mib": kib / 1024.0,
    })
}
