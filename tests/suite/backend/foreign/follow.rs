//! Files that grow, are cut, are replaced, or join later while they are followed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::{records, words};
use trestle::backend::foreign::{Mirror, Options};
use trestle::run;

fn line(step: u64, second: u64) -> String {
    format!(
        " [2026-01-15 10:00:{second:02}] iteration {step:>8}/     100 | consumed samples: {:>12} | elapsed time per iteration (ms): 1000.0 | learning rate: 1.000000E-05 | global batch size:    32 | lm loss: 2.000000E+00 | loss scale: 1.0 | grad norm: 1.000 | number of skipped iterations:   0 | number of nan iterations:   0 |\n",
        step * 32
    )
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn known() -> Options {
    Options {
        seq_length: Some(1),
        ..Options::default()
    }
}

#[test]
fn a_log_is_followed_through_torn_lines_and_shows_as_running() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    append(&log, &line(1, 1));
    let mut mirror = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    assert_eq!(
        run::summary(mirror.folder()).unwrap().status.word(),
        "running"
    );
    let next = line(2, 2);
    append(&log, &next[..100]);
    assert_eq!(mirror.poll().unwrap().records, 0);
    append(&log, &next[100..]);
    assert_eq!(mirror.poll().unwrap().records, 1);
    assert_eq!(
        words(&records(&mirror)),
        ["started 0 at 0 of 100", "step 1", "step 2"]
    );
    // A second watcher reads what the first one writes.
    let second = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    assert!(!second.is_writer() && second.folder() == mirror.folder());
    drop(second);
    append(&log, "exiting program at iteration 2\n");
    mirror.poll().unwrap();
    mirror.settle(false).unwrap();
    mirror.poll().unwrap();
    assert!(mirror.is_over());
    assert_eq!(
        run::summary(mirror.folder()).unwrap().status.word(),
        "stopped"
    );
}

#[test]
fn a_log_that_is_cut_or_moved_away_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    append(&log, &(line(1, 1) + &line(2, 2)));
    let mut mirror = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    fs::write(&log, line(3, 3)).unwrap();
    mirror.poll().unwrap();
    append(&log, &line(4, 4));
    fs::rename(&log, folder.path().join("a.log.1")).unwrap();
    append(&log, &line(5, 5));
    mirror.poll().unwrap();
    assert_eq!(
        words(&records(&mirror)),
        [
            "started 0 at 0 of 100",
            "step 1",
            "step 2",
            "warning log_truncated",
            "step 3",
            "warning log_rotated",
            "step 4",
            "step 5"
        ]
    );
}

#[test]
fn a_log_that_is_copied_over_itself_is_not_read_twice() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    let text: String = (1..=9).map(|i| line(i, i)).collect();
    append(&log, &text);
    let mut mirror = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    let copy = folder.path().join("copy");
    fs::write(&copy, text + &line(10, 10)).unwrap();
    fs::rename(&copy, &log).unwrap();
    mirror.poll().unwrap();
    let words = words(&records(&mirror));
    assert_eq!(
        (words.len(), words.last().unwrap().as_str()),
        (11, "step 10")
    );
}

#[test]
fn the_same_lines_in_two_files_count_once_and_a_restart_joins() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    append(
        &logs.join("all.out"),
        &(line(1, 1) + &line(2, 2) + &line(3, 3)),
    );
    append(
        &logs.join("rank3.out"),
        &(line(1, 1) + &line(2, 2) + &line(3, 3)),
    );
    append(
        &logs.join("rank3.err"),
        "Traceback (most recent call last):\n  File \"a\"\nValueError: no\n",
    );
    append(&logs.join("requeued.out"), &(line(2, 31) + &line(3, 32)));
    let mirror = Mirror::open(&logs, &folder.path().join("cache"), known()).unwrap();
    assert_eq!(
        words(&records(&mirror)),
        [
            "started 0 at 0 of 100",
            "step 1",
            "step 2",
            "step 3",
            "warning rank_failed",
            "failed 3: a rank: ValueError: no",
            "started 1 at 1 of 100",
            "step 2",
            "step 3",
        ]
    );
}

#[test]
fn nothing_to_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    fs::create_dir(folder.path().join("empty")).unwrap();
    let why = Mirror::open(&folder.path().join("empty"), &cache, known())
        .unwrap_err()
        .to_string();
    assert!(why.contains("neither a log nor TensorBoard"), "{why}");
    let why = Mirror::open(&folder.path().join("absent"), &cache, known())
        .unwrap_err()
        .to_string();
    assert!(why.starts_with("cannot read "), "{why}");
}
