//! Sums and multiples: values on odd and long shapes, in place and into views, then their speed.

use candle_core::{DType, Device, Result};
use trestle::ops;

use crate::{compare, gpu, many, place, sets, speed, tolerance, values};

#[test]
fn arithmetic_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for n in [1, 63, 4096, 1_000_003] {
        let (a, b) = (values(&[n], 1)?, values(&[n], 2)?);
        for dtype in [DType::F32, DType::BF16] {
            let what = |name| format!("{name} [{n}] {}", dtype.as_str());
            let (ga, gb) = (place(&a, &gpu, dtype)?, place(&b, &gpu, dtype)?);
            let sum = ops::add(&a, &b)?;
            compare(&what("add"), &ops::add(&ga, &gb)?, &sum, tolerance(dtype))?;
            ops::add_assign(&ga, &gb)?;
            compare(&what("add_assign"), &ga, &sum, tolerance(dtype))?;
            let scaled = a.copy()?;
            ops::scale(&scaled, 0.3)?;
            let ga = place(&a, &gpu, dtype)?;
            ops::scale(&ga, 0.3)?;
            compare(&what("scale"), &ga, &scaled, tolerance(dtype))?;
        }
    }
    Ok(())
}

#[test]
fn a_view_is_changed_and_its_neighbours_are_not() -> Result<()> {
    let gpu = gpu();
    let arena = place(&values(&[1000], 3)?, &gpu, DType::F32)?;
    let before = arena.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
    ops::fill_zero(&arena.narrow(0, 5, 501)?)?;
    ops::scale(&arena.narrow(0, 506, 3)?, 2.0)?;
    let after = arena.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        let expected = match index {
            5..506 => 0.0,
            506..509 => 2.0 * before,
            _ => *before,
        };
        assert_eq!(*after, expected, "value {index}");
    }
    Ok(())
}

#[test]
fn arithmetic_speed() -> Result<()> {
    let gpu = gpu();
    let bytes = 8192 * 1024 * 2;
    let count = sets(2 * bytes);
    let (a, b) = (
        many(&gpu, count, &[8192, 1024], 1)?,
        many(&gpu, count, &[8192, 1024], 2)?,
    );
    speed(&gpu, "add [8192, 1024]", 3 * bytes, |run| {
        ops::add(&a[run % count], &b[run % count]).map(drop)
    })?;
    let arena = a[0].to_dtype(DType::F32)?.repeat((16, 1))?;
    speed(&gpu, "scale [2^27] f32", (2 * 4) << 27, |_| {
        ops::scale(&arena, 0.999)
    })?;
    speed(&gpu, "fill_zero [2^27] f32", 4 << 27, |_| {
        ops::fill_zero(&arena)
    })
}
