//! Histories: live, from the file, and from the cache.

use std::fs;

use tempfile::tempdir;
use trestle::event::{DepthStep, Event, Record, StepRecord, layout};
use trestle::run::series::{Axis, Metric};
use trestle::run::{History, RunDirectory, Tail};

use super::{append, new_run, record, started, step};

/// Enough steps that a cache is made.
const MANY: u64 = 6000;

fn eval(seq: u64, step: u64, loss: f64) -> Record {
    record(
        seq,
        Event::Eval {
            step,
            tokens: step * 256,
            loss,
            mtp: vec![DepthStep {
                loss: loss + 0.4,
                correct: 1,
                total: 4,
            }],
            eval_tokens: 1000,
            seconds: 0.5,
        },
    )
}

/// What a chart would be drawn from.
fn picture(history: &mut History) -> String {
    history.train.set_smoothing(0.9);
    let train = &history.train;
    let edges: Vec<f64> = (0..=40)
        .map(|i| f64::from(i) * train.rows() as f64 / 40.0)
        .collect();
    let losses: Vec<String> = [Metric::Loss, Metric::MtpLoss(1), Metric::MtpAcceptance(1)]
        .iter()
        .map(|&m| format!("{:?}", train.buckets(m, Axis::Step, &edges)))
        .collect();
    let evals: Vec<_> = (0..history.eval.rows())
        .map(|i| (history.eval.step(i), history.eval.value(Metric::Loss, i)))
        .collect();
    let left: Vec<_> = history
        .abandoned
        .iter()
        .map(|a| (a.segment, a.steps.rows(), a.steps.value(Metric::Loss, 0)))
        .collect();
    format!("{losses:?} {evals:?} {left:?} {:?}", history.events)
}

fn long_run(runs: &std::path::Path) -> (RunDirectory, Vec<Record>) {
    let run = new_run(runs, "long");
    let mut records = vec![started(0, 0, 0)];
    for n in 1..=MANY {
        let seq = records.len() as u64;
        records.push(step(
            seq,
            n,
            if n == 777 { f64::NAN } else { 5.0 / n as f64 },
        ));
        if n % 1000 == 0 {
            records.push(eval(seq + 1, n, 1.0));
        }
    }
    append(&run, &records);
    (run, records)
}

#[test]
fn a_rewind_leaves_the_abandoned_steps_aside() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    let mut records = vec![started(0, 0, 0)];
    records.extend((1..=10).map(|n| step(n, n, n as f64)));
    records.push(eval(11, 10, 9.0));
    // Killed after step 10, taken up again from the checkpoint of step 6.
    records.push(started(12, 1, 6));
    records.extend((7..=12).map(|n| step(6 + n, n, 100.0 + n as f64)));
    append(&run, &records);
    let history = History::open(&run.path).unwrap();
    let steps: Vec<u64> = (0..history.train.rows())
        .map(|i| history.train.step(i))
        .collect();
    assert_eq!(steps, (1..=12).collect::<Vec<_>>());
    assert_eq!(history.train.value(Metric::Loss, 5), Some(6.0));
    assert_eq!(history.train.value(Metric::Loss, 6), Some(107.0));
    assert_eq!(history.eval.rows(), 0);
    let [abandoned] = &history.abandoned[..] else {
        panic!("one segment was left")
    };
    assert_eq!((abandoned.segment, abandoned.steps.rows()), (0, 4));
    assert_eq!(abandoned.steps.value(Metric::Loss, 0), Some(7.0));
}

#[test]
fn live_file_and_cache_draw_the_same_picture() {
    let runs = tempdir().unwrap();
    let (run, mut records) = long_run(runs.path());
    let mut live = History::default();
    live.extend(records.clone());
    let expected = picture(&mut live);
    let cache = run.join(layout::CACHE).join("history");
    assert_eq!(picture(&mut History::open(&run.path).unwrap()), expected);
    assert!(cache.is_file());
    assert_eq!(picture(&mut History::open(&run.path).unwrap()), expected);

    // Go on behind the cache, with a rewind into it.
    let seq = records.len() as u64;
    let more = vec![
        started(seq, 1, MANY - 50),
        step(seq + 1, MANY - 49, 1.0),
        eval(seq + 2, MANY - 49, 0.5),
    ];
    let mut tail =
        Tail::from_offset(&run.path, History::open(&run.path).unwrap().offset()).unwrap();
    append(&run, &more);
    assert_eq!(tail.poll().unwrap().records, more);
    live.extend(more.clone());
    records.extend(more);
    let expected = picture(&mut live);
    assert_eq!(live.train.rows() as u64, MANY - 49);
    assert_eq!(picture(&mut History::open(&run.path).unwrap()), expected);
    fs::remove_file(&cache).unwrap();
    assert_eq!(picture(&mut History::open(&run.path).unwrap()), expected);
}

