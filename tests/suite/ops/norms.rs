//! RMSNorm, gated RMSNorm.

use candle_core::{D, Result, Tensor};
use trestle::ops::{gated_norm, rms_norm};

use super::golden::{Report, cases, zeros_like};
use super::oracle::{self, Random, silu};

const EPS: f64 = 1e-6;
const TOLERANCE: f64 = 3e-6;

fn normed(x: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(&(x.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?.recip()?)
}

#[test]
fn rms_norm_matches_its_goldens() {
    let mut report = Report::new("rms_norm goldens", TOLERANCE);
    for case in cases("norm") {
        let (x, w) = (case.get("in.x"), case.get("in.w"));
        report.compare(
            &format!("{} y", case.name),
            &rms_norm::forward(x, w, EPS).unwrap(),
            case.get("out.y"),
        );
        let dw = zeros_like(w);
        let dx = rms_norm::backward(case.get("up.y"), x, w, EPS, &dw).unwrap();
        report.compare(&format!("{} dx", case.name), &dx, case.get("grad.x"));
        report.compare(&format!("{} dw", case.name), &dw, case.get("grad.w"));
    }
}

#[test]
fn rms_norm_matches_autograd() {
    let mut report = Report::new("rms_norm autograd", TOLERANCE);
    for (n, d) in [(1, 2), (1, 7), (33, 63), (70, 256)] {
        let mut random = Random::new(d as u64);
        let inputs = [random.tensor(&[n, d]), random.tensor(&[d])];
        oracle::compare(
            &mut report,
            &format!("{n}x{d}"),
            &inputs,
            |inputs, upstream| {
                let y = rms_norm::forward(&inputs[0], &inputs[1], EPS)?;
                let dw = zeros_like(&inputs[1]);
                let dx = rms_norm::backward(&upstream(&[])[0], &inputs[0], &inputs[1], EPS, &dw)?;
                Ok((vec![y], vec![dx, dw]))
            },
            |inputs| {
                Ok(vec![
                    normed(&inputs[0])?.broadcast_mul(&(&inputs[1] + 1.0)?)?,
                ])
            },
        );
    }
}

#[test]
fn gated_norm_matches_its_goldens() {
    let mut report = Report::new("gated_norm goldens", TOLERANCE);
    for case in cases("gated_norm") {
        let (x, z, w) = (case.get("in.x"), case.get("in.z"), case.get("in.w"));
        report.compare(
            &format!("{} y", case.name),
            &gated_norm::forward(x, z, w, EPS).unwrap(),
            case.get("out.y"),
        );
        let dw = zeros_like(w);
        let (dx, dz) = gated_norm::backward(case.get("up.y"), x, z, w, EPS, &dw).unwrap();
        for (name, found) in [("x", &dx), ("z", &dz), ("w", &dw)] {
            report.compare(
                &format!("{} d{name}", case.name),
                found,
                case.get(&format!("grad.{name}")),
            );
        }
    }
}

#[test]
fn gated_norm_matches_autograd() {
    let mut report = Report::new("gated_norm autograd", TOLERANCE);
    for (m, d) in [(1, 3), (5, 17), (67, 64)] {
        let mut random = Random::new(d as u64);
        let inputs = [
            random.tensor(&[m, d]),
            random.between(-4.0, 4.0, &[m, d]),
            random.tensor(&[d]),
        ];
        oracle::compare(
            &mut report,
            &format!("{m}x{d}"),
            &inputs,
            |inputs, upstream| {
                let [x, z, w] = inputs else { unreachable!() };
                let dw = zeros_like(w);
                let (dx, dz) = gated_norm::backward(&upstream(&[])[0], x, z, w, EPS, &dw)?;
                Ok((vec![gated_norm::forward(x, z, w, EPS)?], vec![dx, dz, dw]))
            },
            |inputs| {
                Ok(vec![
                    (normed(&inputs[0])?.broadcast_mul(&inputs[2])? * silu(&inputs[1])?)?,
                ])
            },
        );
    }
}
