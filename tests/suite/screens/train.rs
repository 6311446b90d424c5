//! The Train screen: charts, numbers, events, and what its keys ask of a trainer.

use std::path::{Path, PathBuf};

use trestle::app::train::{Effect as Train, Fork, Message as Said, Opened, Pane};
use trestle::app::{Background, Dialog, Effect, Message};
use trestle::event::{
    DepthStep, Event, MemoryUse, RankMemory, Record, RequestKind, RunInfo, StepRecord, StopKind,
    VERSION,
};
use trestle::run::series::Metric;
use trestle::run::{History, Summary};

use super::fixture::{Bench, COLOURS};

pub(super) const RUN: &str = "/home/runs/demo-1";
const STEPS: u64 = 400;

fn record(seq: u64, event: Event) -> Record {
    Record {
        v: VERSION,
        seq,
        time_ms: 1_700_000_000_000 + seq as i64 * 150,
        event,
    }
}

/// A step of a falling loss with a spike and some noise that is always the same.
fn step(seq: u64, step: u64) -> Record {
    let noise = |salt: u64| ((step * 7919 + salt * 104_729) % 1000) as f64 / 1000.0 - 0.5;
    let loss = 2.0 + 4.0 / (1.0 + step as f64 / 40.0) + 0.2 * noise(1);
    let loss = match step {
        150 => 7.5,
        260 => f64::NAN,
        _ => loss,
    };
    let depth = DepthStep {
        loss: loss + 0.4 + 0.1 * noise(2),
        correct: 300 + step,
        total: 4000,
    };
    let parts = [
        ("forward_backward", 0.13),
        ("optimizer", 0.01),
        ("data", 0.002),
        ("other", 0.008),
    ];
    record(
        seq,
        Event::Step(Box::new(StepRecord {
            step,
            tokens: step * 4096,
            loss,
            mtp: vec![depth],
            grad_norm: 1.0 + noise(3),
            lr: 3e-4 * (1.0 - step as f64 / 500.0),
            mtp_loss_scale: 0.1,
            step_seconds: 0.15 + 0.01 * noise(4),
            parts: parts.map(|(n, v)| (n.to_owned(), v)).into(),
            tokens_per_second: 27_000.0 + 2000.0 * noise(5),
            mfu: 0.0,
            hfu: 0.0,
            allocated: 210 << 20,
            peak: (350 << 20) + step * 1000,
            rss: 480 << 20,
            memory: None,
            skipped: step == 260,
            ..StepRecord::default()
        })),
    )
}

/// What a run of [`STEPS`] of 500 steps said, with a rewind after step 320.
pub(super) fn records() -> Vec<Record> {
    let mut records = vec![];
    let start = |records: &mut Vec<Record>, segment, at: u64, from: Option<&str>| {
        records.push(record(
            records.len() as u64,
            Event::Started {
                segment,
                step: at,
                tokens: at * 4096,
                total_steps: 500,
                pid: 7,
                host: "here".into(),
                device: "cpu (2 threads)".into(),
                program: "trestle 0.1.0".into(),
                parameters: 1_500_000,
                mtp_parameters: 250_000,
                flops_per_token: 9e6,
                peak_flops: 0.0,
                flops_formula: String::new(),
                peak_name: String::new(),
                precision: "f32".into(),
                devices: vec![],
                memory_plan: None,
                mtp_depth: 1,
                resumed_from: from.map(str::to_owned),
            },
        ));
    };
    start(&mut records, 0, 0, None);
    let push = |records: &mut Vec<Record>, n: u64| {
        records.push(step(records.len() as u64, n));
        let seq = records.len() as u64;
        if n.is_multiple_of(100) {
            let mtp = vec![DepthStep {
                loss: 3.1,
                correct: 5,
                total: 100,
            }];
            let loss = 2.2 + 3.5 / (1.0 + n as f64 / 50.0);
            records.push(record(
                seq,
                Event::Eval {
                    step: n,
                    tokens: n * 4096,
                    loss,
                    mtp,
                    eval_tokens: 8192,
                    seconds: 0.8,
                },
            ));
            records.push(record(
                seq + 1,
                Event::Checkpoint {
                    step: n,
                    path: format!("checkpoints/step-{n:08}"),
                    bytes: 24 << 20,
                    seconds: 0.1,
                    weights_hash: "ab".into(),
                    removed: vec![],
                },
            ));
        }
        if n == 260 {
            records.push(record(
                seq,
                Event::Warning {
                    step: n,
                    code: "non_finite".into(),
                    message: "loss is not finite, step skipped".into(),
                },
            ));
        }
        if n == 220 {
            records.push(record(
                seq,
                Event::LiveChange {
                    step: n,
                    key: "optimizer.lr".into(),
                    from: "3e-4".into(),
                    to: "2e-4".into(),
                },
            ));
        }
    };
    (1..=320).for_each(|n| push(&mut records, n));
    start(&mut records, 1, 300, Some("checkpoints/step-00000300"));
    (301..=STEPS).for_each(|n| push(&mut records, n));
    records
}

