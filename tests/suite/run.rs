//! Run directories as the process side sees them.

mod directory;
mod history;
mod process;
mod tail;
mod watch;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use trestle::event::{DepthStep, Event, Record, StepRecord, VERSION, layout};
use trestle::run::{CreateRun, RunDirectory, create};

/// A new run named `name`.
fn new_run(runs: &Path, name: &str) -> RunDirectory {
    let new = CreateRun {
        name: name.to_owned(),
        recipe_toml: "[train]\nsteps = 10\n".to_owned(),
        ..CreateRun::default()
    };
    create(runs, new).unwrap()
}

fn record(seq: u64, event: Event) -> Record {
    Record {
        v: VERSION,
        seq,
        time_ms: 1_700_000_000_000 + seq as i64 * 1000,
        event,
    }
}

fn started(seq: u64, segment: u32, step: u64) -> Record {
    record(
        seq,
        Event::Started {
            segment,
            step,
            tokens: step * 256,
            total_steps: 100,
            pid: 1,
            host: "here".to_owned(),
            device: "cpu (2 threads)".to_owned(),
            program: "trestle 0.1.0".to_owned(),
            parameters: 1_000_000,
            mtp_parameters: 50_000,
            flops_per_token: 6e6,
            peak_flops: 0.0,
            flops_formula: String::new(),
            peak_name: String::new(),
            precision: String::new(),
            devices: vec![],
            memory_plan: None,
            mtp_depth: 1,
            resumed_from: None,
        },
    )
}

fn step(seq: u64, step: u64, loss: f64) -> Record {
    record(
        seq,
        Event::Step(Box::new(StepRecord {
            step,
            tokens: step * 256,
            loss,
            mtp: vec![DepthStep {
                loss: loss + 0.5,
                correct: 10,
                total: 200,
            }],
            grad_norm: 1.0,
            lr: 1e-3,
            step_seconds: 0.1,
            tokens_per_second: 2560.0,
            ..StepRecord::default()
        })),
    )
}

/// Appends records to the run's events.
fn append(run: &RunDirectory, records: &[Record]) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(run.join(layout::EVENTS))
        .unwrap();
    for record in records {
        file.write_all(record.to_line().as_bytes()).unwrap();
    }
}

#[test]
fn tags_are_changed_and_the_rest_of_a_run_stays() {
    let folder = tempfile::tempdir().unwrap();
    let new = CreateRun {
        name: "tagged".into(),
        tags: vec!["old".into()],
        ..CreateRun::default()
    };
    let run = trestle::run::create(folder.path(), new).unwrap();
    let before = trestle::run::open(&run.path).unwrap();
    let tags = vec!["new".to_owned(), "two words".to_owned()];
    trestle::run::tag(&run.path, tags.clone()).unwrap();
    let after = trestle::run::open(&run.path).unwrap();
    assert_eq!(after.info.tags, tags);
    let mut expected = before.info;
    expected.tags = tags;
    assert_eq!(after.info, expected);
}
