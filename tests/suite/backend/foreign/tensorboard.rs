//! Event files as runs.

use std::fs;

use super::{records, steps, watch, words};
use trestle::backend::foreign::{Kind, Mirror, Options};
use trestle::event::tensorboard::{encode_file_version, encode_scalars};

fn step(step: i64, loss: f32) -> Vec<u8> {
    step_at(step, step, loss)
}

/// What a trainer writes of one step, `seconds` after its start.
fn step_at(seconds: i64, step: i64, loss: f32) -> Vec<u8> {
    let time = 1_768_472_551.0 + seconds as f64;
    [
        encode_scalars(time, step, &[("learning-rate", 1e-4)]),
        encode_scalars(
            time,
            step,
            &[("batch-size", 16.0), ("batch-size vs samples", 16.0)],
        ),
        encode_scalars(time, step, &[("lm loss", loss)]),
        encode_scalars(time, step * 16, &[("lm loss vs samples", loss)]),
        encode_scalars(
            time,
            step,
            &[
                ("mtp_1 loss", loss + 1.0),
                ("grad-norm", 0.5),
                ("iteration-time", 2.0),
            ],
        ),
    ]
    .concat()
}

#[test]
fn event_files_are_followed_and_restarts_joined() {
    let folder = tempfile::tempdir().unwrap();
    let boards = folder.path().join("experiment/tb_logs");
    fs::create_dir_all(&boards).unwrap();
    let first = boards.join("events.out.tfevents.1000.host.1.0");
    let eval = encode_scalars(1_768_472_552.5, 2, &[("lm loss validation", 1.5)]);
    let text = [
        encode_file_version(0.0),
        step(1, 3.0),
        step(2, 2.9),
        eval,
        step(3, 2.8),
    ]
    .concat();
    // The last frame is torn.
    fs::write(&first, &text[..text.len() - 5]).unwrap();
    let options = Options {
        seq_length: Some(8),
        utc_offset_minutes: 600,
        ..Options::default()
    };
    let (mut mirror, found) = watch(
        &folder.path().join("experiment"),
        &folder.path().join("cache"),
        options,
    );
    assert_eq!(mirror.sources().kind(), Kind::TensorBoard);
    assert_eq!(
        words(&found),
        [
            "started 0 at 0 of 0",
            "step 1",
            "step 2",
            "eval 2",
            "step 3"
        ]
    );
    let one = steps(&found)[0].clone();
    assert_eq!(
        (
            one.tokens,
            one.loss,
            one.mtp[0].loss,
            one.grad_norm,
            one.step_seconds,
            one.tokens_per_second
        ),
        (128, 3.0, 4.0, 0.5, 2.0, 64.0)
    );
    assert_eq!(found[1].time_ms, 1_768_472_552_000);
    fs::write(&first, [text, step(4, 2.7)].concat()).unwrap();
    mirror.poll().unwrap();
    mirror.settle(false).unwrap();
    assert_eq!(words(&records(&mirror)).last().unwrap(), "step 4");
    drop(mirror);
    // A restart writes a file of its own.
    let second = [
        encode_file_version(0.0),
        step_at(9, 3, 2.85),
        step_at(10, 4, 2.75),
    ]
    .concat();
    fs::write(boards.join("events.out.tfevents.2000.host.1.0"), second).unwrap();
    let (_, found) = watch(
        &folder.path().join("experiment"),
        &folder.path().join("cache"),
        options_of(8),
    );
    assert_eq!(
        words(&found),
        [
            "started 0 at 0 of 0",
            "step 1",
            "step 2",
            "eval 2",
            "step 3",
            "step 4",
            "started 1 at 2 of 0",
            "step 3",
            "step 4"
        ]
    );
}

fn options_of(seq_length: u64) -> Options {
    Options {
        seq_length: Some(seq_length),
        ..Options::default()
    }
}

#[test]
fn the_tensorboard_package_writes_what_we_read() {
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| {
            std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".cache"))
        });
    let python = home
        .unwrap_or_default()
        .join("trestle/tensorboard/bin/python");
    if !python.is_file() {
        // The training tests make it.
        eprintln!(
            "\n!!! SKIPPED: no event file of the tensorboard package was read, because there is no {}\n",
            python.display()
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let boards = folder.path().join("tb");
    let script = r#"
import sys
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
writer = EventFileWriter(sys.argv[1])
for step in range(1, 21):
    for tag, value in (("lm loss", 4 / step), ("mtp_1 loss", 5 / step), ("learning-rate", 1e-4 * step), ("batch-size", 8), ("mtp_1_acceptance_rate", 50 + step), ("mtp_1_cumulative_acceptance_rate", 40), ("global_load_balancing_loss", 1 + 1 / step), ("power/gpu", 500 + step)):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(wall_time=1000 + step, step=step, summary=summary))
writer.close()
"#;
    let done = std::process::Command::new(python)
        .args(["-c", script])
        .arg(&boards)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let (_, found) = watch(&boards, &folder.path().join("cache"), options_of(2));
    let steps = steps(&found);
    assert_eq!(steps.len(), 20);
    for (i, step) in (1u64..).zip(&steps) {
        assert_eq!((step.step, step.tokens), (i, i * 16));
        assert!(
            (step.loss - 4.0 / i as f64).abs() < 1e-6
                && (step.mtp[0].loss - 5.0 / i as f64).abs() < 1e-6
        );
        assert!((step.lr / (1e-4 * i as f64) - 1.0).abs() < 1e-6);
        assert!((step.extra["global_load_balancing_loss"] - 1.0 - 1.0 / i as f64).abs() < 1e-6);
        assert_eq!(step.extra["power"], 500.0 + i as f64);
        assert_eq!(step.mtp[0].acceptance_percent(), 50.0 + i as f64);
    }
}

#[test]
fn a_frame_that_is_larger_than_what_is_read_at_a_time_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.out.tfevents.1.host");
    // A tag of 20 MiB stands for an image.
    let image = encode_scalars(1.0, 1, &[("x".repeat(20 << 20).as_str(), 1.0)]);
    let text = [encode_file_version(0.0), step(1, 3.0), image, step(2, 2.5)].concat();
    fs::write(&file, &text[..text.len() - (4 << 20)]).unwrap();
    let mut mirror = Mirror::open(&file, &folder.path().join("cache"), options_of(1)).unwrap();
    assert_eq!(words(&records(&mirror)).len(), 0, "the image is torn");
    fs::write(&file, text).unwrap();
    mirror.poll().unwrap();
    mirror.settle(true).unwrap();
    assert_eq!(
        words(&records(&mirror)),
        ["started 0 at 0 of 0", "step 1", "step 2"]
    );
}

#[test]
fn a_broken_event_file_is_read_up_to_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.out.tfevents.1.host");
    let mut bytes = [encode_file_version(0.0), step(1, 3.0), step(2, 2.9)].concat();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let mut mirror = Mirror::open(
        &file,
        &folder.path().join("cache"),
        Options {
            seq_length: Some(1),
            ..Options::default()
        },
    )
    .unwrap();
    mirror.settle(true).unwrap();
    let words = words(&records(&mirror));
    assert!(
        words.iter().any(|w| w == "warning event_file_broken"),
        "{words:?}"
    );
}
