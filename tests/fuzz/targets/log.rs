//! Logs of Megatron: lines, and the events that they become.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trestle::backend::foreign::{Line, Options, Parser, Translator};
use trestle::event::{Event, parse_line};
use trestle_fuzz::bounded;

/// What the lines of a log say that comes in pieces of `size` bytes.
fn lines(log: &[u8], size: usize) -> Vec<Line> {
    let mut found = vec![];
    let mut parser = Parser::default();
    for piece in log.chunks(size) {
        parser.feed(piece, &mut |line| found.push(line));
    }
    parser.finish(&mut |line| found.push(line));
    found
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, log)) = data.split_first() else {
        return;
    };
    // What is read in parallel has to be longer than a line may be.
    let repeated;
    let log = if first == u8::MAX && !log.is_empty() {
        repeated = log.repeat(1 + (66 << 10) / log.len());
        &repeated
    } else {
        log
    };
    let limit = (1 << 20) + 64 * log.len();
    let whole = bounded(limit, || lines(log, log.len().max(1)));
    // NaN differs from itself, so what is printed of them is compared.
    let torn = lines(log, 1 + usize::from(first));
    assert_eq!(format!("{whole:?}"), format!("{torn:?}"));
    let records = bounded(limit + 4096 * whole.len(), || {
        let mut translator = Translator::new(Options::default());
        for (i, line) in whole.into_iter().enumerate() {
            translator.take(line);
            if first > 250 && i % 7 == 0 {
                translator.settle();
            }
        }
        translator.settle();
        translator.drain()
    });
    let mut last = None;
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.seq, i as u64);
        let line = record.to_line();
        let again = parse_line(&line).expect("what is written is read");
        assert_eq!(again.to_line(), line);
        match &record.event {
            Event::Started { step, .. } => last = Some(*step),
            Event::Step(step) => {
                assert!(last.is_some_and(|last| step.step > last), "steps rise");
                last = Some(step.step);
            }
            _ => {}
        }
    }
});
