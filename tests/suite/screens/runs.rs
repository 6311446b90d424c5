//! The Runs and Logs screens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use trestle::app::logs::{Effect as Logs, Filter, Level, Line, Message as Console, Page, Place};
use trestle::app::runs::{Detail, Effect as Runs, Message as Listed, StepsFormat, steps};
use trestle::app::train::Effect as Train;
use trestle::app::{Effect, Key, Message, Screen, Size};
use trestle::event::{Event, RunInfo, Watched};
use trestle::run::series::Metric;
use trestle::run::{RunDirectory, Status, Summary};

use super::fixture::Bench;
use super::train::{RUN, opened, records, watching};

fn listed() -> Vec<(RunDirectory, Summary)> {
    let run = |id: &str, age: i64, status, steps: usize| {
        let mut summary = Summary::default();
        records()
            .iter()
            .take(steps)
            .for_each(|record| summary.add(record));
        summary.status = status;
        let path = PathBuf::from("/home/runs").join(id);
        let info = RunInfo {
            id: id.into(),
            name: "demo".into(),
            created_ms: -age * 60_000,
            ..RunInfo::default()
        };
        (RunDirectory { path, info }, summary)
    };
    vec![
        run("demo-3", 5, Status::Running, 150),
        run("demo-2", 90, Status::Completed, 900),
        run(
            "demo-1",
            3000,
            Status::Failed {
                error: "disk full".into(),
            },
            60,
        ),
    ]
}

