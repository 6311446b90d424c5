//! The two elementwise gates: outputs and gradients on odd, real and long shapes, halves and heads of joint projections; then their speed.

use candle_core::{DType, Result, Tensor};
use trestle::ops::{sigmoid_gate, silu_mul};

use crate::{check_untouched, compare, gpu, joint, many, place, sets, speed, tolerance, values};

type Forward = fn(&Tensor, &Tensor) -> Result<Tensor>;
type Backward = fn(&Tensor, &Tensor, &Tensor) -> Result<(Tensor, Tensor)>;

const OPS: [(&str, Forward, Backward); 2] = [
    ("silu_mul", silu_mul::forward, silu_mul::backward),
    (
        "sigmoid_gate",
        sigmoid_gate::forward,
        sigmoid_gate::backward,
    ),
];

#[test]
fn gates_match_their_references() -> Result<()> {
    let gpu = gpu();
    for (op, forward, backward) in OPS {
        for (n, d) in [(1, 1), (3, 63), (7, 2560), (1025, 3584), (257, 5120)] {
            let [a, b, dy] = [1, 2, 3].map(|salt| values(&[n, d], salt));
            let (a, b, dy) = ((a? * 4.0)?, (b? * 4.0)?, dy?);
            let y = forward(&a, &b)?;
            let (da, db) = backward(&dy, &a, &b)?;
            for dtype in [DType::F32, DType::BF16] {
                let (ga, gb, gdy) = (
                    place(&a, &gpu, dtype)?,
                    place(&b, &gpu, dtype)?,
                    place(&dy, &gpu, dtype)?,
                );
                let (gda, gdb) = backward(&gdy, &ga, &gb)?;
                let what = |name| format!("{op} [{n}, {d}] {} {name}", dtype.as_str());
                compare(&what("y"), &forward(&ga, &gb)?, &y, tolerance(dtype))?;
                compare(&what("da"), &gda, &da, tolerance(dtype))?;
                compare(&what("db"), &gdb, &db, tolerance(dtype))?;
            }
        }
    }
    Ok(())
}

#[test]
fn joined_silu_mul_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, i) in [(1, 1), (3, 63), (7, 100), (1025, 3584)] {
        let (gate_up, dy) = ((values(&[n, 2 * i], 1)? * 4.0)?, values(&[n, i], 2)?);
        let y = silu_mul::joined_forward(&gate_up)?;
        let (d_gate_up, _) = silu_mul::joined_backward(&dy, &gate_up)?;
        for dtype in [DType::F32, DType::BF16] {
            let (gate_up, dy) = (place(&gate_up, &gpu, dtype)?, place(&dy, &gpu, dtype)?);
            let (found, again) = silu_mul::joined_backward(&dy, &gate_up)?;
            let what = |name| format!("silu_mul joined [{n}, {i}] {} {name}", dtype.as_str());
            let forward = silu_mul::joined_forward(&gate_up)?;
            compare(&what("y"), &forward, &y, tolerance(dtype))?;
            compare(&what("y again"), &again, &forward, 0.0)?;
            compare(&what("d"), &found, &d_gate_up, tolerance(dtype))?;
        }
    }
    Ok(())
}

#[test]
fn sigmoid_gate_takes_heads_of_a_joint_projection() -> Result<()> {
    let gpu = gpu();
    for (n, h, d) in [(2, 1, 9), (9, 3, 21), (513, 8, 256)] {
        let whole = (values(&[n, h + 1, 2 * d], 1)? * 4.0)?;
        let view = |t: &Tensor| t.narrow(1, 0, h)?.narrow(2, d, d);
        let (o, dy, gate) = (
            values(&[n, h, d], 2)?,
            values(&[n, h * d], 3)?,
            view(&whole)?,
        );
        let y = sigmoid_gate::forward(&o, &gate)?;
        let (d_o, d_gate) = sigmoid_gate::backward(&dy, &o, &gate)?;
        for dtype in [DType::F32, DType::BF16] {
            let gate = view(&place(&whole, &gpu, dtype)?)?;
            let (o, dy) = (place(&o, &gpu, dtype)?, place(&dy, &gpu, dtype)?);
            let joint = joint(&gpu, dtype, n, (h + 1) * 2 * d)?;
            let found = view(&joint.reshape((n, h + 1, 2 * d))?)?;
            let (found_o, again) = sigmoid_gate::backward_into(&dy, &o, &gate, &found)?;
            let what = |name| format!("sigmoid_gate [{n}, {h}, {d}] {} {name}", dtype.as_str());
            let forward = sigmoid_gate::forward(&o, &gate)?;
            compare(&what("y"), &forward, &y, tolerance(dtype))?;
            compare(&what("y again"), &again, &forward, 0.0)?;
            compare(&what("do"), &found_o, &d_o, tolerance(dtype))?;
            compare(&what("dgate"), &found, &d_gate, tolerance(dtype))?;
            let written = |column: usize| column < 2 * h * d && column / d % 2 == 1;
            check_untouched(&what("dgate"), &joint, written)?;
        }
    }
    Ok(())
}

