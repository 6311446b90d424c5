//! What the Train screen shows of a run on GPUs: throughput, phases, memory against its plan, devices.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use trestle::app::train::{Message as Said, Pane};
use trestle::app::{Background, Dialog, Message};
use trestle::base::Bytes;
use trestle::event::{
    DepthStep, Event, MEMORY_TERMS, MemoryTerm, MemoryUse, Record, StepRecord, VERSION,
};
use trestle::telemetry::{Host, Process, Refusal, Sample, Throttle, ask};
use trestle::tui::theme::{Capabilities, Depth};

use super::fixture::{Bench, COLOURS};
use super::train::{RUN, opened};
use crate::telemetry::{Fake, driver};

const GIB: u64 = 1 << 30;

fn record(seq: u64, event: Event) -> Record {
    Record {
        v: VERSION,
        seq,
        time_ms: 1_700_000_000_000 + seq as i64 * 170,
        event,
    }
}

/// Planned and measured MiB of each of [`MEMORY_TERMS`].
const TERMS: [(u64, Option<u64>); 7] = [
    (1472, Some(1472)),
    (2944, Some(2944)),
    (2944, Some(2944)),
    (5888, Some(5888)),
    (6100, Some(6350)),
    (970, Some(970)),
    (300, None),
];

fn terms(is_plan: bool) -> Vec<MemoryTerm> {
    let term = |(name, (planned, measured)): (&str, (u64, Option<u64>))| MemoryTerm {
        name: name.to_owned(),
        planned: Some(planned << 20),
        measured: measured.map(|m| m << 20).filter(|_| !is_plan),
    };
    MEMORY_TERMS.into_iter().zip(TERMS).map(term).collect()
}

/// A run of 300 of 1000 steps on `gpus` GPUs.
fn records(gpus: usize) -> Vec<Record> {
    let device = |i| format!("cuda:{i} NVIDIA H100 80GB HBM3");
    let mut records = vec![record(
        0,
        Event::Started {
            segment: 0,
            step: 0,
            tokens: 0,
            total_steps: 1000,
            pid: 7,
            host: "node1".into(),
            device: device(0),
            program: "trestle 0.1.0".into(),
            parameters: 772_000_000,
            mtp_parameters: 20_000_000,
            flops_per_token: 5.06e9,
            peak_flops: 989.4e12,
            flops_formula: "6 x matrix weights + attention at its mean length".into(),
            peak_name: "H100 SXM, dense BF16".into(),
            precision: "bf16; masters, gradients, moments f32".into(),
            devices: (0..gpus).map(device).collect(),
            memory_plan: Some(terms(true)),
            mtp_depth: 1,
            resumed_from: None,
        },
    )];
    for step in 1..=300 {
        let wave = ((step * 7919) % 1000) as f64 / 1000.0 - 0.5;
        let mut parts = vec![
            ("data", 0.000_2),
            ("forward", 0.043),
            ("loss", 0.021),
            ("backward", 0.087),
            ("optimizer", 0.0082),
            ("other", 0.0006),
        ];
        if step % 100 == 0 {
            parts.push(("eval", 2.5));
            parts.push(("checkpoint", 0.4));
        }
        let seconds = 0.16 + 0.004 * wave;
        let tokens = 8192.0 * gpus as f64;
        let memory = MemoryUse {
            device: "cuda:0".into(),
            terms: terms(false),
            planned_peak: 20_618 << 20,
            peak: 20_868 << 20,
            reserved: 21_400 << 20,
            driver_used: 22_100 << 20,
            driver_total: 81_559 << 20,
            ..MemoryUse::default()
        };
        records.push(record(
            step,
            Event::Step(Box::new(StepRecord {
                step,
                tokens: step * tokens as u64,
                loss: 2.0 + 3.0 / (1.0 + step as f64 / 40.0) + 0.1 * wave,
                mtp: vec![DepthStep {
                    loss: 2.6 + 3.0 / (1.0 + step as f64 / 40.0),
                    correct: 2000 + step,
                    total: 8000,
                }],
                grad_norm: 1.0 + wave,
                lr: 1e-5,
                mtp_loss_scale: 0.1,
                step_seconds: seconds,
                parts: parts.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect(),
                tokens_per_second: tokens / seconds,
                mfu: 8192.0 / seconds * 5.06e9 / 989.4e12,
                hfu: 8192.0 / seconds * 5.9e9 / 989.4e12,
                allocated: 14 * GIB,
                peak: 20_868 << 20,
                rss: 3 * GIB,
                memory: (step == 2).then_some(memory),
                skipped: false,
                ..StepRecord::default()
            })),
        ));
    }
    records
}

