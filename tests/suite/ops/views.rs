//! Forms that read and write columns of a joint buffer do what their plain forms do, bit for bit, and leave the other columns alone.

use candle_core::{DType, Device, Tensor};
use trestle::ops::rope::Table;
use trestle::ops::{
    CuSeqlens, conv1d, gated_norm, gdn_gates, qk_norm_rope, rms_norm, rope, sigmoid_gate, silu_mul,
};

use super::golden::{values, zeros_like};
use super::oracle::Random;

const EPS: f64 = 1e-6;
const N: usize = 70;

/// A joint buffer whose values are all 7.
fn joint(width: usize) -> Tensor {
    Tensor::full(7f32, (N, width), &Device::Cpu).unwrap()
}

/// Fails unless `found` holds the values of `expected`, and every other column of `joint` is still 7.
fn check(found: &Tensor, expected: &Tensor, joint: &Tensor) {
    assert_eq!(values(&found.contiguous().unwrap()), values(expected));
    let sevens = |t: &Tensor| values(t).iter().filter(|value| **value == 7.0).count();
    let written = expected.elem_count();
    assert_eq!(
        sevens(joint),
        joint.elem_count() - written + sevens(expected)
    );
}

#[test]
fn the_convolution_writes_into_columns() {
    let mut random = Random::new(1);
    let cu = CuSeqlens::new(vec![0, 2, 33, N]).unwrap();
    let whole = random.tensor(&[N, 11]);
    let (dy, w) = (random.tensor(&[N, 6]), random.tensor(&[6, 4]));
    let x = whole.narrow(1, 0, 6).unwrap();
    let plain = x.contiguous().unwrap();
    let (dw, plain_dw) = (zeros_like(&w), zeros_like(&w));
    let y = conv1d::forward(&x, &w, &cu).unwrap();
    assert_eq!(
        values(&y),
        values(&conv1d::forward(&plain, &w, &cu).unwrap())
    );
    let dx = conv1d::backward(&dy, &plain, &w, &cu, &plain_dw).unwrap();
    let joint = joint(11);
    let found = joint.narrow(1, 0, 6).unwrap();
    conv1d::backward_into(&dy, &x, &w, &cu, &dw, &found).unwrap();
    check(&found, &dx, &joint);
    assert_eq!(values(&dw), values(&plain_dw));
}

#[test]
fn the_gates_of_the_delta_net_write_into_columns() {
    let mut random = Random::new(2);
    let whole = random.tensor(&[N, 9]);
    let [dg, dbeta] = [3, 3].map(|heads| random.tensor(&[N, heads]));
    let [a_log, dt] = [3, 3].map(|heads| random.tensor(&[heads]));
    let (b, a) = (
        whole.narrow(1, 3, 3).unwrap(),
        whole.narrow(1, 6, 3).unwrap(),
    );
    let (plain_a, plain_b) = (a.contiguous().unwrap(), b.contiguous().unwrap());
    let (g, beta) = gdn_gates::forward(&a, &b, &a_log, &dt).unwrap();
    let plain = gdn_gates::forward(&plain_a, &plain_b, &a_log, &dt).unwrap();
    assert_eq!(values(&g), values(&plain.0));
    assert_eq!(values(&beta), values(&plain.1));
    let sums = || (zeros_like(&a_log), zeros_like(&dt));
    let ((da_log, ddt), (plain_da_log, plain_ddt)) = (sums(), sums());
    let (da, db) = gdn_gates::backward(
        &dg,
        &dbeta,
        &plain_a,
        &plain_b,
        &a_log,
        &dt,
        &plain_da_log,
        &plain_ddt,
    )
    .unwrap();
    let joint = joint(9);
    let (found_b, found_a) = (
        joint.narrow(1, 3, 3).unwrap(),
        joint.narrow(1, 6, 3).unwrap(),
    );
    gdn_gates::backward_into(
        &dg, &dbeta, &a, &b, &a_log, &dt, &da_log, &ddt, &found_a, &found_b,
    )
    .unwrap();
    let both = joint.narrow(1, 3, 6).unwrap();
    check(&both, &Tensor::cat(&[&db, &da], 1).unwrap(), &joint);
    assert_eq!(values(&da_log), values(&plain_da_log));
    assert_eq!(values(&ddt), values(&plain_ddt));
}

