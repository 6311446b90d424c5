//! The two elementwise gates: outputs and gradients on odd, real and long shapes, then their speed.

use candle_core::{DType, Result, Tensor};
use trestle::ops::{sigmoid_gate, silu_mul};

use crate::{compare, gpu, many, place, sets, speed, tolerance, values};

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
        for (n, d) in [(1, 1), (3, 63), (7, 2560), (1025, 3584), (4097, 5120)] {
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
    Ok(())
}
