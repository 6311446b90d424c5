//! Positions, prefetching, ends.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use trestle::data::{Batch, Position};
use trestle::recipe::Packing;

use super::{Bench, documents};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn after_a_seek_the_very_same_batches_follow(
        stop in 0usize..150,
        ahead in 0usize..5,
        packed in any::<bool>(),
        shuffle in any::<bool>(),
        seed in 0u64..1000,
    ) {
        let packing = if packed { Packing::Packed } else { Packing::Concat };
        let mut bench = Bench::small(packing, &documents(60));
        bench.recipe.data.prefetch = ahead;
        bench.recipe.data.shuffle = shuffle;
        bench.recipe.train.seed = seed;
        let mut unbroken = bench.train();
        for _ in 0..stop {
            unbroken.next_batch().unwrap();
        }
        // As a checkpoint keeps it.
        let json = serde_json::to_string(&unbroken.position()).unwrap();
        let position: Position = serde_json::from_str(&json).unwrap();
        prop_assert!(json.len() < 64, "{json}");

        let mut resumed = bench.train();
        resumed.next_batch().unwrap();
        resumed.seek(position).unwrap();
        for _ in 0..20 {
            prop_assert_eq!(resumed.position(), unbroken.position());
            prop_assert_eq!(resumed.next_batch().unwrap(), unbroken.next_batch().unwrap());
        }
    }
}

#[test]
fn batches_do_not_depend_on_how_many_are_made_ahead() {
    let mut bench = Bench::small(Packing::Packed, &documents(60));
    let mut take = |ahead| -> Vec<Batch> {
        bench.recipe.data.prefetch = ahead;
        let mut loader = bench.train();
        (0..100).map(|_| loader.next_batch().unwrap()).collect()
    };
    let inline = take(0);
    assert_eq!(take(1), inline);
    assert_eq!(take(7), inline);
}

#[test]
fn a_loader_that_is_dropped_ends_its_thread_at_once() {
    let bench = Bench::small(Packing::Packed, &documents(60));
    let begin = Instant::now();
    for _ in 0..50 {
        let mut loader = bench.train();
        loader.next_batch().unwrap();
        drop(loader);
        drop(bench.train());
    }
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn stalls_are_counted_once() {
    let mut bench = Bench::small(Packing::Packed, &documents(60));
    bench.recipe.data.prefetch = 0;
    let mut loader = bench.train();
    loader.next_batch().unwrap();
    let stall = loader.stall_seconds();
    assert!(stall > 0.0 && stall < 5.0, "{stall}");
    assert_eq!(loader.stall_seconds(), 0.0);

    // What was made while we did something else costs no waiting.
    bench.recipe.data.prefetch = 4;
    let mut loader = bench.train();
    loader.next_batch().unwrap();
    loader.stall_seconds();
    std::thread::sleep(Duration::from_secs(1));
    loader.next_batch().unwrap();
    assert!(loader.stall_seconds() < 0.5);
}

#[test]
fn a_position_of_other_data_is_refused() {
    for packing in [Packing::Packed, Packing::Concat] {
        let bench = Bench::small(packing, &documents(60));
        let mut loader = bench.train();
        for position in [
            Position {
                epoch: 0,
                document: 1 << 40,
                offset: 0,
            },
            Position {
                epoch: 0,
                document: 0,
                offset: 1 << 40,
            },
            Position {
                epoch: 0,
                document: 60,
                offset: 0,
            },
        ] {
            let error = loader.seek(position).unwrap_err();
            assert!(error.to_string().contains("outside the data"), "{error}");
            assert!(error.hint().is_some());
        }
        // It still works.
        loader.next_batch().unwrap();
    }
}