#[test]
fn the_gated_norm_writes_into_columns_and_gives_its_output_again() {
    let mut random = Random::new(3);
    let (heads, d) = (3, 5);
    let whole = random.tensor(&[N, 20]);
    let o = random.tensor(&[N, heads, d]);
    let (dy, w) = (random.tensor(&[N, heads * d]), random.tensor(&[d]));
    let z = whole.narrow(1, 2, heads * d).unwrap();
    let y = gated_norm::forward(&o, &z, &w, EPS).unwrap();
    assert_eq!(y.dims(), [N, heads * d]);
    let rows = |t: &Tensor| {
        let t = t.contiguous().unwrap();
        t.reshape((N * heads, d)).unwrap()
    };
    let plain = gated_norm::forward(&rows(&o), &rows(&z), &w, EPS).unwrap();
    assert_eq!(values(&y), values(&plain));
    let (dw, plain_dw) = (zeros_like(&w), zeros_like(&w));
    let (dx, dz) =
        gated_norm::backward(&rows(&dy), &rows(&o), &rows(&z), &w, EPS, &plain_dw).unwrap();
    let joint = joint(20);
    let found = joint.narrow(1, 2, heads * d).unwrap();
    let (found_dx, again) = gated_norm::backward_into(&dy, &o, &z, &w, EPS, &dw, &found).unwrap();
    assert_eq!((found_dx.dims(), again.dims()), (o.dims(), y.dims()));
    assert_eq!(values(&found_dx), values(&dx));
    assert_eq!(values(&again), values(&y));
    assert_eq!(values(&dw), values(&plain_dw));
    check(&found, &dz, &joint);
    // a gate that does not divide into heads
    assert!(gated_norm::forward(&o, &whole.narrow(1, 0, 14).unwrap(), &w, EPS).is_err());
}

#[test]
fn the_sigmoid_gate_writes_into_heads_and_gives_its_output_again() {
    let mut random = Random::new(4);
    let (heads, d) = (3, 5);
    let view = |t: &Tensor| {
        let t = t.reshape((N, heads + 1, 2 * d)).unwrap();
        t.narrow(1, 0, heads).unwrap().narrow(2, d, d).unwrap()
    };
    let whole = random.tensor(&[N, (heads + 1) * 2 * d]);
    let (o, dy) = (
        random.tensor(&[N, heads, d]),
        random.tensor(&[N, heads * d]),
    );
    let gate = view(&whole);
    let y = sigmoid_gate::forward(&o, &gate).unwrap();
    assert_eq!(y.dims(), [N, heads * d]);
    let (d_o, d_gate) = sigmoid_gate::backward(&dy, &o, &gate.contiguous().unwrap()).unwrap();
    let joint = joint((heads + 1) * 2 * d);
    let found = view(&joint);
    let (found_o, again) = sigmoid_gate::backward_into(&dy, &o, &gate, &found).unwrap();
    assert_eq!(values(&found_o), values(&d_o));
    assert_eq!(values(&again), values(&y));
    check(&found, &d_gate, &joint);
}

#[test]
fn norm_and_rotation_are_those_of_their_rooms() {
    let mut random = Random::new(5);
    let (heads, d) = (3, 8);
    let view = |t: &Tensor| {
        let t = t.reshape((N, heads + 1, 2 * d)).unwrap();
        t.narrow(1, 0, heads).unwrap().narrow(2, 0, d).unwrap()
    };
    let row = |stride: i64| (0..N as i64).map(|t| t * stride).collect::<Vec<i64>>();
    let table = Table::new(&[row(1), row(2), row(3)], 6, 1e7, [1, 1, 1]).unwrap();
    let whole = random.tensor(&[N, (heads + 1) * 2 * d]);
    let (dy, w) = (random.tensor(&[N, heads, d]), random.tensor(&[d]));
    let x = view(&whole);
    let plain = x.contiguous().unwrap();
    let y = qk_norm_rope::forward(&x, &w, EPS, &table).unwrap();
    let expected = rope::forward(&rms_norm::forward(&plain, &w, EPS).unwrap(), &table).unwrap();
    assert_eq!(values(&y), values(&expected));
    let (dw, plain_dw) = (zeros_like(&w), zeros_like(&w));
    let turned = rope::backward(&dy, &table).unwrap();
    let dx = rms_norm::backward(&turned, &plain, &w, EPS, &plain_dw).unwrap();
    let joint = joint((heads + 1) * 2 * d);
    let found = view(&joint);
    qk_norm_rope::backward_into(&dy, &x, &w, EPS, &table, &dw, &found).unwrap();
    check(&found, &dx, &joint);
    assert_eq!(values(&dw), values(&plain_dw));
    assert!(qk_norm_rope::forward(&x.narrow(0, 0, N - 1).unwrap(), &w, EPS, &table).is_err());
}

#[test]
fn the_joined_activation_is_that_of_its_halves() {
    let mut random = Random::new(6);
    let (gate_up, dy) = (random.tensor(&[N, 10]), random.tensor(&[N, 5]));
    let half = |t: &Tensor, start| t.narrow(1, start, 5).unwrap().contiguous().unwrap();
    let (gate, up) = (half(&gate_up, 0), half(&gate_up, 5));
    let y = silu_mul::forward(&gate, &up).unwrap();
    let (dg, du) = silu_mul::backward(&dy, &gate, &up).unwrap();
    assert_eq!(
        values(&silu_mul::joined_forward(&gate_up).unwrap()),
        values(&y)
    );
    let (found, again) = silu_mul::joined_backward(&dy, &gate_up).unwrap();
    assert_eq!(values(&half(&found, 0)), values(&dg));
    assert_eq!(values(&half(&found, 5)), values(&du));
    assert_eq!(values(&again), values(&y));
    let odd = Tensor::zeros((2, 5), DType::F32, &Device::Cpu).unwrap();
    assert!(silu_mul::joined_forward(&odd).is_err());
}
