//! The trainer: learning, schedules, accumulation, guard, control, resume, TensorBoard.

mod control;
mod failure;
mod kill;
mod learning;
mod tensorboard;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use trestle::event::{Event, Record, RequestKind, StepRecord, complete_lines, layout, parse_line};
use trestle::run::{self, CreateRun, RunDirectory};

/// A tiny model with one MTP depth on a text of its own; small enough that a step takes milliseconds.
const RECIPE: &str = r#"
[model]
name = "tiny"
vocab_size = 4096
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
linear_num_key_heads = 2
linear_num_value_heads = 2
linear_key_head_dim = 16
linear_value_head_dim = 16
full_attention_interval = 2
tie_word_embeddings = true
mtp_num_hidden_layers = 1

[train]
device = "cpu"
threads = 1
steps = 30
seq_length = 32
micro_batch_size = 2
global_batch_size = 4
eval_interval = 10
eval_batches = 2

[optimizer]
lr = 1e-2

[schedule]
warmup_steps = 3

[checkpoint]
interval = 4
keep = 0

[data]
sources = ["text/*.jsonl"]
validation_fraction = 0.2
cache = "cache"
"#;

/// A folder with text, and runs in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("text")).expect("writable");
        let nouns = [
            "cat", "house", "river", "captain", "letter", "winter", "garden",
        ];
        let verbs = ["sees", "follows", "remembers", "loses", "finds"];
        let mut text = String::new();
        for document in 0..120usize {
            let sentences = document * 3..document * 3 + 3;
            let sentence = |i: usize| {
                let (a, b) = (nouns[i % 7], nouns[(i * i + 3) % 7]);
                let verb = verbs[(i * 3 + i / 5) % 5];
                format!("The {a} {verb} the {b}, and number {i} of the {b} is quiet. ")
            };
            let lines: String = sentences.map(sentence).collect();
            text += &serde_json::json!({ "text": lines }).to_string();
            text.push('\n');
        }
        fs::write(folder.path().join("text/a.jsonl"), text).expect("writable");
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A run of [`RECIPE`] with changes.
    fn run(&self, sets: &[&str]) -> RunDirectory {
        let path = self.path().join("recipe.toml");
        fs::write(&path, RECIPE).expect("writable");
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let loaded = trestle::recipe::load(&path, &sets, &|path: &Path| fs::read_to_string(path));
        let recipe = loaded
            .recipe
            .unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let new = CreateRun {
            name: "tiny".to_owned(),
            recipe_toml: trestle::recipe::to_toml(&recipe.with_absolute_paths(self.path())),
            source: Some(path),
            ..CreateRun::default()
        };
        run::create(&self.path().join("runs"), new).expect("a run directory")
    }
}

/// The trainer as a process of its own.
fn spawn(run: &Path) -> Child {
    let console = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(run.join(layout::CONSOLE))
        .expect("a console");
    Command::new(env!("CARGO_BIN_EXE_trestle"))
        .arg("trainer")
        .arg(run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(console)
        .spawn()
        .expect("the program starts")
}

fn console(run: &Path) -> String {
    fs::read_to_string(run.join(layout::CONSOLE)).unwrap_or_default()
}

/// Every complete line of the run's events; all must be records, numbered without gaps.
fn records(run: &Path) -> Vec<Record> {
    let bytes = fs::read(run.join(layout::EVENTS)).unwrap_or_default();
    let (lines, _) = complete_lines(&bytes);
    let records: Vec<Record> = lines
        .into_iter()
        .map(|line| parse_line(line.expect("UTF-8")).expect("a record"))
        .collect();
    for (seq, record) in records.iter().enumerate() {
        assert_eq!(record.seq, seq as u64, "{record:?}");
    }
    records
}

fn events(run: &Path) -> Vec<Event> {
    records(run)
        .into_iter()
        .map(|record| record.event)
        .collect()
}

/// The steps of a run; of a step that several segments did, the last.
fn steps(run: &Path) -> BTreeMap<u64, StepRecord> {
    let steps = events(run).into_iter().filter_map(|event| match event {
        Event::Step(step) => Some((step.step, *step)),
        _ => None,
    });
    steps.collect()
}

/// What must be equal in a continued run, exactly.
fn exact(step: &StepRecord) -> Vec<u64> {
    let mtp = step
        .mtp
        .iter()
        .flat_map(|d| [d.loss.to_bits(), d.correct, d.total]);
    let main = [
        step.tokens,
        step.loss.to_bits(),
        step.grad_norm.to_bits(),
        step.lr.to_bits(),
        u64::from(step.skipped),
    ];
    main.into_iter().chain(mtp).collect()
}

/// The hash of the final weights.
fn finished(run: &Path) -> Option<(String, String)> {
    events(run).into_iter().rev().find_map(|event| match event {
        Event::Finished {
            reason,
            weights_hash,
            ..
        } => Some((reason, weights_hash)),
        _ => None,
    })
}

/// Answers to requests, by id, in order.
fn answers(run: &Path) -> Vec<(String, bool, String)> {
    let answers = events(run).into_iter().filter_map(|event| match event {
        Event::Answer {
            request,
            ok,
            message,
            ..
        } => Some((request, ok, message)),
        _ => None,
    });
    answers.collect()
}

/// Waits for something that the trainer does.
#[track_caller]
fn wait(what: &str, run: &Path, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(
            begin.elapsed() < Duration::from_mins(2),
            "no {what}; events: {:#?}; console: {}",
            events(run).iter().rev().take(5).collect::<Vec<_>>(),
            console(run)
        );
        thread::sleep(Duration::from_millis(10));
    }
}

fn ask(run: &RunDirectory, kind: RequestKind) -> String {
    run::request(run, kind).expect("control.jsonl can be appended to")
}

/// What lies in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Copies a run directory.
fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
    to.to_owned()
}
