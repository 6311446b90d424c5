//! Creating, finding and listing runs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::tempdir;
use trestle::event::{Event, layout};
use trestle::run::{CreateRun, RunError, Status, create, find, list, open, summary};

use super::{append, new_run, record, started, step};

#[test]
fn a_new_run_holds_its_recipe_and_says_what_it_is() {
    let runs = tempdir().unwrap();
    let run = new_run(&runs.path().join("deep/runs"), "Demo MTP1");
    assert_eq!(run.id(), "demo-mtp1-1");
    let again = open(&run.path).unwrap();
    assert_eq!(again, run);
    let recipe = fs::read_to_string(run.join(layout::RECIPE)).unwrap();
    assert_eq!(recipe, "[train]\nsteps = 10\n");
    assert_eq!(summary(&run.path).unwrap().status, Status::New);
}

#[test]
fn creators_at_once_get_different_runs() {
    let runs = tempdir().unwrap();
    let ids: BTreeSet<String> = thread::scope(|scope| {
        let creators: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..10)
                        .map(|_| new_run(runs.path(), "demo").info.id)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        creators
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect()
    });
    assert_eq!(ids.len(), 80);
    assert!(ids.contains("demo-80"));
}

#[test]
fn a_run_is_found_by_id_beginning_and_age() {
    let runs = tempdir().unwrap();
    for _ in 0..10 {
        new_run(runs.path(), "demo");
    }
    // Age is told in milliseconds.
    thread::sleep(Duration::from_millis(2));
    let other = new_run(runs.path(), "other");
    assert_eq!(find(runs.path(), "demo-1").unwrap().id(), "demo-1");
    assert_eq!(find(runs.path(), "oth").unwrap(), other);
    assert_eq!(find(runs.path(), "last").unwrap(), other);
    assert_eq!(
        find(runs.path(), other.path.to_str().unwrap()).unwrap(),
        other
    );
    let ambiguous = find(runs.path(), "demo").unwrap_err();
    assert!(matches!(ambiguous, RunError::Ambiguous { candidates, .. } if candidates.len() == 10));
    assert!(matches!(
        find(runs.path(), "zzz"),
        Err(RunError::NotFound { .. })
    ));
    assert!(matches!(
        find(&runs.path().join("absent"), "last"),
        Err(RunError::NotFound { .. })
    ));
}

#[test]
fn a_read_only_folder_is_an_error_that_names_it() {
    let runs = tempdir().unwrap();
    let file = runs.path().join("runs");
    fs::write(&file, "in the way").unwrap();
    let error = create(&file, CreateRun::default()).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn the_status_follows_the_last_words_and_the_lock() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    append(&run, &[started(0, 0, 0), step(1, 1, 5.0), step(2, 2, 4.0)]);
    let status = || summary(&run.path).unwrap().status;
    assert_eq!(status(), Status::Killed);
    let lock = File::create(run.join(layout::LOCK)).unwrap();
    lock.lock().unwrap();
    assert_eq!(status(), Status::Running);
    append(&run, &[record(3, Event::Paused { step: 2 })]);
    assert_eq!(status(), Status::Paused);
    append(&run, &[record(4, Event::Continued { step: 2 })]);
    assert_eq!(status(), Status::Running);
    let finished = |reason: &str| Event::Finished {
        step: 2,
        tokens: 512,
        reason: reason.to_owned(),
        weights_hash: String::new(),
    };
    append(&run, &[record(5, finished("stopped"))]);
    lock.unlock().unwrap();
    assert_eq!(status(), Status::Stopped);
    append(&run, &[started(6, 1, 2), record(7, finished("completed"))]);
    assert_eq!(status(), Status::Completed);
    let failed = Event::Failed {
        step: 2,
        error: "disk full".to_owned(),
        hint: None,
    };
    append(&run, &[record(8, failed)]);
    assert_eq!(
        status(),
        Status::Failed {
            error: "disk full".to_owned()
        }
    );
}

#[test]
fn a_cached_summary_goes_on_where_it_was_and_equals_a_fresh_one() {
    let runs = tempdir().unwrap();
    let run = new_run(runs.path(), "demo");
    append(&run, &[started(0, 0, 0), step(1, 1, 5.0)]);
    assert_eq!(summary(&run.path).unwrap().step, 1);
    append(&run, &[step(2, 2, 4.0), step(3, 3, f64::NAN)]);
    let continued = summary(&run.path).unwrap();
    fs::remove_dir_all(run.join(layout::CACHE)).unwrap();
    let fresh = summary(&run.path).unwrap();
    // As text, since a NaN differs from itself.
    assert_eq!(format!("{continued:?}"), format!("{fresh:?}"));
    assert_eq!((fresh.step, fresh.tokens, fresh.loss), (3, 768, None));
    let smoothed = fresh.loss_smoothed.unwrap();
    assert!((4.0..5.0).contains(&smoothed), "{smoothed}");
    assert_eq!(fresh.mtp_depth, 1);
}

#[test]
fn a_thousand_runs_are_listed_from_their_caches_in_a_fifth_of_a_second() {
    let runs = tempdir().unwrap();
    for i in 0..1000 {
        let run = new_run(runs.path(), &format!("r{}", i % 10));
        append(&run, &[started(0, 0, 0), step(1, 1, 5.0)]);
    }
    assert_eq!(list(runs.path()).unwrap().len(), 1000);
    // The best of three: other work on the machine is not what is measured.
    let best = (0..3)
        .map(|_| {
            let start = Instant::now();
            let found = list(runs.path()).unwrap();
            assert_eq!(found.len(), 1000);
            assert!(
                found
                    .windows(2)
                    .all(|w| w[0].0.info.created_ms >= w[1].0.info.created_ms)
            );
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!("1000 runs listed in {best:.3} s");
    assert!(best < 0.2, "{best} s");
}