pub(super) fn opened(id: &str, records: &[Record]) -> Opened {
    let mut history = History::default();
    history.extend(records.iter().cloned());
    let mut summary = Summary::default();
    for record in records {
        summary.add(record);
    }
    Opened {
        info: RunInfo {
            id: id.into(),
            name: "demo".into(),
            ..RunInfo::default()
        },
        history,
        summary,
        live: vec![
            ("optimizer.lr", "3e-4".into()),
            ("mtp.loss_scale", "0.1".into()),
        ],
        alerts: vec!["alerts.loss_spike = 6.0".into()],
    }
}

/// A workbench that watches a live run.
pub(super) fn watching(width: u16, height: u16) -> Bench {
    let mut bench = Bench::new(width, height);
    bench.send(Message::Launched(Ok(PathBuf::from(RUN))));
    let opened = Box::new(opened("demo-1", &records()));
    bench.send(Message::Train(Said::Opened(RUN.into(), Ok(opened))));
    bench.send(Message::Train(Said::Alive(RUN.into(), true)));
    bench.state.toast = None;
    bench
}

#[test]
fn the_screen_at_every_room() {
    insta::assert_snapshot!("train_120x36", watching(120, 36).text());
    insta::assert_snapshot!("train_80x24", watching(80, 24).text());
    insta::assert_snapshot!("train_40x10", watching(40, 10).text());
    let mut bench = watching(120, 36);
    bench.press("y . a left left i");
    insta::assert_snapshot!("train_120x36_log_tokens_cursor", bench.text());
}

#[test]
fn ascii_and_styles() {
    let ascii = trestle::tui::theme::Capabilities {
        ascii: true,
        ..COLOURS
    };
    let bench = watching(80, 24).with(ascii, Background::Dark);
    insta::assert_snapshot!("train_80x24_ascii", bench.text());
    assert!(bench.text().is_ascii());
    insta::assert_snapshot!("train_80x24_styles", watching(80, 24).styles());
}

fn requests(effects: Vec<Effect>) -> Vec<RequestKind> {
    let kind = |effect| match effect {
        Effect::Request { run, kind } => {
            assert_eq!(run, Path::new(RUN));
            kind
        }
        other => panic!("{other:?}"),
    };
    effects.into_iter().map(kind).collect()
}

#[test]
fn keys_ask_the_trainer() {
    let mut bench = watching(120, 36);
    assert_eq!(requests(bench.press("space")), [RequestKind::Pause]);
    bench.send(Message::Train(Said::Records(
        RUN.into(),
        vec![record(999, Event::Paused { step: STEPS })],
    )));
    assert_eq!(requests(bench.press("space")), [RequestKind::Continue]);
    assert_eq!(requests(bench.press("C")), [RequestKind::Checkpoint]);
    bench.press("M");
    bench.send(Message::Paste("spike ahead".into()));
    assert_eq!(
        requests(bench.press("enter")),
        [RequestKind::Mark {
            note: "spike ahead".into()
        }]
    );
    for (key, how) in [
        ("1", StopKind::Save),
        ("2", StopKind::Step),
        ("3", StopKind::Now),
    ] {
        bench.press("S");
        if how == StopKind::Save {
            insta::assert_snapshot!("train_stop_120x36", bench.text());
        }
        assert_eq!(requests(bench.press(key)), [RequestKind::Stop { how }]);
    }
}

#[test]
fn live_edit_sends_what_was_changed_and_refuses_nonsense() {
    let mut bench = watching(120, 36);
    bench.press("E");
    // The present value is that of the last live change, not that of the recipe.
    insta::assert_snapshot!("train_live_120x36", bench.text());
    bench.press("ctrl-u");
    bench.send(Message::Paste("fast".into()));
    assert_eq!(bench.press("enter"), []);
    let Some(Dialog::Form(form)) = bench.state.dialogs.last() else {
        panic!("the form stays open")
    };
    assert!(
        form.error.as_ref().unwrap().contains("optimizer.lr"),
        "{:?}",
        form.error
    );
    bench.press("ctrl-u");
    bench.send(Message::Paste("1e-4".into()));
    let set = RequestKind::Set {
        key: "optimizer.lr".into(),
        value: "1e-4".into(),
    };
    assert_eq!(requests(bench.press("enter")), [set]);
}

