//! The rotary embedding: both directions on odd, real and long shapes with three rows of positions, then its speed.

use candle_core::{DType, Result};
use trestle::ops::rope::{self, Table};

use crate::{compare, gpu, many, place, sets, speed, tolerance, values};

/// Positions that differ between the rows, and start again as in a packed batch.
fn table(n: usize, rotary_dim: usize, sections: [usize; 3]) -> Result<Table> {
    let row = |stride: usize| (0..n).map(|t| (t * stride % 3001) as i64).collect();
    Table::new(&[row(1), row(7), row(31)], rotary_dim, 1e7, sections)
}

#[test]
fn rope_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (n, h, d, rotary, sections) in [
        (1, 1, 2, 2, [1, 0, 0]),
        (3, 5, 63, 14, [3, 2, 2]),
        (77, 2, 256, 64, [11, 11, 10]),
        (1025, 8, 256, 64, [11, 11, 10]),
    ] {
        let (x, table) = (values(&[n, h, d], 1)?, table(n, rotary, sections)?);
        let (y, dx) = (rope::forward(&x, &table)?, rope::backward(&x, &table)?);
        for dtype in [DType::F32, DType::BF16] {
            let gx = place(&x, &gpu, dtype)?;
            let what = |name| format!("rope [{n}, {h}, {d}] {} {name}", dtype.as_str());
            let (gy, gdx) = (rope::forward(&gx, &table)?, rope::backward(&gx, &table)?);
            compare(&what("y"), &gy, &y, tolerance(dtype))?;
            compare(&what("dx"), &gdx, &dx, tolerance(dtype))?;
        }
    }
    Ok(())
}

#[test]
fn rope_speed() -> Result<()> {
    let gpu = gpu();
    let bytes = 8192 * 8 * 256 * 2;
    let count = sets(2 * bytes);
    let x = many(&gpu, count, &[8192, 8, 256], 1)?;
    let table = table(8192, 64, [11, 11, 10])?;
    speed(&gpu, "rope [8192, 8, 256]", 2 * bytes, |run| {
        rope::forward(&x[run % count], &table).map(drop)
    })
}
