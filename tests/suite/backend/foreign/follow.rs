//! Files that grow, are cut, are replaced, or join later while they are followed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::{records, words};
use trestle::backend::foreign::{Followers, Mirror, Options, list_among};
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
fn a_log_that_is_deleted_is_told_once_and_may_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    append(&log, &line(1, 1));
    let mut writer = OpenOptions::new().append(true).open(&log).unwrap();
    let mut mirror = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    fs::remove_file(&log).unwrap();
    writer.write_all(line(2, 2).as_bytes()).unwrap();
    mirror.poll().unwrap();
    mirror.poll().unwrap();
    append(&log, &line(3, 3));
    mirror.poll().unwrap();
    assert_eq!(
        words(&records(&mirror)),
        [
            "started 0 at 0 of 100",
            "step 1",
            "warning log_gone",
            "step 2",
            "warning log_rotated",
            "step 3"
        ]
    );
}

#[test]
fn a_clock_that_is_set_back_or_forward_loses_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    // An hour back at step 3, a day forward at step 6.
    let text: String = (1..=8)
        .map(|i| {
            let hour = if (3..6).contains(&i) { "09" } else { "10" };
            let day = if i < 6 { 15 } else { 16 };
            line(i, i)
                .replace(" 10:00:", &format!(" {hour}:00:"))
                .replace("01-15", &format!("01-{day}"))
        })
        .collect();
    append(&log, &text);
    let mirror = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    let expected: Vec<String> = std::iter::once("started 0 at 0 of 100".to_owned())
        .chain((1..=8).map(|i| format!("step {i}")))
        .collect();
    assert_eq!(words(&records(&mirror)), expected);
    // Charts over time stand still where the clock went back.
    let history = run::History::open(mirror.folder()).unwrap();
    let times: Vec<i64> = (0..8).map(|row| history.train.time_ms(row)).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(history.abandoned.len(), 0);
}

#[test]
fn a_line_of_a_hundred_megabytes_and_bytes_of_any_kind_cost_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    let mut bytes = line(1, 1).into_bytes();
    // A hole reads as zeros: 100 MiB without a newline, then everything a byte can be.
    append(&log, &line(1, 1));
    let file = OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(bytes.len() as u64 + (100 << 20)).unwrap();
    bytes.clear();
    for round in 0u32..2000 {
        bytes.extend((0u32..=255).map(|b| (b.wrapping_mul(round + 1) >> 3) as u8));
    }
    bytes.push(b'\n');
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(&bytes).unwrap();
    drop(file);
    append(&log, &format!("\x1b[1;32m{}\x1b[0m", line(2, 2).trim_end()));
    append(&log, &format!("\n{}", line(3, 3)));
    let mirror = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    assert_eq!(
        words(&records(&mirror)),
        ["started 0 at 0 of 100", "step 1", "step 2", "step 3"]
    );
}

#[test]
fn a_job_that_slurm_ends_and_starts_again_is_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("slurm-77.out");
    let cancelled = |why: &str| {
        format!(
            "slurmstepd: error: *** STEP 77.0 ON node1 CANCELLED AT 2026-01-15T10:00:30{why} ***\nslurmstepd: error: *** JOB 77 ON node1 CANCELLED AT 2026-01-15T10:00:30{why} ***\nsrun: error: node1: task 0: Exited with exit code 143\n"
        )
    };
    let first = line(1, 1) + &line(2, 2) + &cancelled(" DUE TO JOB REQUEUE");
    append(&log, &first);
    let cache = folder.path().join("cache");
    let mut mirror = Mirror::open(&log, &cache, known()).unwrap();
    mirror.settle(false).unwrap();
    mirror.poll().unwrap();
    let words_of = |mirror: &Mirror| words(&records(mirror));
    assert_eq!(
        words_of(&mirror)[3],
        "finished 2: *** STEP 77.0 ON node1 CANCELLED AT 2026-01-15T10:00:30 DUE TO JOB REQUEUE ***"
    );
    assert_eq!(records(&mirror)[3].time_ms, 1_768_471_230_000);
    assert_eq!(
        run::summary(mirror.folder()).unwrap().status.word(),
        "stopped"
    );
    let again = format!(
        "[after megatron is initialized] datetime: 2026-01-15 10:00:40 \n  successfully loaded checkpoint from ckpt/a [ t 0/1, p 0/1 ] at iteration 1\nStarting training loop at iteration 1\n{}",
        line(2, 50)
    );
    append(&log, &again);
    mirror.poll().unwrap();
    assert_eq!(
        words_of(&mirror)[4..],
        ["started 1 at 1 of 100".to_owned(), "step 2".to_owned()]
    );
    append(&log, &cancelled(" DUE TO TIME LIMIT"));
    mirror.poll().unwrap();
    mirror.settle(false).unwrap();
    mirror.poll().unwrap();
    let status = run::summary(mirror.folder()).unwrap().status;
    assert!(
        matches!(&status, run::Status::Failed { error } if error.contains("TIME LIMIT")),
        "{status:?}"
    );
}

