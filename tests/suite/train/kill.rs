//! `kill -9` at random moments: the continued run is the unbroken one.

use std::time::{Duration, Instant};
use std::{env, thread};

use rand::Rng;

use super::{Place, console, events, exact, finished, spawn, steps};
use trestle::event::Event;

#[test]
fn a_killed_run_continues_as_if_it_had_not_been() {
    let trials: u32 = env::var("TRESTLE_KILL_TRIALS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(6);
    let place = Place::new();
    let sets = [
        "train.steps=40",
        "checkpoint.interval=3",
        "checkpoint.keep=2",
        "train.eval_interval=5",
    ];
    let whole = place.run(&sets);
    let begin = Instant::now();
    assert!(
        spawn(&whole.path).wait().expect("ended").success(),
        "{}",
        console(&whole.path)
    );
    let duration = begin.elapsed();
    let expected = (finished(&whole.path).expect("finished"), steps(&whole.path));
    let mut random = rand::rng();
    let (mut kills, mut segments) = (0, 0);
    for trial in 0..trials {
        let run = place.run(&sets);
        let mut delays = Vec::new();
        // Killed until it happens to get through; in the end it is left alone.
        while finished(&run.path).is_none() {
            let mut trainer = spawn(&run.path);
            if delays.len() < 3 {
                let delay = duration.mul_f64(random.random_range(0.0..1.1));
                delays.push(delay);
                thread::sleep(delay);
                // Fails if it is done already.
                let _ = trainer.kill();
                let status = trainer.wait().expect("ended");
                kills += u32::from(!status.success());
            } else {
                assert!(
                    trainer.wait().expect("ended").success(),
                    "{}",
                    console(&run.path)
                );
            }
        }
        let context = format!(
            "trial {trial}, killed after {delays:?}; {}",
            console(&run.path)
        );
        assert_eq!(
            finished(&run.path).expect("finished"),
            expected.0,
            "{context}"
        );
        let steps = steps(&run.path);
        assert_eq!(steps.len(), expected.1.len(), "{context}");
        for (step, record) in &expected.1 {
            assert_eq!(exact(record), exact(&steps[step]), "step {step}, {context}");
        }
        let started: Vec<u32> = events(&run.path)
            .iter()
            .filter_map(|event| match event {
                Event::Started { segment, .. } => Some(*segment),
                _ => None,
            })
            .collect();
        assert_eq!(
            started,
            (0..started.len() as u32).collect::<Vec<_>>(),
            "{context}"
        );
        segments += started.len();
        std::fs::remove_dir_all(&run.path).expect("removed");
    }
    assert!(
        kills > 0,
        "no kill hit a trainer in {}",
        Duration::as_secs_f64(&duration)
    );
    println!("{trials} of {trials} runs identical after {kills} kills, {segments} segments");
}
