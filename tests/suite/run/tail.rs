//! Following events while they are written.

use std::fs::{self, OpenOptions};
use std::io::Write;

use tempfile::tempdir;
use trestle::event::{Event, layout};
use trestle::run::Tail;

use super::{append, new_run, started, step};

#[test]
fn a_torn_last_line_waits_until_it_is_whole() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    let mut tail = Tail::from_start(&run.path);
    assert_eq!(tail.poll().unwrap().records, []);
    let line = step(1, 1, 2.0).to_line();
    let mut file = OpenOptions::new()
        .append(true)
        .open(run.join(layout::EVENTS))
        .unwrap();
    append(&run, &[started(0, 0, 0)]);
    file.write_all(&line.as_bytes()[..20]).unwrap();
    assert_eq!(tail.poll().unwrap().records, [started(0, 0, 0)]);
    assert_eq!(tail.poll().unwrap().records, []);
    file.write_all(&line.as_bytes()[20..]).unwrap();
    assert_eq!(tail.poll().unwrap().records, [step(1, 1, 2.0)]);
}

#[test]
fn a_line_torn_for_good_is_counted_and_skipped() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    let mut file = OpenOptions::new()
        .append(true)
        .open(run.join(layout::EVENTS))
        .unwrap();
    file.write_all(b"{\"v\":1,\"seq\":0,\"ti\n\xff\xfe\n")
        .unwrap();
    append(&run, &[step(1, 1, 2.0)]);
    let batch = Tail::from_start(&run.path).poll().unwrap();
    assert_eq!(batch.records, [step(1, 1, 2.0)]);
    assert_eq!(batch.bad_lines, 2);
}

#[test]
fn a_newer_record_is_kept_as_unknown() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    fs::write(
        run.join(layout::EVENTS),
        "{\"v\":99,\"seq\":0,\"time_ms\":5,\"type\":\"step\",\"loss\":\"much\"}\n",
    )
    .unwrap();
    let batch = Tail::from_start(&run.path).poll().unwrap();
    assert!(matches!(&batch.records[0].event, Event::Unknown(value) if value["loss"] == "much"));
}

#[test]
fn a_cut_or_replaced_file_starts_over() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    append(&run, &[started(0, 0, 0), step(1, 1, 2.0)]);
    let mut tail = Tail::from_start(&run.path);
    assert_eq!(tail.poll().unwrap().records.len(), 2);
    fs::write(run.join(layout::EVENTS), started(0, 0, 0).to_line()).unwrap();
    let batch = tail.poll().unwrap();
    assert!(batch.restarted);
    assert_eq!(batch.records, [started(0, 0, 0)]);
    let other = run.join("other");
    let long = format!("{}{}", step(0, 7, 1.0).to_line(), step(1, 8, 1.0).to_line());
    fs::write(&other, long).unwrap();
    fs::rename(&other, run.join(layout::EVENTS)).unwrap();
    let batch = tail.poll().unwrap();
    assert!(batch.restarted);
    assert_eq!(batch.records, [step(0, 7, 1.0), step(1, 8, 1.0)]);
}

#[test]
fn a_reader_from_the_end_sees_only_what_follows_even_in_a_torn_line() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    append(&run, &[started(0, 0, 0)]);
    let line = step(1, 1, 2.0).to_line();
    let mut file = OpenOptions::new()
        .append(true)
        .open(run.join(layout::EVENTS))
        .unwrap();
    file.write_all(&line.as_bytes()[..30]).unwrap();
    let mut tail = Tail::from_end(&run.path).unwrap();
    file.write_all(&line.as_bytes()[30..]).unwrap();
    assert_eq!(tail.poll().unwrap().records, [step(1, 1, 2.0)]);
}

#[test]
fn a_file_that_appears_later_is_found() {
    let folder = tempdir().unwrap();
    let mut tail = Tail::from_start(folder.path());
    assert_eq!(tail.poll().unwrap().records, []);
    fs::write(
        folder.path().join(layout::EVENTS),
        step(0, 1, 2.0).to_line(),
    )
    .unwrap();
    assert_eq!(tail.poll().unwrap().records, [step(0, 1, 2.0)]);
}
