//! Recomputing changes memory, never a bit of a gradient.

use trestle::nn::{LossScales, Model, Part, Recompute, StepOutput};

use super::golden::values;
use super::shapes::{FULL, GDN, Tiny, documents, lively};

const TINY: Tiny = Tiny {
    heads: 4,
    kv_heads: 2,
    key_heads: 2,
    value_heads: 4,
    layers: &[GDN, FULL, GDN],
    tied: true,
    mtp: 2,
};

fn run(recompute: &Recompute) -> (StepOutput, Vec<u32>) {
    let config = TINY.config();
    let model = Model::new(config.clone(), lively(&config, 11), recompute).unwrap();
    let batch = documents(&[70, 3, 20], config.vocab_size as u32, true, 4);
    let output = model
        .forward_backward(&batch, &LossScales::default())
        .unwrap()
        .read()
        .unwrap();
    let grads = values(model.parameters().grads());
    (output, grads.iter().map(|g| g.to_bits()).collect())
}

#[test]
fn gradients_are_the_same_bits_whatever_is_recomputed() {
    let (kept, want) = run(&Recompute::None);
    let every = [Part::CoreAttn, Part::GatedDelta, Part::MlpAct, Part::Norm];
    let mut modes: Vec<Recompute> = every
        .iter()
        .map(|&p| Recompute::Selective(vec![p]))
        .collect();
    modes.push(Recompute::Selective(every.to_vec()));
    modes.push(Recompute::Full);
    let mut bytes = Vec::new();
    for mode in &modes {
        let (output, grads) = run(mode);
        assert!(grads == want, "{mode:?} changes a gradient");
        assert_eq!(
            (output.main, &output.mtp),
            (kept.main, &kept.mtp),
            "{mode:?}"
        );
        assert!(
            output.saved_bytes < kept.saved_bytes,
            "{mode:?} keeps as much"
        );
        bytes.push(output.saved_bytes);
    }
    let [.., all_parts, full] = bytes[..] else {
        unreachable!("there are six modes")
    };
    assert!(
        bytes[..4]
            .iter()
            .all(|&one| all_parts < one && full < all_parts)
    );
}

#[test]
fn two_runs_give_the_same_bits_on_any_number_of_threads() {
    let want = run(&Recompute::None);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert!(
            pool.install(|| run(&Recompute::None)) == want,
            "{threads} threads"
        );
    }
}

#[test]
fn full_recompute_keeps_one_hidden_state_a_layer() {
    let (output, _) = run(&Recompute::Full);
    let state = 93 * 24 * 4;
    // Each decoder layer its input, each depth the embedded tokens and the hidden state before; the decoder's output.
    assert_eq!(output.saved_bytes, state * (3 + 2 * 2 + 1));
}
