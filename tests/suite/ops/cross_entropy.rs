//! The fused vocabulary head.

use candle_core::{D, Device, Tensor};
use trestle::ops::cross_entropy::{self, Output};

use super::golden::{Case, Report, cases, zeros_like};
use super::oracle::{self, Random};

const TOLERANCE: f64 = 1e-5;

fn vector(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

/// The sums, and the likeliest ids.
fn numbers(output: &Output) -> (Vec<f64>, Vec<u32>) {
    (
        output.sums.to_vec1().unwrap(),
        output.argmax.to_vec1().unwrap(),
    )
}

/// Labels and weights; an ignored position gets a label that does not exist.
fn labels(case: &Case) -> (Vec<u32>, Vec<f32>) {
    let labels = case.get("in.labels").to_vec1::<i64>().unwrap();
    labels
        .iter()
        .map(|label| {
            if *label < 0 {
                (u32::MAX, 0.0)
            } else {
                (*label as u32, 1.0)
            }
        })
        .unzip()
}

#[test]
fn cross_entropy_matches_its_goldens() {
    let mut report = Report::new("cross_entropy goldens", TOLERANCE);
    for case in cases("cross_entropy") {
        let allowed = if case.name == "ce_sharp" {
            2e-5
        } else {
            TOLERANCE
        };
        let (x, w) = (case.get("in.x"), case.get("in.w"));
        let (labels, weights) = labels(&case);
        let total = weights.iter().sum::<f32>().max(1.0);
        for chunk in [1, 4, 1000] {
            let dw = zeros_like(w);
            let (output, dx) =
                cross_entropy::forward_backward(x, w, &labels, &weights, 1.0 / total, chunk, &dw)
                    .unwrap();
            let alone = cross_entropy::forward(x, w, &labels, &weights, chunk).unwrap();
            assert_eq!(
                numbers(&output),
                numbers(&alone),
                "{}: the loss alone is the loss with gradients",
                case.name
            );
            let mut compare = |name: &str, found: &Tensor, truth: &Tensor| {
                report.compare_within(
                    &format!("{} chunk {chunk} {name}", case.name),
                    found,
                    truth,
                    allowed,
                );
            };
            let Output {
                ref ce, ref lse, ..
            } = output;
            let (sums, argmax) = numbers(&output);
            let [loss_sum, correct] = sums[..] else {
                panic!("{sums:?}")
            };
            let loss = Tensor::new((loss_sum / f64::from(total)) as f32, &Device::Cpu).unwrap();
            compare("loss", &loss, case.get("out.loss"));
            compare("ce", ce, case.get("out.ce"));
            compare("lse", lse, case.get("out.lse"));
            compare("dx", &dx, case.get("grad.x"));
            compare("dw", &dw, case.get("grad.w"));
            let argmax: Vec<i64> = argmax.iter().map(|id| i64::from(*id)).collect();
            assert_eq!(
                argmax,
                case.get("out.argmax").to_vec1::<i64>().unwrap(),
                "{}",
                case.name
            );
            let counts = ["out.correct", "out.total"]
                .map(|key| case.get(key).to_scalar::<i64>().unwrap() as u64);
            assert_eq!([correct as u64, output.total], counts, "{}", case.name);
        }
    }
}

#[test]
fn cross_entropy_matches_autograd() {
    let mut report = Report::new("cross_entropy autograd", TOLERANCE);
    for (n, vocabulary, h, chunk) in [(1, 2, 1, 1), (65, 37, 9, 64), (130, 257, 33, 63)] {
        let mut random = Random::new(n as u64);
        let labels = random.ids(vocabulary, n);
        let weights: Vec<f32> = (0..n)
            .map(|index| [1.0, 0.0, 0.25, 2.0][(index + 2) % 4])
            .collect();
        let inputs = [
            random.between(-3.0, 3.0, &[n, h]),
            random.tensor(&[vocabulary as usize, h]),
        ];
        let scale = 0.125;
        oracle::compare(
            &mut report,
            &format!("{n} of {vocabulary}"),
            &inputs,
            |inputs, upstream| {
                let dw = zeros_like(&inputs[1]);
                let up = upstream(&[])[0].to_scalar::<f32>()? * scale;
                let (output, dx) = cross_entropy::forward_backward(
                    &inputs[0], &inputs[1], &labels, &weights, up, chunk, &dw,
                )?;
                let objective = Tensor::new(
                    (numbers(&output).0[0] * f64::from(scale)) as f32,
                    &Device::Cpu,
                )?;
                Ok((vec![objective], vec![dx, dw]))
            },
            |inputs| {
                let logits = inputs[0].matmul(&inputs[1].t()?)?;
                let highest = logits.max_keepdim(D::Minus1)?.detach();
                let lse = (logits
                    .broadcast_sub(&highest)?
                    .exp()?
                    .sum_keepdim(D::Minus1)?
                    .log()?
                    + highest)?;
                let target =
                    logits.gather(&Tensor::from_slice(&labels, (n, 1), &Device::Cpu)?, 1)?;
                let ce = (lse - target)?.squeeze(1)?;
                let weights = vector(&weights).to_dtype(candle_core::DType::F64)?;
                Ok(vec![((ce * weights)?.sum_all()? * f64::from(scale))?])
            },
        );
    }
}

#[test]
fn labels_beyond_the_vocabulary_are_refused_where_they_count() {
    let mut random = Random::new(2);
    let (x, w) = (random.tensor(&[2, 3]), random.tensor(&[5, 3]));
    let refused = cross_entropy::forward(&x, &w, &[1, 5], &[1.0, 1.0], 2).unwrap_err();
    assert!(refused.to_string().contains("label 5"), "{refused}");
    assert!(cross_entropy::forward(&x, &w, &[1, 5], &[1.0, 0.0], 2).is_ok());
}