fn sample(driver: &Fake) -> Sample {
    Sample {
        process: Some(Process {
            resident: Bytes(3 * GIB),
            cpu_percent: 130.0,
        }),
        host: Some(Host {
            memory_used: Bytes(41 * GIB),
            memory_free: Bytes(80 * GIB),
            memory_total: Bytes(128 * GIB),
            cpu_percent: 12.0,
            cores: 16,
        }),
        gpus: ask(driver, true),
        cost: Duration::from_micros(42_100),
    }
}

fn sense(bench: &mut Bench, driver: &Fake) {
    let sensed = Said::Sensed(RUN.into(), "node1".into(), Box::new(sample(driver)));
    bench.send(Message::Train(sensed));
}

/// A workbench that watches a live run on `gpus` GPUs, a minute after it began.
fn watching(width: u16, height: u16, gpus: usize) -> Bench {
    let mut bench = Bench::new(width, height);
    bench.send(Message::Launched(Ok(PathBuf::from(RUN))));
    let opened = Box::new(opened("demo-1", &records(gpus)));
    bench.send(Message::Train(Said::Opened(RUN.into(), Ok(opened))));
    bench.send(Message::Train(Said::Alive(RUN.into(), true)));
    for second in 0..60 {
        let driver = Fake {
            gpus: gpus as u32,
            utilization: [0, 20, 55, 97, 98, 99][second.min(5)],
            ..Fake::default()
        };
        sense(&mut bench, &driver);
    }
    bench.state.toast = None;
    bench
}

fn focused(mut bench: Bench, pane: Pane) -> Bench {
    bench.state.train.focus = pane;
    bench
}

#[test]
fn a_run_on_a_gpu_at_every_room() {
    insta::assert_snapshot!("engine_120x36", watching(120, 36, 1).text());
    insta::assert_snapshot!("engine_200x60", watching(200, 60, 1).text());
    for (pane, name) in [
        (Pane::Memory, "memory"),
        (Pane::Time, "time"),
        (Pane::Devices, "devices"),
        (Pane::Throughput, "throughput"),
    ] {
        let text = focused(watching(80, 24, 1), pane).text();
        insta::assert_snapshot!(format!("engine_80x24_{name}"), text);
    }
    insta::assert_snapshot!(
        "engine_40x10_memory",
        focused(watching(40, 10, 1), Pane::Memory).text()
    );
}

#[test]
fn without_colour_and_in_ascii_the_parts_still_differ() {
    let plain = Capabilities {
        depth: Depth::None,
        ascii: true,
        background: None,
    };
    let bench = focused(watching(80, 24, 1), Pane::Memory).with(plain, Background::Dark);
    let text = bench.text();
    assert!(text.is_ascii());
    insta::assert_snapshot!("engine_80x24_memory_ascii", text);
    let coloured = focused(watching(80, 24, 1), Pane::Memory).with(COLOURS, Background::Dark);
    insta::assert_snapshot!("engine_80x24_memory_styles", coloured.styles());
}

#[test]
fn eight_gpus_have_a_row_each() {
    let mut bench = focused(watching(120, 36, 8), Pane::Devices);
    let hot = Fake {
        gpus: 8,
        utilization: 61,
        throttles: vec![Throttle::Thermal, Throttle::HardwareSlowdown],
        ..Fake::default()
    };
    sense(&mut bench, &hot);
    insta::assert_snapshot!("engine_120x36_eight", bench.text());
    bench.press("z");
    let text = bench.text();
    insta::assert_snapshot!("engine_120x36_eight_maximised", text);
    assert!(text.contains("! thermal, hw slowdown"), "{text}");
    // 8 x 8192 tokens in 0.16 s.
    let text = focused(watching(120, 36, 8), Pane::Throughput).text();
    assert!(
        text.contains("51.2k/GPU x8  MFU 26.2 %  HFU 30.5 %"),
        "{text}"
    );
}

