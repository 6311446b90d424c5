//! What lies in rows, against the plainest statement of it.

use std::collections::BTreeMap;

use trestle::data::{Batch, Loader, Split, Tokenizer};
use trestle::recipe::Packing;

use super::{Bench, documents};

/// The ids of each document, its end included.
fn encoded(texts: &[String]) -> Vec<Vec<u32>> {
    let tokenizer = Tokenizer::bundled().unwrap();
    texts
        .iter()
        .map(|text| {
            let mut ids = tokenizer.encode(text).unwrap();
            ids.push(tokenizer.eos());
            ids
        })
        .collect()
}

/// What must hold in every batch.
fn check_shape(batch: &Batch, rows: usize, seq_length: usize) {
    let tokens = rows * seq_length;
    assert_eq!(batch.input_ids.len(), tokens);
    assert_eq!(batch.labels.len(), tokens);
    assert_eq!(batch.loss_mask.len(), tokens);
    assert_eq!(batch.cu_seqlens.first(), Some(&0));
    assert_eq!(batch.cu_seqlens.last(), Some(&tokens));
    assert!(
        batch.cu_seqlens.is_sorted_by(|a, b| a < b),
        "an empty segment"
    );
    for row in 0..=rows {
        assert!(
            batch.cu_seqlens.contains(&(row * seq_length)),
            "a segment crosses rows"
        );
    }
    for segment in batch.cu_seqlens.windows(2) {
        let expected: Vec<i64> = (0..(segment[1] - segment[0]) as i64).collect();
        for axis in &batch.position_ids {
            assert_eq!(axis[segment[0]..segment[1]], expected);
        }
    }
}

fn one_epoch(loader: &mut Loader) -> Vec<Batch> {
    let count = loader.batches_in_epoch();
    (0..count).map(|_| loader.next_batch().unwrap()).collect()
}

#[test]
fn packed_rows_hold_every_document_once_and_labels_stay_inside() {
    let texts = documents(300);
    let mut bench = Bench::small(Packing::Packed, &texts);
    bench.recipe.data.validation_fraction = 0.0;
    let mut loader = bench.train();
    let expected = encoded(&texts);
    let mut seen: BTreeMap<(Vec<u32>, Vec<u32>), usize> = BTreeMap::new();
    let (mut padding, mut tokens) = (0, 0);
    for batch in one_epoch(&mut loader) {
        check_shape(&batch, 2, 32);
        tokens += 64;
        for segment in batch.cu_seqlens.windows(2) {
            let range = segment[0]..segment[1];
            let mask = &batch.loss_mask[range.clone()];
            let (ids, labels) = (
                &batch.input_ids[range.clone()],
                &batch.labels[range.clone()],
            );
            if mask.iter().all(|&m| m == 0.0) {
                assert_eq!(range.end % 32, 0, "padding ends its row");
                assert!(labels.iter().all(|&label| label == 0));
                padding += range.len();
                continue;
            }
            assert!(mask[..mask.len() - 1].iter().all(|&m| m == 1.0));
            assert_eq!(ids[1..], labels[..ids.len() - 1]);
            *seen.entry((ids.to_vec(), labels.to_vec())).or_default() += 1;
        }
    }
    // Each document, cut as rows cut it, has its pieces there; what is left over began the next epoch.
    for ids in &expected {
        for start in (0..ids.len()).step_by(32) {
            let piece = &ids[start..(start + 32).min(ids.len())];
            if piece.len() == 1 {
                continue; // only the end of the document, which predicts nothing
            }
            let mut labels = ids[start + 1..(start + 33).min(ids.len())].to_vec();
            labels.resize(piece.len(), 0);
            let key = (piece.to_vec(), labels);
            let count = seen.get_mut(&key).expect("a piece is missing");
            *count -= 1;
            if *count == 0 {
                seen.remove(&key);
            }
        }
    }
    let left: usize = seen.keys().map(|(ids, _)| ids.len()).sum();
    assert!(
        left <= 32,
        "{left} tokens more than one row of the next epoch"
    );
    assert!(
        padding * 20 < tokens,
        "{padding} of {tokens} tokens are padding"
    );
}

