//! The token cache: made once, made again when something changed, safe with several makers.

use std::fs;
use std::thread;

use trestle::data::{Split, statistics};
use trestle::recipe::{DataSource, Packing};

use super::{Bench, documents};

#[test]
fn it_is_made_once_and_again_after_a_change_of_text() {
    let mut bench = Bench::small(Packing::Packed, &documents(30));
    assert!(statistics(&bench.recipe, bench.path()).unwrap().built);
    assert!(!statistics(&bench.recipe, bench.path()).unwrap().built);
    bench.recipe.data.validation_fraction = 0.5;
    bench.recipe.data.packing = Packing::Concat;
    bench.recipe.train.seq_length = 16;
    assert!(
        !statistics(&bench.recipe, bench.path()).unwrap().built,
        "neither split nor packing touch ids"
    );
    assert_eq!(bench.caches().len(), 1);
    bench.texts(&documents(31));
    let after = statistics(&bench.recipe, bench.path()).unwrap();
    assert!(after.built);
    assert_eq!(after.train.documents + after.validation.documents, 31);
}

#[test]
fn a_damaged_or_deleted_one_is_made_again() {
    let bench = Bench::small(Packing::Packed, &documents(30));
    let first = bench.train().next_batch().unwrap();
    let file = bench.caches().remove(0);
    let good = fs::read(&file).unwrap();
    let mut damages: Vec<Vec<u8>> = vec![Vec::new(), b"short".to_vec(), vec![0; good.len()]];
    damages.push(good[..good.len() - 1].to_vec());
    for at in [0, 9, 20, 63, 64, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        damages.push(bytes);
    }
    for damage in damages {
        // As a new file: one that is mapped must not change.
        fs::remove_file(&file).unwrap();
        fs::write(&file, &damage).unwrap();
        assert_eq!(bench.train().next_batch().unwrap(), first);
        assert_eq!(fs::read(&file).unwrap(), good);
    }
    fs::remove_dir_all(bench.path().join("cache")).unwrap();
    assert_eq!(bench.train().next_batch().unwrap(), first);
}

#[test]
fn several_makers_at_once_do_not_disturb_each_other() {
    let bench = Bench::small(Packing::Packed, &documents(400));
    let expected = bench.train().next_batch().unwrap();
    fs::remove_dir_all(bench.path().join("cache")).unwrap();
    thread::scope(|scope| {
        let makers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| bench.train().next_batch().unwrap()))
            .collect();
        for maker in makers {
            assert_eq!(maker.join().unwrap(), expected);
        }
    });
    assert_eq!(bench.caches().len(), 1, "nothing unfinished is left");
}

#[test]
fn many_files_of_both_kinds_are_one_corpus_in_a_fixed_order() {
    let mut bench = Bench::new(&["train.seq_length=32", "train.micro_batch_size=1"]);
    fs::create_dir_all(bench.path().join("b [x]/deep")).unwrap();
    bench.write("b [x]/deep/2.txt", "third text\n\n\nfourth text\n");
    bench.write("b [x]/1.txt", "first text\n\nstill first\n\n\nsecond text");
    bench.write("c.jsonl", "{\"body\": \"fifth text\", \"text\": 7}\n");
    bench.recipe.data.sources = vec![
        DataSource::Text {
            glob: "**/*.txt".into(),
        },
        DataSource::Jsonl {
            glob: "*.jsonl".into(),
            field: "body".into(),
        },
    ];
    bench.recipe.data.validation_fraction = 0.0;
    bench.recipe.data.shuffle = false;
    bench.recipe.data.packing = Packing::Concat;
    let counted = statistics(&bench.recipe, bench.path()).unwrap();
    assert_eq!(counted.train.documents, 5);
    assert_eq!(
        counted.train.bytes as usize,
        [
            "first text\n\nstill first",
            "second text",
            "third text",
            "fourth text",
            "fifth text"
        ]
        .iter()
        .map(|text| text.len())
        .sum::<usize>()
    );
    let batch = bench.train().next_batch().unwrap();
    let text = trestle::data::Tokenizer::bundled()
        .unwrap()
        .decode(&batch.input_ids)
        .unwrap();
    assert!(
        text.starts_with("first text\n\nstill first<|endoftext|>second text<|endoftext|>third text<|endoftext|>fourth"),
        "{text}"
    );
}

#[test]
fn the_bundled_text_has_a_unigram_entropy_that_both_splits_agree_on() {
    let bench = Bench::new(&[]);
    let counted = statistics(&bench.recipe, bench.path()).unwrap();
    assert_eq!(counted.vocab_size, 4096);
    let documents = counted.train.documents + counted.validation.documents;
    assert!((2000..2400).contains(&documents), "{documents}");
    let share = counted.validation.documents as f64 / documents as f64;
    assert!((share - 0.05).abs() < 0.02, "{share}");
    assert!(counted.validation_entropy < counted.unigram_entropy);
    assert!((5.0..7.0).contains(&counted.unigram_entropy), "{counted:?}");
    assert!(bench.open(Split::Validation).unwrap().batches_in_epoch() >= 8);
}
