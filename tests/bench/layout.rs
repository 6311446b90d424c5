//! How long the Layout screen takes from a key to its frame, with 4096 ranks.
//!
//! `cargo bench --bench layout [-- --write]` shows 397B on 4096 GPUs in several layouts at 120x36 and 200x60, moves over ranks, stages and
//! blocks, changes what is highlighted, and makes every change that the screen knows, each key with its frame, in several rounds: a key counts
//! with the median of its rounds, and the worst of all is told beside, which on a busy machine is the scheduler's. It prints one JSON object, and
//! with `--write` keeps it in `tests/bench/results/layout_screen.json`. The limit is 16 ms.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result"
)]

#[path = "support/machine.rs"]
mod machine;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde_json::{Value, json};
use trestle::app::recipes::{Message as Recipes, Outcome};
use trestle::app::{self, Background, Key, Keymap, Message, Screen, Size, State};
use trestle::tui::canvas::Hits;
use trestle::tui::theme::{Capabilities, Depth, Theme};

use machine::{commit, machine};

const ROUNDS: usize = 7;
/// Keys that look.
const LOOKS: &str = "l l l j j h k d t p c e d enter l l j enter l l l k esc esc G g tab l enter l l G esc tab j tab j j tab tab tab j S-tab S-tab";
/// Keys that change.
const CHANGES: &str =
    "t + - + - c + - e + - d + - p + - w + - m + - b + - u u u } { ] [ s s i space = + r";

/// Degrees of 4096 ranks: `tp`, `pp`, `vpp`, `cp`, `ep`, recompute. The third leaves GPUs over, which its problems say.
const LAYOUTS: [(usize, usize, usize, usize, usize, &str); 4] = [
    (2, 4, 1, 1, 32, "none"),
    (8, 4, 3, 2, 64, "full"),
    (1, 60, 1, 1, 32, "none"),
    (8, 1, 1, 8, 512, "full"),
];

fn recipe(layout: (usize, usize, usize, usize, usize, &str)) -> String {
    let (tp, pp, vpp, cp, ep, recompute) = layout;
    let sp = tp > 1;
    let extra = if recompute == "full" {
        "recompute_method = \"uniform\"\nrecompute_num_layers = 1\n"
    } else {
        ""
    };
    format!(
        "[model]\nsize = \"397b-a17b\"\n[parallel]\ntp = {tp}\npp = {pp}\nvpp = {vpp}\ncp = {cp}\nep = {ep}\nsequence_parallel = {sp}\n\
         [train]\nseq_length = 4096\nmicro_batch_size = 1\nglobal_batch_size = 65536\n\
         [megatron]\nrecipe = \"bench\"\nhardware = \"H100\"\ngpus = 4096\n[megatron.model]\nrecompute_granularity = \"{recompute}\"\n{extra}"
    )
}

struct Screens {
    state: State,
    theme: Theme,
    buffer: Buffer,
    hits: Hits,
}

impl Screens {
    fn new(text: &str, width: u16, height: u16) -> Self {
        let mut state = State::new("recipes".into(), "runs".into(), Keymap::default());
        let size = Size { width, height };
        let path = PathBuf::from("recipes/bench.toml");
        app::update(&mut state, Message::Resize(size));
        let listed = Recipes::Listed(Ok(vec![path.clone()]));
        app::update(&mut state, Message::Recipes(listed));
        let read = |_: &Path| -> io::Result<String> { Ok(text.to_owned()) };
        let outcome = Box::new(Outcome::read(path, &read));
        app::update(&mut state, Message::Recipes(Recipes::Checked(outcome)));
        let capabilities = Capabilities {
            depth: Depth::Many,
            ascii: false,
            background: None,
        };
        Self {
            state,
            theme: Theme::new(capabilities, Background::Dark),
            buffer: Buffer::empty(Rect::new(0, 0, width, height)),
            hits: Hits::default(),
        }
    }

    /// Milliseconds of a key with the frame that shows what it did.
    fn press(&mut self, key: &str) -> f64 {
        let keys = Key::chord(key).unwrap();
        let start = Instant::now();
        for key in keys {
            app::update(&mut self.state, Message::Key(key));
        }
        let area = self.buffer.area;
        self.buffer.reset();
        self.hits.clear();
        trestle::tui::draw(
            &self.state,
            &self.theme,
            area,
            &mut self.buffer,
            &mut self.hits,
        );
        start.elapsed().as_secs_f64() * 1e3
    }
}

fn main() {
    let write = std::env::args().any(|argument| argument == "--write");
    let mut shown = Vec::new();
    let (mut looks, mut changes) = (Vec::new(), Vec::new());
    for layout in LAYOUTS {
        for (width, height) in [(120, 36), (200, 60)] {
            let text = recipe(layout);
            let mut rounds: Vec<[Vec<f64>; 3]> = Vec::new();
            let mut name = String::new();
            let mut problems = 0;
            for _ in 0..ROUNDS {
                let mut screens = Screens::new(&text, width, height);
                let first = vec![screens.press("3")];
                assert_eq!(screens.state.screen, Screen::Layout);
                let view = screens.state.layout.view.as_ref().unwrap();
                let degrees = &view.figures.degrees;
                name = format!("{} {degrees} at {width}x{height}", view.job.gpus);
                problems = view.problems.len();
                let mut press = |keys: &str| -> Vec<f64> {
                    keys.split_whitespace()
                        .map(|key| screens.press(key))
                        .collect()
                };
                rounds.push([first, press(LOOKS), press(CHANGES)]);
            }
            // The rounds of one key.
            let of = |kind: usize, at: usize| -> Vec<f64> {
                let mut times: Vec<f64> = rounds.iter().map(|round| round[kind][at]).collect();
                times.sort_by(f64::total_cmp);
                times
            };
            let first = of(0, 0);
            shown.push(json!({
                "layout": name, "problems": problems, "first_frame_ms": round(first[ROUNDS / 2]),
            }));
            for (kind, keys, list) in [(1, LOOKS, &mut looks), (2, CHANGES, &mut changes)] {
                for (at, key) in keys.split_whitespace().enumerate() {
                    list.push((of(kind, at), format!("{key}: {name}")));
                }
            }
        }
    }
    let result = json!({
        "command": "cargo bench --bench layout -- --write",
        "commit": commit(),
        "machine": machine(),
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "limit_ms": 16,
        "rounds": ROUNDS,
        "opened": shown,
        "keys_that_look": summary(looks),
        "keys_that_change": summary(changes),
    });
    let text = serde_json::to_string_pretty(&result).unwrap();
    println!("{text}");
    if write {
        fs::write("tests/bench/results/layout_screen.json", text + "\n").unwrap();
    }
}

/// Keys by the sorted times of their rounds.
fn summary(mut keys: Vec<(Vec<f64>, String)>) -> Value {
    let worst = keys.iter().filter_map(|key| key.0.last()).copied();
    let worst = worst.fold(0.0, f64::max);
    let median = |key: &(Vec<f64>, String)| key.0[ROUNDS / 2];
    keys.sort_by(|a, b| median(a).total_cmp(&median(b)));
    let at = |share: f64| round(median(&keys[((keys.len() - 1) as f64 * share) as usize]));
    json!({
        "keys": keys.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0),
        "slowest": keys.last().unwrap().1, "worst_single_ms": round(worst),
    })
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}