#[test]
fn a_spike_and_a_slow_stretch_are_told_as_of_our_own_runs() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("a.log");
    let text: String = (1..=40)
        .map(|i| {
            let text = line(i, i);
            match i {
                30 => text.replace("lm loss: 2.0", "lm loss: 9.0"),
                35 => text.replace("(ms): 1000.0", "(ms): 4000.0"),
                _ => text,
            }
        })
        .collect();
    append(&log, &text);
    let mirror = Mirror::open(&log, &folder.path().join("cache"), known()).unwrap();
    let words = words(&records(&mirror));
    let at = |word: &str| words.iter().position(|w| w == word);
    assert_eq!(at("warning loss_spike"), at("step 30").map(|i| i + 1));
    assert_eq!(at("warning throughput_drop"), at("step 35").map(|i| i + 1));
    assert_eq!(words.iter().filter(|w| w.starts_with("warning")).count(), 2);
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

/// Moves the times of the files of a run and of what was made of it back by so many minutes.
fn age(paths: &[&Path], minutes: u64) {
    let time = std::time::SystemTime::now() - std::time::Duration::from_secs(60 * minutes);
    for path in paths {
        let file = OpenOptions::new().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }
}

#[test]
fn a_run_that_nobody_follows_is_running_stale_finished_or_failed_by_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let log = folder.path().join("a.log");
    append(&log, &(line(1, 1) + &line(2, 2)));
    let run = Mirror::open(&log, &cache, known())
        .unwrap()
        .folder()
        .to_owned();
    let events = run.join("events.jsonl");
    let status = || run::summary(&run).unwrap().status;
    // Nobody holds it any more, but its file moved just now.
    assert_eq!(status().word(), "running");
    age(&[&log, &events], 19);
    assert_eq!(status().word(), "running");
    age(&[&log, &events], 21);
    assert_eq!(status().word(), "stale");
    // It goes on, and nobody reads what it says: it runs, until someone reads that it failed.
    append(
        &log,
        "[rank1]: Traceback (most recent call last):\n[rank1]: ValueError: no\n",
    );
    assert_eq!(status().word(), "running");
    let info = run::open(&run).unwrap().info;
    let watched = info.watched.unwrap();
    assert!(run::has_news(&run, &watched));
    assert_eq!((watched.files.len(), watched.seq_length), (1, Some(1)));
    let mut mirror = Mirror::reopen(&watched, &cache).unwrap();
    assert_eq!(mirror.folder(), run);
    mirror.settle(false).unwrap();
    mirror.poll().unwrap();
    drop(mirror);
    assert!(
        matches!(status(), run::Status::Failed { .. }),
        "{:?}",
        status()
    );
    append(&log, &line(3, 40));
    age(&[&events], 1);
    assert_eq!(status().word(), "running", "a restart");
    append(&log, "exiting program at iteration 3\n");
    let mut mirror = Mirror::reopen(&watched, &cache).unwrap();
    mirror.settle(false).unwrap();
    drop(mirror);
    assert_eq!(status().word(), "stopped");
}

#[test]
fn a_run_with_long_steps_is_waited_for_longer() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let log = folder.path().join("a.log");
    let later = line(2, 2).replace(" 10:00:", " 10:50:");
    append(&log, &(line(1, 1) + &later));
    let run = Mirror::open(&log, &cache, known())
        .unwrap()
        .folder()
        .to_owned();
    let events = run.join("events.jsonl");
    age(&[&log, &events], 140);
    assert_eq!(run::summary(&run).unwrap().status.word(), "running");
    age(&[&log, &events], 160);
    assert_eq!(run::summary(&run).unwrap().status.word(), "stale");
}

#[test]
fn listed_runs_are_followed_while_their_files_move() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, runs) = (folder.path().join("cache"), folder.path().join("runs"));
    fs::create_dir(&runs).unwrap();
    let log = folder.path().join("a.log");
    append(&log, &line(1, 1));
    let mirror = Mirror::open(&log, &cache, known()).unwrap();
    assert!(list_among(mirror.folder(), &runs));
    let events = mirror.folder().join("events.jsonl");
    drop(mirror);
    age(&[&events], 1);
    append(&log, &line(2, 2));
    let listed: Vec<_> = run::list(&runs).unwrap().into_iter().map(|r| r.0).collect();
    assert_eq!(listed.len(), 1);
    let mut followers = Followers::default();
    followers.tend(&listed);
    assert!(!followers.is_empty());
    append(&log, &line(3, 3));
    followers.poll();
    let steps = || run::list(&runs).unwrap()[0].1.step;
    assert_eq!(steps(), 3);
    append(&log, "exiting program at iteration 3\n");
    // The end counts once nothing follows it for a while.
    let start = std::time::Instant::now();
    while !followers.is_empty() && start.elapsed().as_secs() < 60 {
        followers.poll();
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(followers.is_empty());
    assert_eq!(run::list(&runs).unwrap()[0].1.status.word(), "stopped");
}
