//! What a frame of the Train screen costs while a long run on many GPUs goes on.
//!
//! `cargo bench --bench screens [-- STEPS]` fills a history of that many steps, with phases, memory by term and eight GPUs that were looked at
//! for ten minutes. Then every message (a step, a sample of the machine) is followed by a frame at three sizes. It prints one JSON
//! object: milliseconds of message and frame, and the allocations of the frame alone.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde_json::{Value, json};
use trestle::app::train::{Message as Said, Opened, Pane};
use trestle::app::{self, Background, Keymap, Message, Size, State};
use trestle::base::Bytes;
use trestle::event::{
    DepthStep, Event, MEMORY_TERMS, MemoryTerm, MemoryUse, Record, RunInfo, StepRecord, VERSION,
};
use trestle::run::{History, Summary};
use trestle::telemetry::{Gpu, Holder, Host, Memory, Sample};
use trestle::tui::canvas::Hits;
use trestle::tui::theme::{Capabilities, Depth, Theme};

const RUN: &str = "/runs/long-1";
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 36), (200, 60)];

/// Counts allocations.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let steps = numbers.first().copied().unwrap_or(1_000_000).max(1);
    let mut state = State::new("/recipes".into(), "/runs".into(), Keymap::default());
    app::update(&mut state, Message::Launched(Ok(PathBuf::from(RUN))));
    let opened = Box::new(opened(steps));
    let opened = Said::Opened(RUN.into(), Ok(opened));
    app::update(&mut state, Message::Train(opened));
    app::update(&mut state, Message::Train(Said::Alive(RUN.into(), true)));
    for second in 0..600 {
        app::update(&mut state, sensed(second));
    }
    let frames: Vec<Value> = SIZES
        .into_iter()
        .map(|size| frames(&mut state, size))
        .collect();
    println!(
        "{}",
        json!({
            "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
            "steps": steps,
            "gpus": 8,
            "frames": frames,
        })
    );
}

/// Draws after every message at a size, each pane in focus in turn.
fn frames(state: &mut State, (width, height): (u16, u16)) -> Value {
    let capabilities = Capabilities {
        depth: Depth::Many,
        ascii: false,
        background: None,
    };
    let theme = Theme::new(capabilities, Background::Dark);
    app::update(state, Message::Resize(Size { width, height }));
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    let mut hits = Hits::default();
    let (mut times, mut counts, mut bytes) = (vec![], vec![], vec![]);
    for i in 0..99 {
        state.train.focus = Pane::ALL[i % Pane::ALL.len()];
        let next = state.train.summary.step + 1;
        let message = if i % 10 == 9 {
            sensed(i as u64)
        } else {
            Message::Train(Said::Records(RUN.into(), vec![step(next)]))
        };
        let start = Instant::now();
        app::update(state, message);
        buf.reset();
        let before = (COUNT.load(Relaxed), BYTES.load(Relaxed));
        trestle::tui::draw(state, &theme, area, &mut buf, &mut hits);
        counts.push((COUNT.load(Relaxed) - before.0) as f64);
        bytes.push((BYTES.load(Relaxed) - before.1) as f64 / 1024.0);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    // The first frame makes the pyramids; its time is the worst.
    let spread = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let at =
            |share: f64| (values[(share * (values.len() - 1) as f64) as usize] * 1e3).round() / 1e3;
        json!({"median": at(0.5), "p99": at(0.99), "worst": at(1.0)})
    };
    json!({
        "size": [width, height],
        "message_and_frame_ms": spread(&mut times),
        "allocations": spread(&mut counts),
        "allocated_kib": spread(&mut bytes),
    })
}

fn opened(steps: u64) -> Opened {
    let mut history = History::default();
    let mut summary = Summary::default();
    for first in (1..=steps).step_by(10_000) {
        let records: Vec<Record> = (first..(first + 10_000).min(steps + 1)).map(step).collect();
        for record in &records {
            summary.add(record);
        }
        history.extend(records);
    }
    Opened {
        info: RunInfo {
            id: "long-1".into(),
            ..RunInfo::default()
        },
        history,
        summary,
        live: vec![],
        alerts: vec![],
    }
}

fn step(step: u64) -> Record {
    let wave = ((step * 7919) % 1000) as f64 / 1000.0;
    let term = |name: &str| MemoryTerm {
        name: name.to_owned(),
        planned: Some(2 << 30),
        measured: Some((2 << 30) + step),
    };
    let memory = MemoryUse {
        device: "cuda:0".into(),
        terms: MEMORY_TERMS.map(term).to_vec(),
        planned_peak: 20 << 30,
        peak: 21 << 30,
        reserved: 22 << 30,
        driver_used: 23 << 30,
        driver_total: 80 << 30,
        ..MemoryUse::default()
    };
    let parts = ["data", "forward", "loss", "backward", "optimizer", "other"];
    Record {
        v: VERSION,
        seq: step,
        time_ms: 1_700_000_000_000 + step as i64 * 160,
        event: Event::Step(Box::new(StepRecord {
            step,
            tokens: step * 65_536,
            loss: 2.0 + 3.0 / (1.0 + step as f64 / 1000.0) + 0.1 * wave,
            mtp: vec![DepthStep {
                loss: 2.5 + 3.0 / (1.0 + step as f64 / 1000.0),
                correct: 3000,
                total: 8000,
            }],
            grad_norm: 1.0 + wave,
            lr: 1e-5,
            mtp_loss_scale: 0.1,
            step_seconds: 0.16 + 0.01 * wave,
            parts: parts.map(|name| (name.to_owned(), 0.025)).into(),
            tokens_per_second: 400_000.0 + 1000.0 * wave,
            mfu: 0.3,
            hfu: 0.35,
            allocated: 14 << 30,
            peak: 21 << 30,
            rss: 3 << 30,
            memory: (step % 1000 == 1).then_some(memory),
            skipped: false,
            ..StepRecord::default()
        })),
    }
}

fn sensed(second: u64) -> Message {
    let gpu = |index: u32| Gpu {
        index,
        name: Ok("NVIDIA H100 80GB HBM3".into()),
        utilization_percent: Ok(90 + ((second + u64::from(index)) % 10) as u32),
        memory: Ok(Memory {
            used: Bytes(22 << 30),
            free: Bytes(58 << 30),
            total: Bytes(80 << 30),
        }),
        sm_clock_mhz: Ok(1900 + (second % 80) as u32),
        memory_clock_mhz: Ok(2619),
        power_watts: Ok(600.0 + (second % 90) as f64),
        power_limit_watts: Ok(700.0),
        temperature_celsius: Ok(64),
        throttles: Ok(vec![]),
        pcie_sent: Ok(Bytes(1 << 30)),
        pcie_received: Ok(Bytes(1 << 29)),
        holders: Ok(vec![Holder {
            pid: 7,
            memory: None,
        }]),
    };
    let sample = Sample {
        process: None,
        host: Some(Host {
            memory_used: Bytes(40 << 30),
            memory_free: Bytes(80 << 30),
            memory_total: Bytes(128 << 30),
            cpu_percent: 12.0,
            cores: 16,
        }),
        gpus: Ok((0..8).map(gpu).collect()),
        cost: Duration::from_millis(42),
    };
    let sensed = Said::Sensed(RUN.into(), "node1".into(), Box::new(sample));
    Message::Train(sensed)
}
