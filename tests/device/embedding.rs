//! Rows by token id and their gradient: rare and frequent ids, odd and real widths, then speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::embedding;

use crate::{compare, gpu, place, tolerance, tolerance_of_sum, values};

fn ids(n: usize, vocabulary: u32, salt: u32) -> Vec<u32> {
    (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 7) % vocabulary)
        .collect()
}

#[test]
fn embedding_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    let cases = [
        (17, 5, 3),
        (1, 8, 64),
        (300, 50, 33),
        (4096, 3000, 1024),
        (2000, 7, 256),
    ];
    for (n, vocabulary, h) in cases {
        let mut ids = ids(n, vocabulary as u32, 3);
        ids[n / 2..].fill(1); // one id in half of the places
        let (w, dy) = (values(&[vocabulary, h], 1)?, values(&[n, h], 2)?);
        let dw = values(&[vocabulary, h], 4)?;
        let want_dw = dw.copy()?;
        embedding::backward(&dy, &ids, &want_dw)?;
        for dtype in [DType::F32, DType::BF16] {
            let what = |name| {
                format!(
                    "embedding [{n}, {h}] of {vocabulary} {} {name}",
                    dtype.as_str()
                )
            };
            let (gw, gdy) = (place(&w, &gpu, dtype)?, place(&dy, &gpu, dtype)?);
            let y = embedding::forward(&ids, &gw)?;
            compare(
                &what("y"),
                &y,
                &embedding::forward(&ids, &w)?,
                tolerance(dtype),
            )?;
            let run = || -> Result<Vec<f32>> {
                let gdw = place(&dw, &gpu, DType::F32)?;
                embedding::backward(&gdy, &ids, &gdw)?;
                compare(&what("dw"), &gdw, &want_dw, tolerance_of_sum(n))?;
                gdw.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()
            };
            assert_eq!(run()?, run()?, "{}", what("twice"));
        }
    }
    Ok(())
}

#[test]
fn a_token_that_fills_the_batch_adds_up_in_the_table_of_the_model() -> Result<()> {
    let gpu = gpu();
    let (n, vocabulary, h) = (8192, 248_320, 1024);
    let dy = place(
        &Tensor::ones((n, h), DType::F32, &Device::Cpu)?,
        &gpu,
        DType::BF16,
    )?;
    let dw = Tensor::zeros((vocabulary, h), DType::F32, &gpu)?;
    embedding::backward(&dy, &vec![248_319; n], &dw)?;
    let sums: Vec<f32> = dw.get(248_319)?.to_vec1()?;
    assert!(sums.iter().all(|&sum| sum == n as f32));
    assert_eq!(dw.sum_all()?.to_scalar::<f32>()?, (n * h) as f32);
    Ok(())
}