#[test]
fn details_name_the_flops_the_peak_and_the_plan() {
    let mut bench = watching(120, 36, 2);
    bench.press("d");
    let Some(Dialog::View(view)) = bench.state.dialogs.last() else {
        panic!("no text to read")
    };
    let text: String = view.lines.iter().map(|l| l.text.clone() + "\n").collect();
    insta::assert_snapshot!("engine_details", text);
    assert!(text.contains("5.1 GFLOP a token") && text.contains("H100 SXM, dense BF16"));
    bench.press("esc");
    assert!(bench.state.dialogs.is_empty());
}

#[test]
fn an_absent_driver_and_a_foreign_host_are_said() {
    let mut bench = focused(watching(120, 36, 1), Pane::Devices);
    let mut sample = sample(&Fake::default());
    sample.gpus = Err("no NVIDIA driver on this machine".into());
    sample.process = None;
    let sensed = Said::Sensed(RUN.into(), "laptop".into(), Box::new(sample));
    bench.send(Message::Train(sensed));
    bench.press("z");
    let text = bench.text();
    assert!(text.contains("no NVIDIA driver on this machine"), "{text}");
    assert!(text.contains("of laptop, not of the run's node1"), "{text}");
    insta::assert_snapshot!("engine_120x36_absent", text);
}

#[test]
fn one_refused_question_is_shown_as_such() {
    let mut bench = focused(watching(120, 36, 1), Pane::Devices);
    let mut driver = Fake {
        gpus: 1,
        utilization: 50,
        ..Fake::default()
    };
    driver.refused[2] = Some(Refusal::Unsupported);
    driver.refused[6] = Some(Refusal::NotPermitted);
    driver.refused[10] = Some(Refusal::Lost);
    sense(&mut bench, &driver);
    bench.press("z");
    let text = bench.text();
    let row = |name: &str| text.lines().find(|l| l.contains(name)).unwrap().to_owned();
    assert!(row(" util ").contains("n/a"), "{text}");
    assert!(row(" power ").contains("denied"), "{text}");
    assert!(row("PCIe").contains("PCIe lost/0.5"), "{text}");
    assert!(row(" SM clock ").contains("1980 MHz"), "{text}");
}

#[test]
fn a_cpu_run_with_terms_shows_what_the_process_takes() {
    let mut bench = focused(watching(80, 24, 1), Pane::Memory);
    let memory = bench.state.train.summary.memory.as_mut().unwrap();
    memory.device = "cpu".into();
    (memory.reserved, memory.driver_used, memory.driver_total) = (0, 0, 0);
    let text = bench.text();
    assert!(text.contains(" memory cpu "), "{text}");
    assert!(text.contains(" resident 3.00 GiB"), "{text}");
    assert!(!text.contains("driver"), "{text}");
    // The bars fill the row when nobody says how much there is.
    assert!(
        text.lines()
            .any(|l| l.contains(" now  ▕█") && l.contains("▏") && !l.contains("   ▏")),
        "{text}"
    );
}

#[test]
fn an_old_run_shows_what_it_has() {
    let mut bench = super::train::watching(120, 36);
    bench.state.train.focus = Pane::Memory;
    let text = bench.text();
    assert!(text.contains("allocated") && text.contains("RSS"), "{text}");
    assert!(text.contains("fwd+bwd"), "{text}");
    assert!(text.contains("not asked yet"), "{text}");
    bench.press("d");
    assert!(bench.text().contains("not known, so no utilisation"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_answer_of_a_driver_breaks_the_screen(
        drivers in prop::collection::vec(driver(), 1..4),
        width in 0u16..220,
        height in 0u16..70,
        pane in 0usize..Pane::ALL.len(),
        maximised in any::<bool>(),
    ) {
        let mut bench = watching(width, height, 1);
        for driver in &drivers {
            sense(&mut bench, driver);
        }
        bench.state.train.focus = Pane::ALL[pane];
        bench.state.maximised = maximised;
        let text = bench.text();
        prop_assert_eq!(text.lines().count(), usize::from(height) * usize::from(width > 0));
        bench.press("d");
        bench.text();
    }
}