#[test]
fn a_cache_that_does_not_belong_is_left_aside() {
    let runs = tempdir().unwrap();
    let (run, _) = long_run(runs.path());
    History::open(&run.path).unwrap();
    let cache = run.join(layout::CACHE).join("history");
    let good = fs::read(&cache).unwrap();
    for length in [0, 7, 20, good.len() / 2, good.len() - 8] {
        fs::write(&cache, &good[..length]).unwrap();
        assert_eq!(
            History::open(&run.path).unwrap().train.rows() as u64,
            MANY,
            "cut to {length}"
        );
    }
    // Another run of the same length under the same inode.
    fs::write(&cache, &good).unwrap();
    let text = fs::read_to_string(run.join(layout::EVENTS)).unwrap();
    fs::write(
        run.join(layout::EVENTS),
        text.replace("\"lr\":0.001", "\"lr\":0.002"),
    )
    .unwrap();
    assert_eq!(
        History::open(&run.path)
            .unwrap()
            .train
            .last(Metric::LearningRate),
        Some(0.002)
    );
}

#[test]
fn every_point_is_in_some_bucket_and_extremes_are_kept() {
    let mut history = History::default();
    let spike = |n: u64| if n == 3333 { 99.0 } else { 1.0 };
    history.extend((1..=5000).map(|n| step(n, n, spike(n))));
    for axis in [Axis::Step, Axis::Tokens, Axis::Time] {
        let (first, last) = history.train.x_range(axis).unwrap();
        let edges: Vec<f64> = (0..=37)
            .map(|i| first + (last - first) * f64::from(i) / 37.0)
            .collect();
        let buckets = history.train.buckets(Metric::Loss, axis, &edges);
        assert_eq!(
            buckets.iter().map(|b| b.node.count).sum::<u32>(),
            5000,
            "{axis:?}"
        );
        assert_eq!(
            buckets.iter().map(|b| b.node.max).fold(0.0, f32::max),
            99.0,
            "{axis:?}"
        );
    }
}

#[test]
fn a_clock_that_goes_backwards_stands_still_in_the_chart() {
    let mut history = History::default();
    let mut records: Vec<Record> = (1..=4).map(|n| step(n, n, 1.0)).collect();
    records[2].time_ms -= 60_000;
    history.extend(records);
    let x: Vec<f64> = (0..4).map(|i| history.train.x(Axis::Time, i)).collect();
    assert_eq!(x, [0.0, 1.0, 1.0, 3.0]);
}

#[test]
fn depths_that_come_later_are_absent_before() {
    let mut history = History::default();
    let plain = StepRecord {
        step: 1,
        loss: 3.0,
        ..StepRecord::default()
    };
    history.extend([record(0, Event::Step(Box::new(plain))), step(1, 2, 2.0)]);
    assert_eq!(history.train.value(Metric::MtpLoss(1), 0), None);
    assert_eq!(history.train.value(Metric::MtpLoss(1), 1), Some(2.5));
    assert!(!history.train.has(Metric::MtpLoss(2)));
}

#[test]
fn an_empty_or_absent_events_file_is_an_empty_history() {
    let folder = tempdir().unwrap();
    assert_eq!(History::open(folder.path()).unwrap().train.rows(), 0);
    fs::write(folder.path().join(layout::EVENTS), "{\"v\":1,\"torn").unwrap();
    let history = History::open(folder.path()).unwrap();
    assert_eq!(
        (history.train.rows(), history.offset(), history.bad_lines),
        (0, 0, 0)
    );
}
