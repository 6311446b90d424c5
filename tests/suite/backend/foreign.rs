//! Logs and event files of other trainers, as runs.

mod command;
mod follow;
mod mutations;
mod parse;
mod tensorboard;

use std::path::{Path, PathBuf};

use trestle::backend::foreign::{Line, Mirror, Options, Parser};
use trestle::event::{Event, Record, StepRecord, complete_lines, layout, parse_line};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/logs")
        .join(name)
}

/// What the lines of a log say.
fn lines(log: &[u8]) -> Vec<Line> {
    let mut lines = vec![];
    let mut parser = Parser::default();
    parser.feed(log, &mut |line| lines.push(line));
    parser.finish(&mut |line| lines.push(line));
    lines
}

/// The events of the run at `path`, opened in a cache of its own.
fn watch(path: &Path, cache: &Path, options: Options) -> (Mirror, Vec<Record>) {
    let mut mirror = Mirror::open(path, cache, options).unwrap();
    mirror.settle(true).unwrap();
    let records = records(&mirror);
    (mirror, records)
}

fn records(mirror: &Mirror) -> Vec<Record> {
    let bytes = std::fs::read(mirror.folder().join(layout::EVENTS)).unwrap();
    let (lines, used) = complete_lines(&bytes);
    assert_eq!(used, bytes.len());
    let records: Vec<Record> = lines
        .into_iter()
        .map(|line| parse_line(line.unwrap()).unwrap())
        .collect();
    let numbers: Vec<u64> = records.iter().map(|r| r.seq).collect();
    assert_eq!(numbers, (0..records.len() as u64).collect::<Vec<_>>());
    records
}

fn steps(records: &[Record]) -> Vec<&StepRecord> {
    let step = |record: &'_ Record| matches!(record.event, Event::Step(_));
    records
        .iter()
        .filter(|r| step(r))
        .map(|r| match &r.event {
            Event::Step(step) => &**step,
            _ => unreachable!(),
        })
        .collect()
}

/// What is said, steps by their number alone.
fn words(records: &[Record]) -> Vec<String> {
    let word = |record: &Record| match &record.event {
        Event::Started {
            segment,
            step,
            total_steps,
            ..
        } => format!("started {segment} at {step} of {total_steps}"),
        Event::Step(step) => format!("step {}", step.step),
        Event::Eval { step, .. } => format!("eval {step}"),
        Event::Checkpoint { step, path, .. } => format!("saved {step} {path}"),
        Event::Warning { code, .. } => format!("warning {code}"),
        Event::Finished { step, reason, .. } => format!("finished {step}: {reason}"),
        Event::Failed { step, error, .. } => format!("failed {step}: {error}"),
        other => format!("{other:?}"),
    };
    records.iter().map(word).collect()
}