#[test]
fn a_run_that_ended_can_be_resumed_and_forked() {
    let mut bench = watching(120, 36);
    assert_eq!(bench.press("R"), []);
    bench.send(Message::Train(Said::Alive(RUN.into(), false)));
    assert_eq!(bench.press("space"), []);
    assert_eq!(bench.press("R"), [Effect::Train(Train::Resume(RUN.into()))]);
    bench.press("F");
    bench.send(Message::Paste("optimizer.lr=1e-3".into()));
    let fork = Fork {
        run: RUN.into(),
        step: STEPS,
        name: "demo".into(),
        sets: vec!["optimizer.lr=1e-3".into()],
    };
    assert_eq!(bench.press("enter"), [Effect::Train(Train::Fork(fork))]);
}

#[test]
fn new_records_reach_the_charts_and_answers_the_status_line() {
    let mut bench = watching(120, 36);
    let rows = bench.state.train.history.train.rows();
    let answer = Event::Answer {
        request: "x".into(),
        step: STEPS,
        ok: false,
        message: "lr must be positive".into(),
    };
    let more = vec![step(2000, STEPS + 1), record(2001, answer)];
    bench.send(Message::Train(Said::Records(RUN.into(), more.clone())));
    assert_eq!(bench.state.train.history.train.rows(), rows + 1);
    assert!(bench.text().contains("lr must be positive"));
    // Late words of another run are not heard.
    bench.send(Message::Train(Said::Records(
        "/home/runs/other-1".into(),
        more,
    )));
    assert_eq!(bench.state.train.history.train.rows(), rows + 1);
}

#[test]
fn the_events_cursor_moves_the_charts_cursor() {
    let mut bench = watching(120, 36);
    let at = bench
        .state
        .train
        .events()
        .position(|r| matches!(r.event, Event::LiveChange { .. }))
        .unwrap();
    for _ in 0..at {
        bench.press("j");
    }
    assert_eq!(bench.state.train.focus, Pane::Events);
    assert_eq!(bench.state.train.view.cursor, Some(220.0));
    bench.press("esc");
    assert_eq!(bench.state.train.view.cursor, None);
}

#[test]
fn a_chart_of_a_zoomed_window_names_its_bucket_size() {
    let mut bench = watching(120, 36);
    bench.press("+ + +");
    let (start, end) = bench.state.train.view.window(bench.state.train.range());
    assert_eq!(end, STEPS as f64);
    assert!((end - start - 399.0 / 8.0).abs() < 1e-9);
    assert!(
        bench.text().contains("1 step = 1.4 cols"),
        "{}",
        bench.text()
    );
}

#[test]
fn a_foreign_mixture_of_experts_shows_its_router_and_its_ranks() {
    let mut records = records();
    for record in &mut records {
        if let Event::Step(step) = &mut record.event {
            step.mtp.clear();
            for (name, value) in [
                ("load_balancing_loss", 0.0),
                ("global_load_balancing_loss", 1.25),
                ("power", 563.5),
            ] {
                step.extra.insert(name.to_owned(), value);
            }
            let rank = |rank, peak| RankMemory {
                rank,
                peak,
                ..RankMemory::default()
            };
            step.memory = Some(MemoryUse {
                device: "rank 8".into(),
                peak: 50 << 30,
                reserved: 55 << 30,
                ranks: vec![rank(0, 40 << 30), rank(8, 50 << 30)],
                ..MemoryUse::default()
            });
        }
    }
    let mut bench = Bench::new(160, 48);
    bench.send(Message::Launched(Ok(RUN.into())));
    let opened = opened("demo-1", &records);
    bench.send(Message::Train(Said::Opened(
        RUN.into(),
        Ok(Box::new(opened)),
    )));
    let text = bench.text();
    for words in [
        "router losses",
        "global load balancing loss 1.250",
        "memory rank 8",
        "2 ranks: 40.0 GiB (0) to 50.0 GiB (8)",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // A type that is tracked and not used says nothing, and only what the run has can be chosen.
    let lines = text.lines().filter(|l| l.contains("load balancing loss 0"));
    assert_eq!(lines.count(), 0, "{text}");
    assert!(bench.state.train.metrics().contains(&Metric::Power));
    assert!(!bench.state.train.metrics().contains(&Metric::RouterZ));
}
