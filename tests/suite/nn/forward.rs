//! The decoder against goldens: logits, hidden states, loss, gradients, three steps of `AdamW`.

use serde_json::Value;
use trestle::nn::{LossScales, Parameters, Recompute};
use trestle::ops::{adamw, reduce};

use super::golden::{Case, Comparison, values};

fn check(folder: &str, name: &str) {
    let case = Case::open(folder, name);
    let model = case.model(&Recompute::None);
    let batch = case.batch();
    let tolerance = &case.json["tolerance"];
    let mut comparison = Comparison::new(format!("{folder}/{name}"));

    let hidden = model.hidden_states(&batch).unwrap();
    let logits = values(&model.logits(&hidden.depths[0]).unwrap());
    let want = values(&case.tensors["logits"]);
    comparison.tensor("logits", "", &logits, &want, &tolerance["logits"]);
    for (name, want) in &case.tensors {
        let Some(place) = name.strip_prefix("hidden.") else {
            continue;
        };
        let got = match place {
            "embed" => &hidden.embedded,
            "norm" => &hidden.depths[0],
            layer => &hidden.layers[layer.parse::<usize>().unwrap()],
        };
        if place == "embed" {
            assert_eq!(values(got), values(want), "embedding is a copy");
            continue;
        }
        comparison.tensor(
            "hidden",
            place,
            &values(got),
            &values(want),
            &tolerance[name],
        );
    }

    let output = model
        .forward_backward(&batch, &LossScales::default())
        .unwrap()
        .read()
        .unwrap();
    let loss_tolerance = case.number("/tolerance/loss/max_abs");
    let error = (output.main.mean() - case.number("/loss")).abs();
    comparison.at_most("loss", "", error, loss_tolerance);
    assert_eq!(output.main.total as f64, case.number("/counted_tokens"));
    assert!(output.mtp.is_empty(), "this model has no MTP");
    let evaluated = model.evaluate(&batch).unwrap().read().unwrap();
    assert_eq!(evaluated.main, output.main, "evaluation sees the same loss");
    comparison.gradients(&case, "grad.", &case.json, model.parameters());
    comparison.finish();
}

#[test]
fn short_rows_match_transformers() {
    check("forward/dense", "short");
}

#[test]
fn a_row_longer_than_two_chunks_matches_transformers() {
    check("forward/dense", "long");
}

#[test]
fn packed_documents_match_documents_run_one_by_one() {
    check("forward/dense", "packed");
}

/// One clipped step with decay on every parameter, as the golden was made.
fn step(
    parameters: &Parameters,
    moments: &[candle_core::Tensor; 2],
    number: u64,
    options: &Value,
) -> f64 {
    let norm = reduce::sum_of_squares(parameters.grads()).unwrap().sqrt();
    let clip = options["clip"].as_f64().unwrap();
    let number_of = |key: &str| options[key].as_f64().unwrap();
    adamw::step(
        parameters.weights(),
        parameters.grads(),
        &moments[0],
        &moments[1],
        adamw::AdamW {
            lr: number_of("lr"),
            beta1: options["betas"][0].as_f64().unwrap(),
            beta2: options["betas"][1].as_f64().unwrap(),
            eps: number_of("eps"),
            weight_decay: number_of("weight_decay"),
            step: number,
            grad_scale: (clip / (norm + 1e-6)).min(1.0),
        },
    )
    .unwrap();
    norm
}

#[test]
fn three_steps_of_adamw_follow_torch() {
    let case = Case::open("forward/dense", "short");
    let options = &case.json["adamw"];
    let tolerance = &options["tolerance"];
    let limit = |key: &str| tolerance[key].as_f64().unwrap();
    let model = case.model(&Recompute::None);
    let (batch, parameters) = (case.batch(), model.parameters());
    let before = values(parameters.weights());
    let moments = [(); 2].map(|()| parameters.grads().zeros_like().unwrap());
    let mut comparison = Comparison::new("forward/dense/short adamw");

    for i in 0..options["steps"].as_u64().unwrap() {
        parameters.zero_grads().unwrap();
        let output = model
            .forward_backward(&batch, &LossScales::default())
            .unwrap()
            .read()
            .unwrap();
        let want = options["losses"][i as usize].as_f64().unwrap();
        let error = (output.main.mean() - want).abs();
        comparison.at_most("loss", &format!("of step {i}"), error, limit("losses"));
        let norm = step(parameters, &moments, i + 1, options);
        let want = options["grad_norms"][i as usize].as_f64().unwrap();
        let (kind, bound) = match i {
            0 => ("first gradient norm", "first_grad_norm_rel"),
            _ => ("later gradient norm", "later_grad_norms_rel"),
        };
        comparison.at_most(kind, "", (norm - want).abs() / want, limit(bound));
    }
    let after = model.evaluate(&batch).unwrap().read().unwrap().main.mean();
    let error = (after - options["loss_after"].as_f64().unwrap()).abs();
    comparison.at_most("loss", "after", error, limit("losses"));

    let mut errors = Vec::new();
    let weights = values(parameters.weights());
    for entry in parameters.entries() {
        let got = super::golden::sampled(&weights[entry.range()], &options["storage"]);
        let want = values(&case.tensors[&format!("adamw.{}", entry.name)]);
        assert_eq!(got.len(), want.len());
        errors.extend(got.iter().zip(want).map(|(a, b)| f64::from((a - b).abs())));
        let moved: f64 = entry
            .range()
            .map(|i| (f64::from(weights[i]) - f64::from(before[i])).powi(2))
            .sum();
        let want = options["moved_l2"][&entry.name].as_f64().unwrap();
        let error = (moved.sqrt() - want).abs() / want;
        comparison.at_most(
            "update norm",
            &entry.name,
            error,
            limit("later_grad_norms_rel"),
        );
    }
    errors.sort_by(f64::total_cmp);
    let quantile = errors[(errors.len() - 1) * 999 / 1000];
    comparison.at_most("weights, 99.9 %", "", quantile, limit("weights_p999"));
    comparison.at_most(
        "weights, worst",
        "",
        errors[errors.len() - 1],
        limit("weights_max_abs"),
    );
    comparison.finish();
}
