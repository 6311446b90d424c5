//! How long the Mapping screen takes to open the largest model and to answer a key of a search.
//!
//! `cargo bench --bench mapping [-- --write]` builds the table of Qwen3.5-397B-A17B as published, and of its text class with every expert a
//! tensor of its own, shows the first frame of 120x36, then types searches letter by letter, each key with its frame, on both sides. It prints
//! one JSON object, and with `--write` keeps it in `tests/bench/results/mapping_screen.json`.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result"
)]

#[path = "support/machine.rs"]
mod machine;

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde_json::{Value, json};
use trestle::app::mapping::{Form, Message as Mapping, Model, Origin, Shared, Side};
use trestle::app::{self, Background, Code, Key, Keymap, Message, Screen, Size, State};
use trestle::spec::{ExpertStyle, ModelConfig, find};
use trestle::tui::canvas::Hits;
use trestle::tui::theme::{Capabilities, Depth, Theme};

use machine::{commit, machine};

const MODEL: &str = "397b-a17b";
/// Typed letter by letter: what people look for, what everything matches, what nothing matches, long words.
const SEARCHES: [&str; 7] = [
    "fc1 l.7",
    "w",
    "layers.59.mlp.experts.linear_fc2.weight511",
    "language_model decoder mlp",
    "mtp eh",
    "e e e e e e",
    "zzzz",
];
const ROUNDS: usize = 3;

struct Screens {
    state: State,
    theme: Theme,
    buffer: Buffer,
    hits: Hits,
}

impl Screens {
    fn new() -> Self {
        let mut state = State::new("recipes".into(), "runs".into(), Keymap::default());
        state.screen = Screen::Mapping;
        state.size = Size {
            width: 120,
            height: 36,
        };
        let capabilities = Capabilities {
            depth: Depth::Many,
            ascii: false,
            background: None,
        };
        Self {
            state,
            theme: Theme::new(capabilities, Background::Dark),
            buffer: Buffer::empty(Rect::new(0, 0, 120, 36)),
            hits: Hits::default(),
        }
    }

    /// Milliseconds of a message with the frame that shows it.
    fn send(&mut self, message: Message) -> f64 {
        let start = Instant::now();
        app::update(&mut self.state, message);
        let area = self.buffer.area;
        self.buffer.reset();
        trestle::tui::draw(
            &self.state,
            &self.theme,
            area,
            &mut self.buffer,
            &mut self.hits,
        );
        start.elapsed().as_secs_f64() * 1e3
    }

    fn key(&mut self, code: Code) -> f64 {
        self.send(Message::Key(Key {
            code,
            ctrl: false,
            alt: false,
        }))
    }
}

fn main() {
    let write = std::env::args().any(|argument| argument == "--write");
    let entry = find(MODEL).unwrap();
    let result = json!({
        "command": "cargo bench --bench mapping -- --write",
        "commit": commit(),
        "machine": machine(),
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "frame": [120, 36],
        "rounds": ROUNDS,
        "published": measure(&entry.model, entry.experts),
        "text_with_experts_one_by_one": measure(&entry.text_only(), ExpertStyle::PER_EXPERT),
    });
    let text = serde_json::to_string_pretty(&result).unwrap();
    println!("{text}");
    if write {
        fs::write("tests/bench/results/mapping_screen.json", text + "\n").unwrap();
    }
}

fn measure(config: &ModelConfig, style: ExpertStyle) -> Value {
    let mut opens: Vec<(f64, f64)> = Vec::new();
    let mut keys: Vec<(f64, String)> = Vec::new();
    let mut sizes = (0, 0);
    for _ in 0..ROUNDS {
        let mut screens = Screens::new();
        let start = Instant::now();
        let model = Model::new("397b".into(), config, style);
        let built = start.elapsed().as_secs_f64() * 1e3;
        sizes = (model.huggingface.tensors.len(), model.table.entries().len());
        let origin = Origin::Published {
            name: MODEL.into(),
            form: Form::Published,
        };
        screens.state.mapping.opening = Some(origin.clone());
        let opened = Mapping::Opened(origin, Ok(Shared(Arc::new(model))));
        let shown = screens.send(Message::Mapping(opened));
        opens.push((built, shown));
        for side in [Side::Megatron, Side::HuggingFace] {
            for search in SEARCHES {
                screens.key(Code::Char('/'));
                let mut typed = String::new();
                for letter in search.chars() {
                    typed.push(letter);
                    let ms = screens.key(Code::Char(letter));
                    keys.push((ms, format!("{typed} ({})", side.name())));
                }
                for _ in 0..3 {
                    typed.pop();
                    let ms = screens.key(Code::Backspace);
                    keys.push((ms, format!("{typed} after backspace ({})", side.name())));
                }
                screens.key(Code::Esc);
            }
            screens.key(Code::Tab);
        }
    }
    keys.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at = |share: f64| round(keys[((keys.len() - 1) as f64 * share) as usize].0);
    let (slowest_ms, slowest) = keys.last().unwrap();
    let total = |(built, shown): &(f64, f64)| built + shown;
    json!({
        "huggingface_tensors": sizes.0,
        "megatron_tensors": sizes.1,
        "open_ms": opens.iter().map(|open| round(total(open))).collect::<Vec<_>>(),
        "of_that_table_and_trees_ms": opens.iter().map(|open| round(open.0)).collect::<Vec<_>>(),
        "keys": keys.len(),
        "key_ms": { "p50": at(0.5), "p99": at(0.99), "max": round(*slowest_ms), "slowest": slowest },
    })
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}
