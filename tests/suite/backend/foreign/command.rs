//! `trestle watch` without a terminal.

use std::process::{Command, Output};

use super::golden;
use trestle::event::{Event, parse_line};

fn watch(arguments: &[&str]) -> (Output, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .arg("watch")
        .args(arguments)
        .env("XDG_CACHE_HOME", cache.path())
        .current_dir(cache.path())
        .output()
        .unwrap();
    (output, cache)
}

#[test]
fn a_log_is_printed_for_people_and_for_programs() {
    let log = golden("bridge-dense.log");
    let log = log.to_str().unwrap();
    let (output, cache) = watch(&[log, "--once"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let folder = cache.path().join("trestle/watched/bridge-dense.log-");
    assert!(
        lines[0].starts_with(&format!("1 log; as a run in {}", folder.display())),
        "{text}"
    );
    assert_eq!(
        lines[1..],
        [
            "segment 0: Megatron-Bridge trains 2.49 B parameters to step 2000, from step 0 (ckpt/qwen)",
            "step 10/2000  loss 2.4312  mtp_1 3.0183  grad 1.873  lr 2.50e-7  2.48 s  52815 tok/s",
            "step 20/2000  loss 2.3100  mtp_1 2.9000  grad 1.500  lr 5.00e-7  2.49 s  52637 tok/s",
            "step 20  validation loss 1.3871",
            "step 20  saved ckpt/run1/iter_0000020",
            "step 30/2000  loss -  mtp_1 2.8000  grad -  lr 7.50e-7  2.49 s  52661 tok/s",
            "step 30  warning[non_finite]: 0 iterations since the last line were skipped, 2 had a loss that is not a number",
            "ended at step 30: exiting program after receiving SIGTERM.",
        ]
    );
    let (output, _cache) = watch(&[log, "--once", "--json"]);
    let events = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        events
            .lines()
            .map(|l| parse_line(l).unwrap())
            .filter(|r| matches!(r.event, Event::Step(_)))
            .count(),
        3
    );
}

#[test]
fn a_failed_run_fails_the_command_and_bad_paths_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.err");
    std::fs::write(
        &log,
        "[rank5]: Traceback (most recent call last):\n[rank5]: ValueError: no\n",
    )
    .unwrap();
    let (output, _cache) = watch(&[log.to_str().unwrap(), "--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("rank 5: ValueError: no"),
        "{output:?}"
    );
    let (output, _cache) = watch(&["absent.log", "--once"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot read absent.log"),
        "{output:?}"
    );
    let (output, _cache) = watch(&["a", "--utc-offset", "noon"]);
    assert_eq!(output.status.code(), Some(2));
}
