//! The causal convolution.

use candle_core::{Result, Tensor};
use trestle::ops::{CuSeqlens, conv1d};

use super::golden::{Report, cases, zeros_like};
use super::oracle::{self, Random, silu};

const TOLERANCE: f64 = 3e-6;

#[test]
fn conv1d_matches_its_goldens() {
    let mut report = Report::new("conv1d goldens", TOLERANCE);
    for case in cases("conv1d") {
        let (x, w, dy, cu) = (
            case.packed("in.x"),
            case.get("in.w"),
            case.packed("up.y"),
            case.cu_seqlens(),
        );
        let dw = zeros_like(w);
        let (y, dx) = if case.settings["linear"] == true {
            (
                conv1d::linear_forward(&x, w, &cu).unwrap(),
                conv1d::linear_backward(&dy, &x, w, &cu, &dw).unwrap(),
            )
        } else {
            (
                conv1d::forward(&x, w, &cu).unwrap(),
                conv1d::backward(&dy, &x, w, &cu, &dw).unwrap(),
            )
        };
        report.compare(&format!("{} y", case.name), &y, &case.packed("out.y"));
        report.compare(&format!("{} dx", case.name), &dx, &case.packed("grad.x"));
        report.compare(&format!("{} dw", case.name), &dw, case.get("grad.w"));
    }
}

/// Each tap reads the sequence shifted by its distance, with zeros before the begin.
fn convolution(x: &Tensor, w: &Tensor, cu: &CuSeqlens) -> Result<Tensor> {
    let taps = w.dim(1)?;
    let mut sequences = Vec::new();
    for segment in cu.segments() {
        let x = x.narrow(0, segment.start, segment.len())?;
        let mut sum = x.zeros_like()?;
        for tap in 0..taps {
            let back = taps - 1 - tap;
            let kept = segment.len().saturating_sub(back);
            let zeros = Tensor::zeros((segment.len() - kept, x.dim(1)?), x.dtype(), x.device())?;
            let shifted = if kept == 0 {
                zeros
            } else {
                Tensor::cat(&[&zeros, &x.narrow(0, 0, kept)?], 0)?
            };
            sum = (sum + shifted.broadcast_mul(&w.narrow(1, tap, 1)?.squeeze(1)?)?)?;
        }
        sequences.push(sum);
    }
    Tensor::cat(&sequences, 0)
}

#[test]
fn conv1d_matches_autograd() {
    let mut report = Report::new("conv1d autograd", TOLERANCE);
    let layouts: [&[usize]; 5] = [
        &[0, 1],
        &[0, 33],
        &[0, 2, 3, 7, 40],
        &[0, 64, 129],
        &[0, 31, 63, 64],
    ];
    for boundaries in layouts {
        let cu = CuSeqlens::new(boundaries.to_vec()).unwrap();
        let mut random = Random::new(3);
        let inputs = [random.tensor(&[cu.tokens(), 19]), random.tensor(&[19, 4])];
        oracle::compare(
            &mut report,
            &format!("{boundaries:?}"),
            &inputs,
            |inputs, upstream| {
                let dw = zeros_like(&inputs[1]);
                let dx = conv1d::backward(&upstream(&[])[0], &inputs[0], &inputs[1], &cu, &dw)?;
                Ok((
                    vec![conv1d::forward(&inputs[0], &inputs[1], &cu)?],
                    vec![dx, dw],
                ))
            },
            |inputs| Ok(vec![silu(&convolution(&inputs[0], &inputs[1], &cu)?)?]),
        );
    }
}
