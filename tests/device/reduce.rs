//! Sums over arenas: exact counts, f64 sums, then their speed.

use candle_core::{DType, Result, Tensor};
use trestle::ops::reduce;

use crate::{gpu, place, speed, values};

#[test]
fn reductions_match_their_references() -> Result<()> {
    let gpu = gpu();
    for n in [1, 63, 2049, 5_000_003] {
        let x = values(&[n], 1)?;
        let expected = reduce::sum_of_squares(&x)?;
        for dtype in [DType::F32, DType::BF16] {
            let gx = place(&x, &gpu, dtype)?;
            let found = reduce::sum_of_squares(&gx)?;
            let error = (found / expected - 1.0).abs();
            println!("error sum_of_squares [{n}] {}: {error:.2e}", dtype.as_str());
            assert!(error < 1e-13, "{found} is not {expected}"); // f64 on both sides
            assert_eq!(found.to_bits(), reduce::sum_of_squares(&gx)?.to_bits());
            assert_eq!(reduce::non_finite(&gx)?, 0);
        }
    }
    let mut values = vec![1f32; 100_001];
    for (index, value) in [
        (0, f32::NAN),
        (77, f32::INFINITY),
        (100_000, f32::NEG_INFINITY),
    ] {
        values[index] = value;
    }
    let x = Tensor::from_vec(values, 100_001, &gpu)?;
    assert_eq!(reduce::non_finite(&x)?, 3);
    assert!(!reduce::sum_of_squares(&x)?.is_finite());
    // a view that begins off a whole vector
    assert_eq!(reduce::sum_of_squares(&x.narrow(0, 78, 99_922)?)?, 99_922.0);
    Ok(())
}

#[test]
fn reductions_speed() -> Result<()> {
    let gpu = gpu();
    let x = place(&values(&[1 << 20], 1)?, &gpu, DType::F32)?.repeat(512)?;
    speed(&gpu, "sum_of_squares [2^29] f32", 4 << 29, |_| {
        reduce::sum_of_squares(&x).map(drop)
    })?;
    speed(&gpu, "non_finite [2^29] f32", 4 << 29, |_| {
        reduce::non_finite(&x).map(drop)
    })
}
