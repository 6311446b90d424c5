//! Every input in `tests/golden/fuzz`, those that fuzzing found among them, goes through its parser: no panic, and no more memory at a time
//! than a multiple of the input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use serde_json::Value;
use trestle::checkpoint::safetensors::{Header, Index};
use trestle::checkpoint::torch_dist::{metadata, pickle, zip};
use trestle::spec::ModelConfig;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grow(bytes: isize) {
    // A thread that is ending has no counters any more, and nobody asks it.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        grow(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size as isize);
        grow(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `work` gives, and how many bytes it had at a time.
fn measure<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

/// Gives every input of a target to `parse`, which says whether it was taken; at least one has to be taken, and one refused.
fn each(target: &str, limit: impl Fn(usize) -> usize, parse: impl Fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/fuzz")
        .join(target);
    let (mut taken, mut refused) = (0, 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        let (is_taken, bytes) = measure(|| parse(&input));
        let limit = limit(input.len());
        assert!(
            bytes <= limit,
            "{}: {bytes} bytes, the limit is {limit}",
            path.display()
        );
        if is_taken { taken += 1 } else { refused += 1 }
    }
    assert!(
        taken > 0 && refused > 0,
        "{target}: {taken} taken, {refused} refused"
    );
}

#[test]
fn headers_are_read_or_refused_within_bounds() {
    each(
        "safetensors",
        |n| (64 << 10) + 200 * n,
        |input| {
            let mut file = (input.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(input);
            let whole = Header::parse(input).is_ok();
            // A header alone asks for bytes; with them it is a file.
            let asked = match Header::parse(&file) {
                Err(trestle::checkpoint::safetensors::SafetensorsError::Truncated {
                    needed,
                    ..
                }) if needed <= 1 << 14 => {
                    file.resize(needed as usize, 0);
                    Header::parse(&file).is_ok()
                }
                result => result.is_ok(),
            };
            whole || asked
        },
    );
}

#[test]
fn logs_of_other_trainers_say_something_or_nothing_within_bounds() {
    use trestle::backend::foreign::{Options, Parser, Translator};
    use trestle::event::Event;
    each(
        "log",
        |n| (1 << 20) + 4096 * n,
        |input| {
            let mut translator = Translator::new(Options::default());
            let mut parser = Parser::default();
            parser.feed(&input[1..], &mut |line| translator.take(line));
            parser.finish(&mut |line| translator.take(line));
            translator.settle();
            let records = translator.drain();
            let mut last = None;
            for record in &records {
                match &record.event {
                    Event::Started { step, .. } => last = Some(*step),
                    Event::Step(step) => {
                        assert!(
                            last < Some(step.step),
                            "steps rise from where a segment begins"
                        );
                        last = Some(step.step);
                    }
                    _ => {}
                }
            }
            !records.is_empty()
        },
    );
}

#[test]
fn event_files_are_read_or_refused_within_bounds() {
    use trestle::backend::foreign::scalars::Steps;
    use trestle::backend::foreign::{Options, Translator};
    use trestle::event::tensorboard::{decode, encode_frame};
    each(
        "tensorboard",
        |n| (1 << 20) + 4096 * n,
        |input| {
            let mut file = vec![];
            if input[0] % 2 == 0 {
                file.extend_from_slice(&input[1..]);
            } else {
                let mut rest = &input[1..];
                while let Some((&length, after)) = rest.split_first() {
                    let (payload, after) = after.split_at(after.len().min(usize::from(length)));
                    file.extend(encode_frame(payload));
                    rest = after;
                }
            }
            let Ok((scalars, used)) = decode(&file) else {
                return false;
            };
            let (mut steps, mut translator) =
                (Steps::default(), Translator::new(Options::default()));
            for scalar in &scalars {
                steps.take(scalar, &mut |line| translator.take(line));
            }
            steps.flush(&mut |line| translator.take(line));
            translator.settle();
            used == file.len() && !translator.drain().is_empty()
        },
    );
}

#[test]
fn indexes_are_read_or_refused_within_bounds() {
    each(
        "index",
        |n| (64 << 10) + 64 * n,
        |input| Index::parse(input).is_ok(),
    );
}

#[test]
fn pickles_are_read_or_refused_within_bounds() {
    each(
        "pickle",
        |n| (64 << 10) + 128 * n,
        |input| pickle::parse(input).is_ok(),
    );
}

#[test]
fn what_metadata_says_is_read_or_refused_within_bounds() {
    each(
        "metadata",
        |n| (64 << 10) + 1200 * n,
        |input| metadata::parse(input).is_ok(),
    );
}

#[test]
fn archives_are_read_or_refused_within_bounds() {
    each(
        "archive",
        |n| (64 << 10) + 64 * n,
        |input| {
            // As the tail of a longer archive, too.
            let _ = zip::directory(input, u64::MAX);
            let records = zip::records(input);
            records.is_ok_and(|records| {
                for record in &records {
                    let header = input.get(record.header as usize..).unwrap_or(&[]);
                    if let Ok(at) = zip::data_offset(record, header, input.len() as u64) {
                        assert!(at + record.size <= input.len() as u64);
                    }
                }
                true
            })
        },
    );
}

#[test]
fn configs_are_read_or_refused_within_bounds() {
    each(
        "config",
        |n| (1 << 20) + 512 * n,
        |input| {
            let json = serde_json::from_slice::<Value>(input);
            json.is_ok_and(|json| {
                ModelConfig::from_json(&json).is_ok_and(|config| {
                    // What is written for it is read as the same model.
                    let mut again = ModelConfig::from_json(&config.to_json()).unwrap();
                    again.text.source = config.text.source.clone();
                    assert_eq!(again, config);
                    true
                })
            })
        },
    );
}

#[test]
fn the_measure_sees_what_is_allocated() {
    let ((), bytes) = measure(|| drop(Vec::<u8>::with_capacity(12_345)));
    assert!((12_345..20_000).contains(&bytes), "{bytes}");
}
