//! The optimizer step.

use candle_core::{DType, Device, Tensor};
use trestle::ops::adamw::{AdamW, Guard, Verdict, step, step_guarded};
use trestle::ops::reduce;

use super::golden::{Report, cases, values};
use super::oracle::Random;

#[test]
fn adamw_matches_its_goldens() {
    let mut report = Report::new("adamw goldens", 5e-7);
    for case in cases("adamw") {
        let [master, grad, m, v] =
            ["in.master", "in.grad", "in.m", "in.v"].map(|key| case.get(key));
        let norm = reduce::sum_of_squares(grad).unwrap().sqrt();
        let norm_truth = values(case.get("out.norm"))[0];
        assert!(
            (norm - norm_truth).abs() <= 5e-7 * norm_truth,
            "{}: norm {norm}, truth {norm_truth}",
            case.name
        );
        let clip = case.settings["clip"].as_f64().unwrap_or(f64::INFINITY);
        let update = AdamW {
            lr: case.real("lr"),
            beta1: case.real("b1"),
            beta2: case.real("b2"),
            eps: case.real("eps"),
            weight_decay: case.real("wd"),
            step: case.number("step") as u64,
            grad_scale: (clip / (norm + 1e-6)).min(1.0),
        };
        step(master, grad, m, v, update).unwrap();
        for (name, found) in [("master", master), ("m", m), ("v", v)] {
            report.compare(
                &format!("{} {name}", case.name),
                found,
                case.get(&format!("out.{name}")),
            );
        }
    }
}

#[test]
fn adamw_follows_its_definition_in_f64() {
    let mut random = Random::new(8);
    let n = 40_000;
    let [master, grad, m] = std::array::from_fn(|_| random.tensor(&[n]));
    let v = random.between(0.0, 1.0, &[n]);
    let before = [&master, &grad, &m, &v].map(values);
    let update = AdamW {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 3,
        grad_scale: 0.5,
    };
    step(&master, &grad, &m, &v, update).unwrap();
    let after = values(&master);
    for index in 0..n {
        let [p, g, m, v] = [0, 1, 2, 3].map(|which| before[which][index]);
        let g = 0.5 * g;
        let (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g);
        let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(3)), v / (1.0 - 0.95f64.powi(3)));
        let truth = p * (1.0 - 3e-4) - 3e-3 * m_hat / (v_hat.sqrt() + 1e-8);
        assert!(
            (after[index] - truth).abs() < 2e-7,
            "{index}: {} for {truth}",
            after[index]
        );
    }
    assert!(step(&master, &grad, &m, &v, AdamW { step: 0, ..update }).is_err());
}

#[test]
fn a_guarded_step_is_the_step_of_its_verdict() {
    let mut random = Random::new(9);
    let [master, grad, m] = std::array::from_fn(|_| random.tensor(&[1000]));
    let v = random.between(0.0, 1.0, &[1000]);
    let squares = Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap();
    reduce::sum_of_squares_into(&grad, &squares).unwrap();
    let norm = reduce::sum_of_squares(&grad).unwrap().sqrt();
    let update = AdamW {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 3,
        grad_scale: 1.0,
    };
    let loss = |loss: f64| Tensor::new(&[loss, 0.0], &Device::Cpu).unwrap();
    let mut guard = Guard::new(&Device::Cpu).unwrap();
    let mut run = |losses: &[f64], squares: &Tensor, clip: f64| {
        let losses: Vec<Tensor> = losses.iter().map(|value| loss(*value)).collect();
        let losses: Vec<&Tensor> = losses.iter().collect();
        guard.judge(&losses, squares, clip).unwrap();
        let arenas = [&master, &m, &v].map(|arena| arena.copy().unwrap());
        let [p, m, v] = &arenas;
        step_guarded(p, &grad, m, v, None, &guard, update).unwrap();
        let verdict: Vec<f64> = guard.verdict().to_vec1().unwrap();
        (Verdict::of(&verdict).unwrap(), arenas.map(|a| values(&a)))
    };
    let before = [&master, &m, &v].map(values);
    for (clip, factor) in [(0.0, 1.0), (0.5, 0.5 / (norm + 1e-6)), (1e6, 1.0)] {
        let (verdict, after) = run(&[1.5, 2.5], &squares, clip);
        let expected = Verdict {
            norm,
            factor,
            skip: false,
        };
        assert_eq!(verdict, expected);
        let arenas = [&master, &m, &v].map(|arena| arena.copy().unwrap());
        let update = AdamW {
            grad_scale: factor,
            ..update
        };
        step(&arenas[0], &grad, &arenas[1], &arenas[2], update).unwrap();
        assert_eq!(after, arenas.map(|arena| values(&arena)));
    }
    let infinite = Tensor::new(&[f64::INFINITY], &Device::Cpu).unwrap();
    for (losses, squares) in [
        ([1.0, f64::NAN], &squares),
        ([f64::INFINITY, 1.0], &squares),
        ([1.0, 1.0], &infinite),
    ] {
        let (verdict, after) = run(&losses, squares, 1.0);
        assert!(verdict.skip);
        assert_eq!(after, before, "nothing may change");
    }
}
