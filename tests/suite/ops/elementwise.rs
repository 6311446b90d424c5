//! `SiLU` times, sigmoid gate, gates of the gated delta net, sums and multiples, reductions.

use candle_core::{Device, Tensor};
use trestle::ops::{self, gdn_gates, reduce, sigmoid_gate, silu_mul};

use super::golden::{Report, cases, values, zeros_like};
use super::oracle::{self, Random, sigmoid, silu};

const TOLERANCE: f64 = 3e-6;

#[test]
fn silu_mul_matches_its_goldens() {
    let mut report = Report::new("silu_mul goldens", TOLERANCE);
    for case in cases("silu_mul") {
        let (g, u) = (case.get("in.g"), case.get("in.u"));
        report.compare(
            &format!("{} y", case.name),
            &silu_mul::forward(g, u).unwrap(),
            case.get("out.y"),
        );
        let (dg, du) = silu_mul::backward(case.get("up.y"), g, u).unwrap();
        report.compare(&format!("{} dg", case.name), &dg, case.get("grad.g"));
        report.compare(&format!("{} du", case.name), &du, case.get("grad.u"));
    }
}

#[test]
fn gates_match_their_golden() {
    let mut report = Report::new("gdn_gates goldens", TOLERANCE);
    for case in cases("gdn_gates") {
        let [a, b, a_log, dt_bias] =
            ["in.a", "in.b", "in.A_log", "in.dt_bias"].map(|key| case.get(key));
        let (g, beta) = gdn_gates::forward(a, b, a_log, dt_bias).unwrap();
        report.compare("g", &g, case.get("out.g"));
        report.compare("beta", &beta, case.get("out.beta"));
        let (da_log, ddt) = (zeros_like(a_log), zeros_like(dt_bias));
        let ups = (case.get("up.g"), case.get("up.beta"));
        let (da, db) =
            gdn_gates::backward(ups.0, ups.1, a, b, a_log, dt_bias, &da_log, &ddt).unwrap();
        for (name, found) in [
            ("a", &da),
            ("b", &db),
            ("A_log", &da_log),
            ("dt_bias", &ddt),
        ] {
            report.compare(name, found, case.get(&format!("grad.{name}")));
        }
    }
}

#[test]
fn elementwise_ops_match_autograd() {
    let mut report = Report::new("silu_mul, gates autograd", TOLERANCE);
    for n in [1, 31, 300] {
        let mut random = Random::new(n as u64);
        let pair = [random.between(-9.0, 9.0, &[n, 5]), random.tensor(&[n, 5])];
        oracle::compare(
            &mut report,
            &format!("silu_mul {n}"),
            &pair,
            |inputs, upstream| {
                let (dg, du) = silu_mul::backward(&upstream(&[])[0], &inputs[0], &inputs[1])?;
                Ok((
                    vec![silu_mul::forward(&inputs[0], &inputs[1])?],
                    vec![dg, du],
                ))
            },
            |inputs| Ok(vec![(silu(&inputs[0])? * &inputs[1])?]),
        );
        oracle::compare(
            &mut report,
            &format!("sigmoid_gate {n}"),
            &pair,
            |inputs, upstream| {
                let (d_o, d_gate) =
                    sigmoid_gate::backward(&upstream(&[])[0], &inputs[0], &inputs[1])?;
                Ok((
                    vec![sigmoid_gate::forward(&inputs[0], &inputs[1])?],
                    vec![d_o, d_gate],
                ))
            },
            |inputs| Ok(vec![(&inputs[0] * sigmoid(&inputs[1])?)?]),
        );
        let four = [
            random.between(-5.0, 5.0, &[n, 3]),
            random.tensor(&[n, 3]),
            random.tensor(&[3]),
            random.tensor(&[3]),
        ];
        oracle::compare(
            &mut report,
            &format!("gdn_gates {n}"),
            &four,
            |inputs, upstream| {
                let [a, b, a_log, dt] = inputs else {
                    unreachable!()
                };
                let (g, beta) = gdn_gates::forward(a, b, a_log, dt)?;
                let (da_log, ddt) = (zeros_like(a_log), zeros_like(dt));
                let up = upstream(&[]);
                let (da, db) = gdn_gates::backward(&up[0], &up[1], a, b, a_log, dt, &da_log, &ddt)?;
                Ok((vec![g, beta], vec![da, db, da_log, ddt]))
            },
            |inputs| {
                let softplus = (inputs[0].broadcast_add(&inputs[3])?.exp()? + 1.0)?.log()?;
                let g = softplus.broadcast_mul(&inputs[2].exp()?)?.neg()?;
                Ok(vec![g, sigmoid(&inputs[1])?])
            },
        );
    }
}

#[test]
fn sums_and_multiples_reach_the_arena_through_views() {
    let mut random = Random::new(1);
    let arena = random.tensor(&[100]);
    let before = values(&arena);
    let view = arena.narrow(0, 10, 12).unwrap().reshape((3, 4)).unwrap();
    let other = random.tensor(&[3, 4]);
    let sum = ops::add(&view, &other).unwrap();
    ops::add_assign(&view, &other).unwrap();
    assert_eq!(values(&view), values(&sum));
    ops::scale(&view, 2.0).unwrap();
    let after = values(&arena);
    assert_eq!((&after[..10], &after[22..]), (&before[..10], &before[22..]));
    assert_eq!(after[10], 2.0 * values(&sum)[0]);
    ops::fill_zero(&view).unwrap();
    assert!(values(&arena)[10..22].iter().all(|value| *value == 0.0));
    assert!(ops::add_assign(&view, &random.tensor(&[4, 3])).is_err());
}

#[test]
fn reductions_count_and_sum_whole_arenas() {
    let mut numbers: Vec<f32> = (0..50_001)
        .map(|index| (index as f32 * 0.37).sin())
        .collect();
    let truth: f64 = numbers.iter().map(|x| f64::from(*x).powi(2)).sum();
    let tensor =
        |numbers: &[f32]| Tensor::from_slice(numbers, numbers.len(), &Device::Cpu).unwrap();
    let found = reduce::sum_of_squares(&tensor(&numbers)).unwrap();
    assert!((found - truth).abs() < 1e-12 * truth, "{found} for {truth}");
    assert_eq!(reduce::non_finite(&tensor(&numbers)).unwrap(), 0);
    (numbers[3], numbers[40_000], numbers[50_000]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    assert_eq!(reduce::non_finite(&tensor(&numbers)).unwrap(), 3);
    assert!(
        !reduce::sum_of_squares(&tensor(&numbers))
            .unwrap()
            .is_finite()
    );
}
