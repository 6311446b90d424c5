//! Logs made from the grammar, and the same with everything that can happen to them.

use proptest::prelude::*;

use super::lines;
use trestle::backend::foreign::{Iteration, Line, Options, Parser, Translator};
use trestle::event::Event;

/// An iteration whose numbers survive the digits that a line gives them.
fn iteration() -> impl Strategy<Value = Iteration> {
    let real = |digits: i32| (0u32..1_000_000).prop_map(move |n| f64::from(n) / 10f64.powi(digits));
    let exponent = || {
        (1_000_000u32..10_000_000, -20i32..20)
            .prop_map(|(m, e)| format!("{m}e{}", e - 6).parse::<f64>().unwrap())
    };
    (
        (
            0i64..4_000_000_000,
            1u64..1 << 40,
            1u64..1 << 40,
            0u64..1 << 40,
            real(1),
        ),
        (
            prop::option::of(real(1)),
            prop::option::of(exponent()),
            1u64..100_000,
            prop::option::of(exponent()),
        ),
        (
            prop::collection::vec(exponent(), 0..4),
            prop::option::of(real(3)),
            0u64..12,
            0u64..12,
            prop::option::of(exponent()),
        ),
    )
        .prop_map(
            |(
                (seconds, step, total, samples, elapsed_ms),
                (tflops, lr, global_batch, loss),
                (mtp, grad_norm, skipped, nan, other),
            )| Iteration {
                time_ms: seconds * 1000,
                step,
                total,
                samples,
                elapsed_ms,
                tflops,
                lr,
                global_batch,
                loss,
                mtp: mtp.into_iter().map(Some).collect(),
                others: other
                    .map(|v| ("global_load_balancing_loss".to_owned(), v))
                    .into_iter()
                    .collect(),
                loss_scale: Some(1.0),
                grad_norm,
                skipped,
                nan,
                ..Iteration::default()
            },
        )
}

fn exponent(value: f64) -> String {
    let text = format!("{value:.6e}");
    let (mantissa, power) = text.split_once('e').unwrap();
    let power: i32 = power.parse().unwrap();
    format!(
        "{mantissa}E{}{:02}",
        if power < 0 { '-' } else { '+' },
        power.abs()
    )
}

/// The line that a trainer would print.
fn print(it: &Iteration) -> String {
    use std::fmt::Write;
    let days = it.time_ms / 86_400_000;
    // The calendar by counting, so that it is another way than the parser's.
    let (mut year, mut left) = (1970, days);
    let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + i64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let seconds = it.time_ms / 1000 % 86_400;
    let mut line = format!(
        " [{year:04}-{:02}-{:02} {:02}:{:02}:{:02}] iteration {:8}/{:8} | consumed samples: {:12} | elapsed time per iteration (ms): {:.1} |",
        month + 1,
        left + 1,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        it.step,
        it.total,
        it.samples,
        it.elapsed_ms
    );
    if let Some(v) = it.tflops {
        let _ = write!(line, " throughput per GPU (TFLOP/s/GPU): {v:.1} |");
    }
    if let Some(v) = it.lr {
        let _ = write!(line, " learning rate: {} |", exponent(v));
    }
    let _ = write!(line, " global batch size: {:5} |", it.global_batch);
    if let Some(v) = it.loss {
        let _ = write!(line, " lm loss: {} |", exponent(v));
    }
    for (key, v) in &it.others {
        let _ = write!(line, " {key}: {} |", exponent(*v));
    }
    for (k, v) in it.mtp.iter().enumerate() {
        let _ = write!(line, " mtp_{} loss: {} |", k + 1, exponent(v.unwrap()));
    }
    let _ = write!(line, " loss scale: 1.0 |");
    if let Some(v) = it.grad_norm {
        let _ = write!(line, " grad norm: {v:.3} |");
    }
    let _ = writeln!(
        line,
        " number of skipped iterations: {:3} | number of nan iterations: {:3} |",
        it.skipped, it.nan
    );
    line
}

fn only_iterations(lines: Vec<Line>) -> Vec<Iteration> {
    let of = |line| match line {
        Line::Iteration(it) => Some(*it),
        _ => None,
    };
    lines.into_iter().filter_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_printed_is_read(its in prop::collection::vec(iteration(), 1..20), cut in 1usize..400) {
        let log: String = its.iter().map(print).collect();
        prop_assert_eq!(&only_iterations(lines(log.as_bytes())), &its);
        // The same in pieces of any size.
        let mut parser = Parser::default();
        let mut found = vec![];
        for piece in log.as_bytes().chunks(cut) {
            parser.feed(piece, &mut |line| found.push(line));
        }
        prop_assert_eq!(only_iterations(found), its);
    }

    #[test]
    fn damage_costs_the_lines_it_touches_and_no_others(
        its in prop::collection::vec(iteration(), 2..12),
        at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let log: Vec<u8> = its.iter().map(print).collect::<String>().into_bytes();
        let at = at.index(log.len());
        let damaged = [&log[..at], &junk, &log[at..]].concat();
        let touched = memchr::memchr_iter(b'\n', &log[..at]).count();
        let found = only_iterations(lines(&damaged));
        // The touched line may be lost, or read where the damage lies between its pieces; the others are as they were.
        let before = &its[..touched];
        let after = &its[touched + 1..];
        prop_assert!(found.starts_with(before), "before");
        prop_assert!(found.ends_with(after), "after");
        prop_assert!(found.len() <= its.len());
    }

    #[test]
    fn no_bytes_panic_and_steps_rise_within_a_segment(
        its in prop::collection::vec(iteration(), 0..8),
        junk in prop::collection::vec(any::<u8>(), 0..200),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let texts = [
            "[after megatron is initialized] datetime: 2026-01-15 10:20:01 ", "Starting training loop at iteration 4",
            "exiting program at iteration 40", "Traceback (most recent call last):", "ValueError: x", "srun: error: a: task 1: Exited with exit code 1",
            " validation loss at iteration 500 | lm loss value: 1.387122E+00 | ", "  successfully saved checkpoint from iteration 7 to x",
            "Step Time : 1.00s GPU utilization: 5.0MODEL_TFLOP/s/GPU",
        ];
        let mut pieces: Vec<Vec<u8>> = its.iter().map(|it| print(it).into_bytes()).collect();
        pieces.extend(texts.iter().map(|t| format!("{t}\n").into_bytes()));
        pieces.push(junk);
        let log: Vec<u8> = order.iter().flat_map(|i| pieces[i.index(pieces.len())].clone()).collect();
        let mut translator = Translator::new(Options::default());
        for line in lines(&log) {
 translator.take(line);
 }
        translator.settle();
        let mut last = None;
        for (i, record) in translator.drain().iter().enumerate() {
            prop_assert_eq!(record.seq, i as u64);
            match &record.event {
                Event::Started { step, .. } => last = Some(*step),
                Event::Step(step) => {
                    prop_assert!(last.is_some_and(|last| step.step > last), "{} after {:?}", step.step, last);
                    last = Some(step.step);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_line_of_a_hundred_megabytes_is_passed_over() {
    let mut parser = Parser::default();
    let mut found = vec![];
    let junk = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        parser.feed(&junk, &mut |line| found.push(line));
    }
    assert!(found.is_empty());
    parser.feed(b"\nStarting training loop at iteration 3\n", &mut |line| {
        found.push(line);
    });
    assert_eq!(found, [Line::TrainingLoop { step: 3 }]);
}
