//! Linear layers, and SwiGLU made of them.

use trestle::ops::{CuSeqlens, attention, cross_entropy, gated_delta, linear, rms_norm, silu_mul};

use super::golden::{Report, cases, values, zeros_like};
use super::oracle::{self, Random};

const TOLERANCE: f64 = 4e-6;

#[test]
fn swiglu_of_ops_matches_its_golden() {
    let mut report = Report::new("linear, silu_mul (swiglu) goldens", TOLERANCE);
    for case in cases("swiglu") {
        let [x, gate, up, down] = ["in.x", "in.gate", "in.up", "in.down"].map(|key| case.get(key));
        let g = linear::forward(x, gate).unwrap();
        let u = linear::forward(x, up).unwrap();
        let a = silu_mul::forward(&g, &u).unwrap();
        report.compare("y", &linear::forward(&a, down).unwrap(), case.get("out.y"));
        let (d_gate, d_up, d_down) = (zeros_like(gate), zeros_like(up), zeros_like(down));
        let dy = case.get("up.y");
        linear::backward_weight(dy, &a, &d_down).unwrap();
        let (dg, du) =
            silu_mul::backward(&linear::backward_input(dy, down).unwrap(), &g, &u).unwrap();
        linear::backward_weight(&dg, x, &d_gate).unwrap();
        linear::backward_weight(&du, x, &d_up).unwrap();
        let dx = linear::backward_input(&dg, gate).unwrap();
        linear::backward_input_into(&du, up, &dx).unwrap();
        for (name, found) in [
            ("x", &dx),
            ("gate", &d_gate),
            ("up", &d_up),
            ("down", &d_down),
        ] {
            report.compare(name, found, case.get(&format!("grad.{name}")));
        }
    }
}

#[test]
fn linear_matches_autograd() {
    let mut report = Report::new("linear autograd", TOLERANCE);
    for (n, i, o) in [(1, 1, 1), (1, 16, 3), (65, 33, 127), (130, 64, 96)] {
        let mut random = Random::new(n as u64);
        let inputs = [random.tensor(&[n, i]), random.tensor(&[o, i])];
        oracle::compare(
            &mut report,
            &format!("{n}x{i}x{o}"),
            &inputs,
            |inputs, upstream| {
                let (dy, dw) = (&upstream(&[])[0], zeros_like(&inputs[1]));
                linear::backward_weight(dy, &inputs[0], &dw)?;
                Ok((
                    vec![linear::forward(&inputs[0], &inputs[1])?],
                    vec![linear::backward_input(dy, &inputs[1])?, dw],
                ))
            },
            |inputs| Ok(vec![inputs[0].matmul(&inputs[1].t()?)?]),
        );
    }
}

#[test]
fn weight_gradients_are_added_to_what_is_there() {
    let mut random = Random::new(9);
    let (dy, x) = (random.tensor(&[40, 6]), random.tensor(&[40, 5]));
    let arena = zeros_like(&random.tensor(&[50]));
    let dw = arena.narrow(0, 7, 30).unwrap().reshape((6, 5)).unwrap();
    linear::backward_weight(&dy, &x, &dw).unwrap();
    let once = values(&dw);
    linear::backward_weight(&dy, &x, &dw).unwrap();
    for (once, twice) in once.iter().zip(values(&dw)) {
        assert!((2.0 * once - twice).abs() < 1e-5);
    }
    let arena = values(&arena);
    assert!(
        arena[..7]
            .iter()
            .chain(&arena[37..])
            .all(|value| *value == 0.0),
        "written outside of the view"
    );
}

#[test]
fn results_are_the_same_bit_by_bit_in_every_run() {
    let mut random = Random::new(12);
    let cu = CuSeqlens::new(vec![0, 100, 333]).unwrap();
    let n = cu.tokens();
    let [q, k] = std::array::from_fn(|_| random.tensor(&[n, 2, 16]));
    let v = random.tensor(&[n, 4, 16]);
    let (g, beta) = (
        random.between(-1.0, -0.1, &[n, 4]),
        random.between(0.1, 0.9, &[n, 4]),
    );
    let (x, w) = (random.tensor(&[n, 64]), random.tensor(&[500, 64]));
    let (gain, labels) = (random.tensor(&[64]), random.ids(500, n));
    let run = || {
        let delta = gated_delta::forward(&q, &k, &v, &g, &beta, &cu, None).unwrap();
        let grads = gated_delta::backward(&v, None, &delta.saved).unwrap();
        let (o, lse) = attention::forward(&v, &q, &k, &cu, 0.25).unwrap();
        let (dq, dk, dv) = attention::backward(&v, &v, &q, &k, &o, &lse, &cu, 0.25).unwrap();
        let (dw, d_gain) = (zeros_like(&w), zeros_like(&gain));
        let (loss, dx) =
            cross_entropy::forward_backward(&x, &w, &labels, &vec![1.0; n], 0.01, 100, &dw)
                .unwrap();
        let d_norm = rms_norm::backward(&dx, &x, &gain, 1e-6, &d_gain).unwrap();
        let tensors = [
            delta.o,
            grads.dq,
            grads.dk,
            grads.dv,
            grads.dg,
            grads.dbeta,
            dq,
            dk,
            dv,
            dw,
            d_gain,
            d_norm,
        ];
        let sums = loss.sums.to_vec1::<f64>().unwrap();
        let tokens = [loss.ce, loss.lse].map(|tensor| values(&tensor));
        let tensors = tensors.iter().map(values).collect::<Vec<_>>();
        (sums, tokens, tensors)
    };
    let first = run();
    for _ in 0..3 {
        assert!(run() == first, "two runs differ");
    }
}