#[test]
fn gates_take_views_that_are_not_aligned() -> Result<()> {
    let gpu = gpu();
    let whole = values(&[1000], 4)?;
    let placed = place(&whole, &gpu, DType::BF16)?;
    for start in [1, 3, 8] {
        let (cpu, view) = (whole.narrow(0, start, 901)?, placed.narrow(0, start, 901)?);
        let y = silu_mul::forward(&cpu, &cpu)?;
        let found = silu_mul::forward(&view, &view)?;
        compare(
            &format!("silu_mul from {start}"),
            &found,
            &y,
            tolerance(DType::BF16),
        )?;
    }
    Ok(())
}

#[test]
fn another_type_or_layout_is_an_error() -> Result<()> {
    let gpu = gpu();
    let a = place(&values(&[4, 8], 1)?, &gpu, DType::BF16)?;
    assert!(silu_mul::forward(&a, &a.to_dtype(DType::F32)?).is_err());
    assert!(silu_mul::forward(&a.to_dtype(DType::F16)?, &a).is_err());
    assert!(silu_mul::forward(&a.t()?, &a.t()?).is_err());
    assert!(silu_mul::forward(&a, &values(&[4, 8], 1)?).is_err());
    Ok(())
}

#[test]
fn gates_speed() -> Result<()> {
    let gpu = gpu();
    for ((op, forward, backward), d) in OPS.into_iter().zip([3584, 2048]) {
        let bytes = 8192 * d * 2;
        let count = sets(3 * bytes);
        let [a, b, dy] = [1, 2, 3].map(|salt| many(&gpu, count, &[8192, d], salt));
        let (a, b, dy) = (a?, b?, dy?);
        speed(
            &gpu,
            &format!("{op} forward [8192, {d}]"),
            3 * bytes,
            |run| forward(&a[run % count], &b[run % count]).map(drop),
        )?;
        speed(
            &gpu,
            &format!("{op} backward [8192, {d}]"),
            5 * bytes,
            |run| backward(&dy[run % count], &a[run % count], &b[run % count]).map(drop),
        )?;
    }
    let (n, i) = (8192, 3584);
    let bytes = n * i * 2;
    let count = sets(3 * bytes).max(2);
    let (gate_up, dy) = (
        many(&gpu, count, &[n, 2 * i], 1)?,
        many(&gpu, count, &[n, i], 2)?,
    );
    speed(
        &gpu,
        "silu_mul joined_forward [8192, 3584]",
        3 * bytes,
        |run| silu_mul::joined_forward(&gate_up[run % count]).map(drop),
    )?;
    speed(
        &gpu,
        "silu_mul joined_backward [8192, 3584]",
        6 * bytes,
        |run| silu_mul::joined_backward(&dy[run % count], &gate_up[run % count]).map(drop),
    )?;
    let (h, d) = (8, 256);
    let bytes = n * h * d * 2;
    let count = sets(3 * bytes).max(2);
    let view = |t: &Tensor| t.reshape((n, 10, 512))?.narrow(1, 0, h)?.narrow(2, d, d);
    let whole = many(&gpu, count, &[n, 5120], 1)?;
    let gate: Vec<Tensor> = whole.iter().map(view).collect::<Result<_>>()?;
    let (o, dy) = (
        many(&gpu, count, &[n, h, d], 2)?,
        many(&gpu, count, &[n, h * d], 3)?,
    );
    let d_gate = view(&joint(&gpu, DType::BF16, n, 5120)?)?;
    speed(
        &gpu,
        "sigmoid_gate forward of heads [8192, 8, 256]",
        3 * bytes,
        |run| sigmoid_gate::forward(&o[run % count], &gate[run % count]).map(drop),
    )?;
    speed(
        &gpu,
        "sigmoid_gate backward_into of heads [8192, 8, 256]",
        6 * bytes,
        |run| {
            let run = run % count;
            sigmoid_gate::backward_into(&dy[run], &o[run], &gate[run], &d_gate).map(drop)
        },
    )
}