fn detail(id: &str, steps: usize, lr: &str) -> Message {
    let history = opened(id, &records()[..steps]).history;
    let values =
        [("optimizer.lr", lr), ("train.seed", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let path = PathBuf::from("/home/runs").join(id);
    Message::Runs(Listed::Read(
        path,
        Box::new(Detail {
            history,
            values: BTreeMap::from(values),
        }),
    ))
}

/// The Runs screen with two marked runs that were read.
fn comparing(width: u16, height: u16) -> Bench {
    let mut bench = Bench::new(width, height);
    bench.press("5");
    bench.send(Message::Runs(Listed::Listed(listed())));
    bench.press("b");
    let effects = bench.press("j space");
    assert_eq!(
        effects,
        [Effect::Runs(Runs::Read("/home/runs/demo-2".into()))]
    );
    bench.send(detail("demo-3", 150, "3e-4"));
    bench.send(detail("demo-2", 300, "1e-3"));
    bench.state.toast = None;
    bench
}

#[test]
fn two_runs_lie_over_each_other_with_the_keys_that_differ() {
    insta::assert_snapshot!("runs_120x36", comparing(120, 36).text());
    insta::assert_snapshot!("runs_80x24", comparing(80, 24).text());
    insta::assert_snapshot!("runs_40x10", comparing(40, 10).text());
}

#[test]
fn a_run_of_another_program_is_listed_compared_and_left_to_it() {
    let mut bench = comparing(120, 36);
    let mut runs = listed();
    runs[0].0.info.watched = Some(Watched {
        path: "/lab/job.out".into(),
        ..Watched::default()
    });
    runs[0].1.status = Status::Stale;
    bench.send(Message::Runs(Listed::Listed(runs)));
    // Its own numbers can be compared where it has them.
    let mut log = records()[..150].to_vec();
    for record in &mut log {
        if let Event::Step(step) = &mut record.event {
            step.extra.insert("global_load_balancing_loss".into(), 1.25);
        }
    }
    let foreign = Detail {
        history: opened("demo-3", &log).history,
        values: [("train.steps".to_owned(), "500".to_owned())].into(),
    };
    bench.send(Message::Runs(Listed::Read(
        "/home/runs/demo-3".into(),
        Box::new(foreign),
    )));
    let mut metrics = vec![];
    for _ in 0..20 {
        bench.press("o");
        metrics.push(bench.state.runs.metric);
        if bench.state.runs.metric == Metric::GlobalLoadBalancing {
            break;
        }
    }
    assert_eq!(
        metrics[..3],
        [
            Metric::MtpLoss(1),
            Metric::GradNorm,
            Metric::TokensPerSecond
        ]
    );
    assert_eq!(bench.state.runs.metric, Metric::GlobalLoadBalancing);
    let text = bench.text();
    for words in [
        "? stale",
        "overlay global load balancing loss",
        "1.250",
        "train.steps",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Nobody here can continue it.
    bench.press("k k");
    for key in ["R", "F"] {
        assert_eq!(bench.press(key), []);
        assert!(bench.text().contains("another program trains it"), "{key}");
    }
    // Another one is watched by its path.
    bench.press("W");
    assert_eq!(bench.press("enter"), [], "a path is missing");
    assert!(bench.text().contains("name a file or a folder"));
    bench.press("l o g s tab 4 0 9 6");
    assert_eq!(
        bench.press("enter"),
        [Effect::Runs(Runs::Watch {
            path: "logs".into(),
            seq_length: Some(4096)
        })]
    );
}

#[test]
fn whoever_comes_back_finds_the_live_run() {
    let mut bench = Bench::new(120, 36);
    let effects = bench.send(Message::Runs(Listed::Listed(listed())));
    assert!(
        effects.contains(&Effect::Train(Train::Follow("/home/runs/demo-3".into()))),
        "{effects:?}"
    );
    assert_eq!(bench.state.train.run, Some("/home/runs/demo-3".into()));
    // Only once: the user may look at another run.
    assert_eq!(bench.send(Message::Runs(Listed::Listed(listed()))), []);
}

#[test]
fn rows_are_sorted_searched_and_keep_their_cursor() {
    let mut bench = comparing(120, 36);
    let selected = |bench: &Bench| bench.state.runs.selected().unwrap().0.id().to_owned();
    assert_eq!(selected(&bench), "demo-1");
    bench.press("right");
    let losses: Vec<_> = bench
        .state
        .runs
        .rows()
        .iter()
        .map(|&i| bench.state.runs.runs[i].1.loss_smoothed)
        .collect();
    assert!(losses.windows(2).all(|w| w[0] <= w[1]), "{losses:?}");
    bench.press("left left left");
    bench.press("G");
    let before = selected(&bench);
    bench.send(Message::Runs(Listed::Listed(listed())));
    assert_eq!(selected(&bench), before);
    bench.press("/ f a i l e d enter");
    assert_eq!(bench.state.runs.rows(), [2]);
    bench.press("esc");
    assert_eq!(bench.state.runs.rows().len(), 3);
}

#[test]
fn runs_are_opened_resumed_and_deleted_after_a_question() {
    let mut bench = comparing(120, 36);
    bench.press("D");
    assert_eq!(bench.press("esc"), []);
    bench.press("D");
    assert_eq!(
        bench.press("y"),
        [Effect::Runs(Runs::Trash("/home/runs/demo-1".into()))]
    );
    let effects = bench.press("R");
    assert!(
        effects.contains(&Effect::Train(Train::Resume("/home/runs/demo-1".into()))),
        "{effects:?}"
    );
    assert_eq!(bench.state.screen, Screen::Train);
    bench.press("5 g g");
    // A live run is not deleted and not resumed.
    assert_eq!(bench.press("D R"), []);
    let effects = bench.press("enter");
    assert!(
        effects.contains(&Effect::Train(Train::Follow("/home/runs/demo-3".into()))),
        "{effects:?}"
    );
}

/// The lines of a console of 120.
fn console() -> Vec<Line> {
    let text = |n: u64| match n {
        77 => "warn  step 77 loss is not finite, skipped".to_owned(),
        90 => "\u{1b}[31merror\u{1b}[0m step 90 disk full".to_owned(),
        n => format!(
            "[rank{}]: step {n} loss {:.3}",
            n % 2,
            6.0 - n as f64 / 40.0
        ),
    };
    let line = |n: u64| Line::new(n * 50, n * 50 + 50, text(n).as_bytes());
    (1..=120).map(line).collect()
}

/// What the thread would answer to a question.
fn answer(place: &Place, filter: Filter) -> (Option<Page>, Option<u64>) {
    let lines: Vec<Line> = console()
        .into_iter()
        .filter(|line| filter.lets_through(line))
        .collect();
    let found = match place {
        Place::Step(step) => lines.iter().find(|line| line.step() >= Some(*step)),
        Place::Match { from, query, .. } => lines
            .iter()
            .find(|line| line.offset >= *from && query.is_match(&line.text)),
        _ => None,
    };
    let is_lost = matches!(place, Place::Step(_) | Place::Match { .. }) && found.is_none();
    let found = found.map(|line| line.offset);
    let page = Page {
        lines,
        begin: 0,
        end: 6050,
    };
    ((!is_lost).then_some(page), found)
}

/// Answers what was asked of the console.
fn carry_out(bench: &mut Bench, effects: &[Effect]) {
    for effect in effects {
        if let Effect::Logs(Logs::Read {
            question,
            place,
            filter,
        }) = effect
        {
            let (page, found) = answer(place, *filter);
            bench.send(Message::Logs(Console::Read {
                run: RUN.into(),
                question: *question,
                place: place.clone(),
                page,
                found,
                size: 6050,
            }));
        }
    }
}

/// Presses a key and answers what it asks.
fn ask(bench: &mut Bench, keys: &str) {
    let effects = bench.press(keys);
    carry_out(bench, &effects);
}

fn logging(width: u16, height: u16) -> Bench {
    let mut bench = watching(width, height);
    let question = bench.state.logs.question;
    let (page, found) = answer(&Place::End, Filter::default());
    bench.send(Message::Logs(Console::Read {
        run: RUN.into(),
        question,
        place: Place::End,
        page,
        found,
        size: 6050,
    }));
    bench.press("6");
    bench
}

#[test]
fn the_console_follows_filters_and_finds() {
    insta::assert_snapshot!("logs_80x24", logging(80, 24).text());
    insta::assert_snapshot!("logs_40x10", logging(40, 10).text());
    let mut bench = logging(120, 36);
    assert_eq!(bench.state.logs.cursor, 119);
    bench.press("/ f i n i t e enter");
    let line = |bench: &Bench| {
        let logs = &bench.state.logs;
        logs.line(logs.cursor).unwrap().text.clone()
    };
    assert_eq!(line(&bench), "warn  step 77 loss is not finite, skipped");
    assert!(!bench.state.logs.follow);
    ask(&mut bench, "esc w");
    assert_eq!(bench.state.logs.entries.len(), 2);
    bench.press("G");
    assert_eq!(line(&bench), "error step 90 disk full");
    let effects = bench.press("S");
    let [Effect::Logs(Logs::Save { filter, .. })] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(filter.level, Level::Warning);
    // Its step, in the charts, and from there the line again.
    bench.press("c");
    assert_eq!(
        (bench.state.screen, bench.state.train.view.cursor),
        (Screen::Train, Some(90.0))
    );
    ask(&mut bench, "enter");
    assert_eq!(bench.state.screen, Screen::Logs);
    assert_eq!(line(&bench), "error step 90 disk full");
    // Errors, then everything again, by rank.
    ask(&mut bench, "w");
    ask(&mut bench, "w");
    ask(&mut bench, "r");
    assert_eq!(bench.state.logs.filter.rank, Some(0));
    assert_eq!(bench.state.logs.entries.len(), 59);
    let text = bench.text();
    assert!(text.contains("rank 0"), "{text}");
    ask(&mut bench, "r");
    assert!(line(&bench).starts_with("[rank1]: "));
    ask(&mut bench, "r");
    assert_eq!(bench.state.logs.filter.rank, None);
}

#[test]
fn what_is_no_longer_asked_is_not_taken_and_a_new_console_is_read_anew() {
    let mut bench = logging(120, 36);
    bench.press("w");
    let effects = bench.press("w");
    let before = bench.state.logs.question - 1;
    let late = |question| {
        Message::Logs(Console::Read {
            run: RUN.into(),
            question,
            place: Place::End,
            page: Some(Page::default()),
            found: None,
            size: 0,
        })
    };
    bench.send(late(before));
    assert_eq!(bench.state.logs.entries.len(), 120);
    carry_out(&mut bench, &effects);
    assert_eq!(bench.state.logs.entries.len(), 1);
    let effects = bench.send(Message::Logs(Console::Restarted(RUN.into())));
    assert!(bench.state.logs.entries.is_empty());
    assert!(matches!(
        &effects[..],
        [Effect::Logs(Logs::Read {
            place: Place::End,
            ..
        })]
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_key_at_any_size_panics(
        screen in prop::sample::select(vec!["4", "5", "6"]),
        steps in prop::collection::vec((proptest::char::range(' ', '~'), 0..140u16, 0..50u16), 1..40),
    ) {
        let mut bench = watching(120, 36);
        bench.send(Message::Runs(Listed::Listed(listed())));
        bench.send(detail("demo-3", 150, "3e-4"));
        bench.press(screen);
        for (c, width, height) in steps {
            if width % 4 == 0 {
                bench.send(Message::Resize(Size { width, height }));
            }
            bench.send(Message::Key(Key::char(c)));
            bench.text();
        }
    }
}

#[test]
fn a_run_gets_tags_and_the_search_finds_them() {
    let mut bench = Bench::new(120, 36);
    bench.press("5");
    bench.send(Message::Runs(Listed::Listed(listed())));
    bench.press("t");
    bench.send(Message::Paste("lr sweep lr".into()));
    let path = PathBuf::from("/home/runs/demo-3");
    let tags = vec!["lr".to_owned(), "sweep".to_owned()];
    assert_eq!(
        bench.press("enter"),
        [Effect::Runs(Runs::Tag(path, tags.clone()))]
    );
    let mut runs = listed();
    runs[0].0.info.tags = tags;
    bench.send(Message::Runs(Listed::Listed(runs)));
    bench.press("/ s w e e p enter");
    assert_eq!(bench.state.runs.rows(), [0]);
}

#[test]
fn the_compared_runs_are_exported_with_every_step() {
    let mut bench = Bench::new(120, 36);
    bench.press("5");
    bench.send(Message::Runs(Listed::Listed(listed())));
    bench.press("space space x");
    let effects = bench.press("ctrl-u");
    assert!(effects.is_empty());
    bench.send(Message::Paste("both.txt".into()));
    assert!(bench.press("enter").is_empty());
    assert!(bench.text().contains("neither .csv nor .json"));
    bench.press("ctrl-u");
    bench.send(Message::Paste("both.csv".into()));
    let runs = ["demo-3", "demo-2"].map(|id| PathBuf::from("/home/runs").join(id));
    let export = Runs::Export {
        runs: runs.to_vec(),
        path: "both.csv".into(),
        format: StepsFormat::Csv,
    };
    assert_eq!(bench.press("enter"), [Effect::Runs(export)]);
}

#[test]
fn an_export_has_every_step_that_counts_once() {
    let history = |id: &str, count: usize| (id.to_owned(), opened(id, &records()[..count]).history);
    let runs = [history("demo-1", records().len()), history("demo-2", 50)];
    let rows = |i: usize| runs[i].1.train.rows();
    let csv = steps(&runs, StepsFormat::Csv);
    let mut lines = csv.lines();
    let heading: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(heading[..5], ["run", "step", "tokens", "time_ms", "loss"]);
    assert!(heading.contains(&"fwd_bwd_seconds") || heading.contains(&"forward_backward_seconds"));
    assert!(heading.contains(&"mtp1_acceptance"));
    assert_eq!(lines.clone().count(), rows(0) + rows(1));
    let skipped = lines
        .clone()
        .find(|l| l.starts_with("demo-1,260,"))
        .unwrap();
    assert!(skipped.split(',').nth(4) == Some("nan"), "{skipped}");
    for line in lines {
        assert_eq!(line.split(',').count(), heading.len(), "{line}");
    }
    let json: serde_json::Value = serde_json::from_str(&steps(&runs, StepsFormat::Json)).unwrap();
    assert_eq!(json[0]["run"], "demo-1");
    assert_eq!(json[0]["step"].as_array().unwrap().len(), rows(0));
    assert_eq!(json[0]["loss"][259], serde_json::Value::Null);
    assert_eq!(json[1]["loss"].as_array().unwrap().len(), rows(1));
}

#[test]
fn the_watched_run_is_exported_from_its_screen() {
    let mut bench = watching(120, 36);
    bench.press("x");
    let export = Runs::Export {
        runs: vec![RUN.into()],
        path: "demo-1.csv".into(),
        format: StepsFormat::Csv,
    };
    assert_eq!(bench.press("enter"), [Effect::Runs(export)]);
    assert_eq!(bench.press("Y"), [Effect::Copy(RUN.into())]);
}
