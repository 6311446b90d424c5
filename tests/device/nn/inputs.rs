//! A prepared batch that is placed once and filled again: the same bits as placed anew.

use trestle::nn::{Batch, Inputs, LossScales, Model, Pending, Precision, Prepared, Recompute};

use super::golden::{Case, values};

pub(super) const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

pub(super) fn model(name: &str, precision: Precision) -> (Model, Batch) {
    let case = Case::open("mtp/dense", name);
    let config = case.config();
    let parameters = case.parameters_on(&config, &crate::gpu(), precision);
    let model = Model::new(config, parameters, &Recompute::None).expect("the case's model");
    (model, case.batch())
}

/// Batches of the shape of `batch` whose tokens, labels and weights differ; one id fills a third of some.
pub(super) fn others(batch: &Batch, vocabulary: usize) -> Vec<Batch> {
    (1..6u32)
        .map(|salt| {
            let mut other = batch.clone();
            let n = other.input_ids.len();
            let turn = |id: &u32| (id * (2 * salt + 1) + salt) % vocabulary as u32;
            other.input_ids = batch.input_ids.iter().map(turn).collect();
            if salt % 2 == 0 {
                other.input_ids[n / 3..2 * n / 3].fill(salt);
            }
            other.labels = batch.labels.iter().map(turn).collect();
            for (index, weight) in other.loss_mask.iter_mut().enumerate() {
                *weight = [1.0, 0.5, 0.0, 2.0][(index + salt as usize) % 4];
            }
            for row in &mut other.position_ids {
                for position in row {
                    *position += i64::from(salt);
                }
            }
            other
        })
        .collect()
}

pub(super) fn scales(salt: usize) -> LossScales {
    LossScales {
        gradient_scale: 1.0 / (1 + salt) as f64,
        ..LossScales::default()
    }
}

/// Bits of losses and gradients.
pub(super) type Bits = (Vec<u64>, Vec<u32>);

/// Zeroes gradients, does `step`, reads what it gave.
pub(super) fn bits(model: &Model, step: impl FnOnce() -> Pending) -> Bits {
    model.parameters().zero_grads().expect("zeros");
    let output = step().read().expect("losses");
    let losses = std::iter::once(&output.main).chain(&output.mtp);
    let losses = losses.flat_map(|depth| {
        [
            depth.loss_sum.to_bits(),
            depth.weight_sum.to_bits(),
            depth.correct,
            depth.total,
        ]
    });
    let gradients = values(model.parameters().grads());
    (
        losses.collect(),
        gradients.iter().map(|g| g.to_bits()).collect(),
    )
}

#[test]
fn inputs_that_are_filled_again_give_the_bits_of_new_ones() {
    for name in ["packed2", "depth1"] {
        for precision in PRECISIONS {
            let (model, first) = model(name, precision);
            let prepare = |batch: &Batch| -> Prepared {
                let preparation = model.preparation();
                preparation.prepare(batch.clone()).expect("a good batch")
            };
            let run = |inputs: &Inputs| {
                let run = model.forward_backward_of(inputs, &mut |_| {});
                run.expect("a step")
            };
            let mut inputs = model
                .inputs(&prepare(&first), &scales(0))
                .expect("placed once");
            let mut seen = vec![bits(&model, || run(&inputs))];
            for (salt, batch) in others(&first, model.config().vocab_size).iter().enumerate() {
                let prepared = prepare(batch);
                let fresh = model.inputs(&prepared, &scales(salt)).expect("placed anew");
                let want = bits(&model, || run(&fresh));
                inputs
                    .refill(&prepared, &scales(salt))
                    .expect("the same shape");
                assert!(bits(&model, || run(&inputs)) == want, "{name} {salt}");
                assert!(!seen.contains(&want), "batches differ");
                seen.push(want);
            }
            let mut other = first.clone();
            other.cu_seqlens = trestle::ops::CuSeqlens::uniform(1, first.tokens());
            assert!(inputs.refill(&prepare(&other), &scales(0)).is_err());
        }
    }
}