#[test]
fn a_document_that_ends_with_its_row_predicts_its_end_there() {
    let tokenizer = Tokenizer::bundled().unwrap();
    // " pipe" is one token; make documents of exactly 32 tokens and an end that stands alone.
    let text = "pipe".to_owned() + &" pipe".repeat(40);
    let ids = tokenizer.encode(&text).unwrap();
    let exact = tokenizer.decode(&ids[..32]).unwrap();
    assert_eq!(tokenizer.encode(&exact).unwrap().len(), 32);
    let mut bench = Bench::small(Packing::Packed, &[exact]);
    bench.recipe.data.validation_fraction = 0.0;
    let batch = bench.train().next_batch().unwrap();
    assert_eq!(batch.cu_seqlens, [0, 32, 64]);
    assert_eq!(batch.labels[31], tokenizer.eos());
    assert_eq!(batch.loss_mask[31], 1.0);
}

#[test]
fn concat_rows_are_the_stream_and_labels_cross_borders() {
    let texts = documents(40);
    let mut bench = Bench::small(Packing::Concat, &texts);
    bench.recipe.data.validation_fraction = 0.0;
    bench.recipe.data.shuffle = false;
    let mut loader = bench.train();
    let once: Vec<u32> = encoded(&texts).concat();
    let stream: Vec<u32> = once.iter().chain(&once).chain(&once).copied().collect();
    let mut at = 0;
    // Over the border of two epochs.
    while at + 65 < 2 * once.len() + 64 {
        let batch = loader.next_batch().unwrap();
        check_shape(&batch, 2, 32);
        assert_eq!(batch.cu_seqlens, [0, 32, 64]);
        assert_eq!(batch.input_ids, stream[at..at + 64]);
        assert_eq!(batch.labels, stream[at + 1..at + 65]);
        assert!(batch.loss_mask.iter().all(|&mask| mask == 1.0));
        at += 64;
    }
    assert!(loader.position().epoch >= 2);
}

#[test]
fn epochs_differ_in_order_and_seeds_too_but_equal_seeds_do_not() {
    let texts = documents(200);
    for packing in [Packing::Packed, Packing::Concat] {
        let mut bench = Bench::small(packing, &texts);
        let mut loader = bench.train();
        let first = one_epoch(&mut loader);
        let second = one_epoch(&mut loader);
        assert_ne!(first, second);
        assert_eq!(one_epoch(&mut bench.train()), first);
        bench.recipe.train.seed += 1;
        assert_ne!(one_epoch(&mut bench.train()), first);
    }
}

#[test]
fn the_split_keeps_documents_on_their_side_when_others_come() {
    let texts = documents(200);
    let held_out = |texts: &[String]| {
        let mut bench = Bench::small(Packing::Packed, texts);
        bench.recipe.data.validation_fraction = 0.3;
        let mut loader = bench.open(Split::Validation).unwrap();
        let tokenizer = Tokenizer::bundled().unwrap();
        let mut numbers: Vec<usize> = Vec::new();
        for batch in one_epoch(&mut loader) {
            for segment in batch.cu_seqlens.windows(2) {
                let text = tokenizer
                    .decode(&batch.input_ids[segment[0]..segment[1]])
                    .unwrap();
                numbers.extend(
                    text.split_once(':')
                        .and_then(|(n, _)| n.parse::<usize>().ok()),
                );
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let all = held_out(&texts);
    assert!((30..=90).contains(&all.len()), "{} of 200", all.len());
    let half: Vec<usize> = all.iter().copied().filter(|&n| n < 100).collect();
    assert_eq!(held_out(&texts[..100]), half);
}

#[test]
fn validation_does_not_depend_on_seed_or_shuffling() {
    let texts = documents(200);
    let mut bench = Bench::small(Packing::Packed, &texts);
    bench.recipe.data.validation_fraction = 0.3;
    let first = one_epoch(&mut bench.open(Split::Validation).unwrap());
    bench.recipe.train.seed += 1;
    bench.recipe.data.shuffle = false;
    assert_eq!(
        one_epoch(&mut bench.open(Split::Validation).unwrap()),
        first
    );
}

#[test]
fn the_demo_fills_its_rows() {
    let bench = Bench::new(&[]);
    let mut loader = bench.train();
    let (mut masked, mut tokens) = (0, 0);
    for batch in one_epoch(&mut loader) {
        check_shape(&batch, 8, 256);
        masked += batch.loss_mask.iter().filter(|&&mask| mask == 0.0).count();
        tokens += batch.input_ids.len();
    }
    // The last token of 2000 documents and a little padding.
    assert!(
        masked * 100 < tokens * 3,
        "{masked} of {tokens} tokens teach nothing"
    );
}
