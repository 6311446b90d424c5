//! Ops that put values elsewhere: embedding, rotary embedding, columns; boundaries of packed batches.

use candle_core::{Device, Result, Tensor};
use trestle::ops::{columns, embedding, rope};

use super::golden::{Report, cases, values, zeros_like};
use super::oracle::{self, Random};

const THETA: f64 = 1e7;

#[test]
fn rope_matches_its_goldens() {
    let mut report = Report::new("rope goldens", 2e-6);
    for case in cases("rope") {
        // float32 angles near position 262,144 are coarse in the goldens' source too
        let allowed = if case.name == "rope_far" { 2e-2 } else { 2e-6 };
        let width = case.get("out.cos").dim(1).unwrap();
        let table = rope::Table::new(&case.positions(), width, THETA, case.sections()).unwrap();
        let vector =
            |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        report.compare(
            &format!("{} inv_freq", case.name),
            &vector(table.inverse_frequencies()),
            case.get("out.inv_freq"),
        );
        let half = |key: &str| {
            case.get(key)
                .narrow(1, 0, width / 2)
                .unwrap()
                .flatten_all()
                .unwrap()
        };
        report.compare_within(
            &format!("{} cos", case.name),
            &vector(table.cos()),
            &half("out.cos"),
            allowed,
        );
        report.compare_within(
            &format!("{} sin", case.name),
            &vector(table.sin()),
            &half("out.sin"),
            allowed,
        );
        for name in ["q", "k"] {
            let y = rope::forward(&case.packed_heads(&format!("in.{name}")), &table).unwrap();
            report.compare_within(
                &format!("{} {name}", case.name),
                &y,
                &case.packed_heads(&format!("out.{name}")),
                allowed,
            );
            let dx = rope::backward(&case.packed_heads(&format!("up.{name}")), &table).unwrap();
            report.compare_within(
                &format!("{} d{name}", case.name),
                &dx,
                &case.packed_heads(&format!("grad.{name}")),
                allowed,
            );
        }
    }
}

/// The rotation by `cos`, `sin` `[N, 1, half]`.
fn rotated(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = cos.dim(2)?;
    let (low, high) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let rest = x.narrow(2, 2 * half, x.dim(2)? - 2 * half)?;
    let new_low = (low.broadcast_mul(cos)? - high.broadcast_mul(sin)?)?;
    let new_high = (high.broadcast_mul(cos)? + low.broadcast_mul(sin)?)?;
    Tensor::cat(&[new_low, new_high, rest], 2)
}

#[test]
fn rope_matches_autograd() {
    let mut report = Report::new("rope autograd", 2e-6);
    for (n, h) in [(1, 1), (33, 3), (70, 2)] {
        let positions: [Vec<i64>; 3] =
            std::array::from_fn(|row| (0..n as i64).map(|p| p * (row as i64 + 1) % 50).collect());
        let table = rope::Table::new(&positions, 8, 1e4, [2, 1, 1]).unwrap();
        let wide = |values: &[f32]| -> Result<Tensor> {
            Tensor::from_slice(values, (n, 1, 4), &Device::Cpu)?.to_dtype(candle_core::DType::F64)
        };
        oracle::compare(
            &mut report,
            &format!("{n}x{h}"),
            &[Random::new(4).tensor(&[n, h, 20])],
            |inputs, upstream| {
                Ok((
                    vec![rope::forward(&inputs[0], &table)?],
                    vec![rope::backward(&upstream(&[])[0], &table)?],
                ))
            },
            |inputs| {
                Ok(vec![rotated(
                    &inputs[0],
                    &wide(table.cos())?,
                    &wide(table.sin())?,
                )?])
            },
        );
    }
}

#[test]
fn rope_refuses_sections_and_positions_that_do_not_fit() {
    let row = |n: i64| (0..n).collect::<Vec<_>>();
    assert!(rope::Table::new(&[row(3), row(3), row(3)], 8, THETA, [2, 1, 2]).is_err());
    assert!(rope::Table::new(&[row(3), row(3), row(2)], 8, THETA, [2, 1, 1]).is_err());
    let table = rope::Table::new(&[row(3), row(3), row(3)], 8, THETA, [2, 1, 1]).unwrap();
    let x = Random::new(1).tensor(&[4, 2, 16]);
    assert!(
        rope::forward(&x, &table)
            .unwrap_err()
            .to_string()
            .contains('4'),
        "four tokens, three positions"
    );
}

#[test]
fn embedding_matches_autograd_and_refuses_unknown_ids() {
    let mut report = Report::new("embedding autograd", 1e-6);
    for (n, vocabulary, h) in [(1, 1, 1), (65, 11, 6), (200, 37, 16)] {
        let mut random = Random::new(5);
        let ids = random.ids(vocabulary, n);
        oracle::compare(
            &mut report,
            &format!("{n} of {vocabulary}"),
            &[random.tensor(&[vocabulary as usize, h])],
            |inputs, upstream| {
                let dw = zeros_like(&inputs[0]);
                embedding::backward(&upstream(&[])[0], &ids, &dw)?;
                Ok((vec![embedding::forward(&ids, &inputs[0])?], vec![dw]))
            },
            |inputs| {
                Ok(vec![inputs[0].index_select(
                    &Tensor::from_slice(&ids, n, &Device::Cpu)?,
                    0,
                )?])
            },
        );
    }
    let w = Random::new(1).tensor(&[4, 2]);
    assert!(
        embedding::forward(&[3, 4], &w)
            .unwrap_err()
            .to_string()
            .contains("token id 4")
    );
}

#[test]
fn columns_cut_and_joined_are_what_they_were() {
    let x = Random::new(6).tensor(&[131, 24]);
    let parts = columns::split(&x, &[5, 0, 16, 3]).unwrap();
    assert_eq!(values(&parts[2]), values(&x.narrow(1, 5, 16).unwrap()));
    let joined = columns::join(&parts.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(values(&joined), values(&x));
    assert!(columns::split(&x, &[5, 16]).is_err());
}
