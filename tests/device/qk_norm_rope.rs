//! Norm and rotation of query and key heads: outputs and gradients on odd and real shapes, heads of a joint projection; then their speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::qk_norm_rope;
use trestle::ops::rope::Table;

use crate::{
    check_untouched, compare, gpu, joint, many, place, sets, speed, tolerance, tolerance_of_sum,
    values,
};

const EPS: f64 = 1e-6;

/// Positions that differ between the rows, and start again as in a packed batch.
fn table(n: usize, rotary_dim: usize, sections: [usize; 3]) -> Result<Table> {
    let row = |stride: usize| (0..n).map(|t| (t * stride % 3001) as i64).collect();
    Table::new(&[row(1), row(7), row(31)], rotary_dim, 1e7, sections)
}

#[test]
fn qk_norm_rope_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, h, d, rotary, sections) in [
        (1, 1, 2, 2, [1, 0, 0]),
        (3, 5, 63, 14, [3, 2, 2]),
        (77, 2, 256, 64, [11, 11, 10]),
        (65, 3, 32, 8, [2, 1, 1]),
        (33, 2, 520, 32, [6, 5, 5]),
        (2049, 8, 256, 64, [11, 11, 10]),
    ] {
        // as query and gate alternate in a joint projection
        let whole = values(&[n, h + 1, 2 * d], 1)?;
        let view = |t: &Tensor| t.narrow(1, 0, h)?.narrow(2, 0, d);
        let (dy, w, table) = (
            values(&[n, h, d], 2)?,
            values(&[d], 3)?,
            table(n, rotary, sections)?,
        );
        let x = view(&whole)?;
        let y = qk_norm_rope::forward(&x, &w, EPS, &table)?;
        let dw = Tensor::ones(d, DType::F32, &Device::Cpu)?;
        let dx = Tensor::zeros((n, h, d), DType::F32, &Device::Cpu)?;
        qk_norm_rope::backward_into(&dy, &x, &w, EPS, &table, &dw, &dx)?;
        for dtype in [DType::F32, DType::BF16] {
            let gx = view(&place(&whole, &gpu, dtype)?)?;
            let (gdy, gw) = (place(&dy, &gpu, dtype)?, place(&w, &gpu, dtype)?);
            let gdw = Tensor::ones(d, DType::F32, &gpu)?;
            let joint = joint(&gpu, dtype, n, (h + 1) * 2 * d)?;
            let gdx = view(&joint.reshape((n, h + 1, 2 * d))?)?;
            let gy = qk_norm_rope::forward(&gx, &gw, EPS, &table)?;
            qk_norm_rope::backward_into(&gdy, &gx, &gw, EPS, &table, &gdw, &gdx)?;
            let what = |name| format!("qk_norm_rope [{n}, {h}, {d}] {} {name}", dtype.as_str());
            compare(&what("y"), &gy, &y, tolerance(dtype))?;
            // Each value is a difference of terms up to 4 times as large in the narrowest head.
            let bound = tolerance(dtype) * if d == 2 { 64.0 } else { 1.0 };
            compare(&what("dx"), &gdx, &dx, bound)?;
            compare(&what("dw"), &gdw, &dw, tolerance_of_sum(n * h))?;
            let written = |column: usize| column < 2 * h * d && (column / d).is_multiple_of(2);
            check_untouched(&what("dx"), &joint, written)?;
        }
    }
    Ok(())
}

#[test]
fn a_table_on_the_gpu_is_that_of_the_cpu() -> Result<()> {
    let gpu = gpu();
    // heads of ones and zeros show cosines and sines; far positions show the last bits of an angle
    let row = |start: i64| (start..start + 64).collect::<Vec<i64>>();
    let table = Table::new(
        &[row(262_100), row(31), row(700_000)],
        64,
        1e7,
        [11, 11, 10],
    )?;
    let mut x = vec![0f32; 64 * 64];
    for token in x.chunks_exact_mut(64) {
        token[..32].fill(1.0);
    }
    let x = Tensor::from_vec(x, (64, 1, 64), &gpu)?;
    let found = trestle::ops::rope::forward(&x, &table)?.to_device(&Device::Cpu)?;
    let mut expected = Vec::new();
    for (cos, sin) in table
        .cos()
        .chunks_exact(32)
        .zip(table.sin().chunks_exact(32))
    {
        expected.extend_from_slice(cos);
        expected.extend_from_slice(sin);
    }
    let found: Vec<f32> = found.flatten_all()?.to_vec1()?;
    let differ = found.iter().zip(&expected).filter(|(f, e)| f != e).count();
    println!(
        "error rope table: {differ} of {} values differ",
        expected.len()
    );
    // both round f64 values that are right within 2^-52: one in 2^20 may fall on the other side
    assert!(differ <= 1, "{differ} values differ");
    Ok(())
}

#[test]
fn qk_norm_rope_speed() -> Result<()> {
    let gpu = gpu();
    let (n, d, width) = (8192, 256, 5120);
    let table = table(n, 64, [11, 11, 10])?;
    let w = place(&values(&[d], 3)?, &gpu, DType::BF16)?;
    let dw = Tensor::zeros(d, DType::F32, &gpu)?;
    let count = sets(n * width * 2);
    let wholes = many(&gpu, count, &[n, width], 1)?;
    let d_whole = joint(&gpu, DType::BF16, n, width)?;
    for (name, h) in [("q", 8), ("k", 2)] {
        let view = |t: &Tensor| match h {
            8 => t.reshape((n, 10, 512))?.narrow(1, 0, 8)?.narrow(2, 0, d),
            _ => t.reshape((n, 20, 256))?.narrow(1, 16, 2),
        };
        let x: Vec<Tensor> = wholes.iter().map(view).collect::<Result<_>>()?;
        let dy = many(&gpu, count, &[n, h, d], 2)?;
        let dx = view(&d_whole)?;
        let bytes = n * h * d * 2;
        let what = |pass| format!("qk_norm_rope {pass} {name} [8192, {h}, 256]");
        speed(&gpu, &what("forward"), 2 * bytes, |run| {
            qk_norm_rope::forward(&x[run % count], &w, EPS, &table).map(drop)
        })?;
        speed(&gpu, &what("backward"), 3 * bytes, |run| {
            let run = run % count;
            qk_norm_rope::backward_into(&dy[run], &x[run], &w, EPS, &table, &dw, &dx)
        })?;
    }
    Ok(())
}
