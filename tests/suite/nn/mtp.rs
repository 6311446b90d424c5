//! Multi-Token Prediction against goldens: shifts, losses, acceptance, gradients.

use serde_json::Value;
use trestle::nn::{LossScales, Normalisation, Recompute, Targets, shift, shift_context_parallel};
use trestle::ops::CuSeqlens;

use super::golden::{Case, Comparison, integers, root, values};

fn check(folder: &str, name: &str) {
    let case = Case::open(folder, name);
    let model = case.model(&Recompute::None);
    let batch = case.batch();
    let tolerance = &case.json["tolerance"];
    let mut comparison = Comparison::new(format!("{folder}/{name}"));
    let depths = case.json["mtp"].as_array().unwrap();

    let mut targets = Targets::of(&batch);
    for k in 1..=depths.len() {
        targets = targets.next(&batch.cu_seqlens);
        let want = |part: &str| integers(&case.tensors[&format!("{part}.{k}")]);
        let ids = |ids: &[u32]| ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>();
        assert_eq!(ids(&targets.input_ids), want("ids"));
        assert_eq!(ids(&targets.labels), want("labels_shifted"));
        assert_eq!(
            targets.loss_mask,
            values(&case.tensors[&format!("mask_shifted.{k}")])
        );
    }

    let hidden = model.hidden_states(&batch).unwrap();
    assert_eq!(hidden.depths.len(), depths.len() + 1);
    for (k, state) in hidden.depths.iter().enumerate() {
        for (kind, got) in [("hidden", state), ("logits", &model.logits(state).unwrap())] {
            let name = format!("{kind}.{k}");
            let want = values(&case.tensors[&name]);
            comparison.tensor(kind, &name, &values(got), &want, &tolerance[&name]);
        }
    }

    let scales = LossScales {
        mtp_lambda: case.number("/lambda") as f32,
        ..LossScales::default()
    };
    let output = model
        .forward_backward(&batch, &scales)
        .unwrap()
        .read()
        .unwrap();
    let evaluated = model.evaluate(&batch).unwrap().read().unwrap();
    assert_eq!(
        (&evaluated.main, &evaluated.mtp),
        (&output.main, &output.mtp)
    );
    let error = (output.main.mean() - case.number("/main/loss")).abs();
    comparison.at_most(
        "loss",
        "main",
        error,
        case.number("/tolerance/loss.0/max_abs"),
    );
    let mut bound = case.number("/tolerance/loss.0/max_abs");
    for (k, (got, want)) in output.mtp.iter().zip(depths).enumerate() {
        let k = k + 1;
        let error = (got.mean() - want["loss"].as_f64().unwrap()).abs();
        let limit = case.number(&format!("/tolerance/loss.{k}/max_abs"));
        comparison.at_most("loss", &format!("depth {k}"), error, limit);
        bound = bound.max(limit);
        assert_eq!(
            got.correct,
            want["correct"].as_u64().unwrap(),
            "correct of {k}"
        );
        assert_eq!(got.total, want["total"].as_u64().unwrap(), "total of {k}");
    }
    let error = (output.objective(&scales) - case.number("/objective")).abs();
    comparison.at_most("objective", "", error, bound);
    comparison.gradients(&case, "grad.", &case.json, model.parameters());
    comparison.finish();
}

#[test]
fn one_depth_matches_megatron() {
    check("mtp/dense", "depth1");
}

#[test]
fn a_loss_scale_of_zero_leaves_mtp_without_gradient() {
    check("mtp/dense", "depth1_lambda0");
}

#[test]
fn two_depths_match_megatron() {
    check("mtp/dense", "depth2");
}

#[test]
fn packed_documents_match_megatron_at_one_depth() {
    check("mtp/dense", "packed1");
}

#[test]
fn packed_documents_match_megatron_at_two_depths() {
    check("mtp/dense", "packed2");
}

#[test]
fn a_head_of_its_own_matches_megatron() {
    check("mtp/dense_untied", "depth1");
}

#[test]
fn micro_batches_add_up_in_both_ways_of_normalising() {
    let case = Case::open("mtp/dense", "microbatches");
    let rows = [case.row(0), case.row(1)];
    let global_tokens = rows.iter().map(|row| Targets::of(row).weight_sum()).sum();
    let modes = [
        ("normal", Normalisation::MicroBatch, 0.5),
        ("per_token", Normalisation::PerToken { global_tokens }, 1.0),
    ];
    for (mode, normalisation, gradient_scale) in modes {
        let model = case.model(&Recompute::None);
        let scales = LossScales {
            normalisation,
            mtp_lambda: case.number("/lambda") as f32,
            gradient_scale,
        };
        let mut comparison = Comparison::new(format!("mtp/dense/microbatches {mode}"));
        let mut objective = 0.0;
        for row in &rows {
            let output = model
                .forward_backward(row, &scales)
                .unwrap()
                .read()
                .unwrap();
            objective += output.objective(&scales);
        }
        let spec = &case.json[mode];
        let want = spec["objective"].as_f64().unwrap();
        comparison.at_most("objective", "", (objective - want).abs(), 1e-4);
        comparison.gradients(&case, &format!("grad.{mode}."), spec, model.parameters());
        comparison.finish();
    }
}

#[test]
fn shifts_repeat_megatrons_tables() {
    let tables = std::fs::read_to_string(root().join("mtp/rolls.json")).unwrap();
    let tables: Vec<Value> = serde_json::from_str(&tables).unwrap();
    let list = |value: &Value| -> Vec<i64> {
        let entries = value.as_array().unwrap();
        entries.iter().map(|v| v.as_f64().unwrap() as i64).collect()
    };
    let mut checked = 0;
    for table in &tables {
        let values = list(&table["values"]);
        let cu_seqlens = match &table["cu_seqlens"] {
            Value::Null => CuSeqlens::uniform(1, values.len()),
            cu => CuSeqlens::new(list(cu).iter().map(|&i| i as usize).collect()).unwrap(),
        };
        // Without context parallelism the whole row is one rank's and its steps are the table's.
        let ranks = match table["ranks"].as_array() {
            Some(ranks) => ranks.iter().collect(),
            None => vec![table],
        };
        let mut shares: Vec<Vec<i64>> = if table["ranks"].is_null() {
            vec![values]
        } else {
            ranks.iter().map(|rank| list(&rank["local"])).collect()
        };
        for step in 0..table["times"].as_u64().unwrap() as usize {
            shares = match &shares[..] {
                [whole] => vec![shift(whole, &cu_seqlens)],
                _ => shift_context_parallel(&shares, &cu_seqlens).unwrap(),
            };
            for (rank, share) in ranks.iter().zip(&shares) {
                let want = &rank["steps"][step];
                assert_eq!(
                    *share,
                    list(&want["values"]),
                    "{} step {step}",
                    table["name"]
                );
                assert_eq!(
                    share.iter().sum::<i64>(),
                    want["sum"].as_f64().unwrap() as i64
                );
                checked += 1;
            }
        }
    }
    assert!(checked >= 30, "{checked} steps");
}
