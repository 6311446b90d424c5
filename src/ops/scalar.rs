//! Functions of one number, written so that loops over them vectorise.

#![expect(
    clippy::inline_always,
    reason = "they must become part of loops that are compiled for wider instructions"
)]

const LN2_HIGH: f32 = 355.0 / 512.0; // its products with small integers are exact
const LN2_LOW: f32 = -2.121_944_4e-4; // ln 2 - LN2_HIGH
const ROUNDER: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, which then sits in the low bits
const LOWEST: f32 = -87.33; // below, the result would be denormal
const HIGHEST: f32 = 88.37; // above, the exponent would overflow

/// `e^x` within 2 ulp; 0 below -87.33, held at `e^88.37` above, NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` by its Taylor series to the 7th power (remainder below 6e-9), `2^n` by the exponent bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let clamped = if x < LOWEST { LOWEST } else { x };
    let clamped = if clamped > HIGHEST { HIGHEST } else { clamped };
    let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = rounded - ROUNDER;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let p = r.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    let p = p.mul_add(r, 1.0 / 120.0);
    let p = p.mul_add(r, 1.0 / 24.0);
    let p = p.mul_add(r, 1.0 / 6.0);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    let power = f32::from_bits(
        rounded
            .to_bits()
            .wrapping_sub(ROUNDER.to_bits())
            .wrapping_add(127)
            << 23,
    );
    if x < LOWEST { 0.0 } else { p * power }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x sigmoid(x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// The derivative of [`silu`]: `s (1 + x (1 - s))`, `s = sigmoid(x)`.
#[inline(always)]
pub(super) fn silu_derivative(x: f32) -> f32 {
    let s = sigmoid(x);
    s * x.mul_add(1.0 - s, 1.0)
}

/// `ln(1 + e^x)` without overflow.
#[inline(always)]
pub(super) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `y = factor y`.
#[inline(always)]
pub(super) fn multiply(y: &mut [f32], factor: f32) {
    for y in y {
        *y *= factor;
    }
}

/// Sums in 16 lanes, which is both faster and more exact than one running sum.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (mut a_chunks, mut b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a_chunks).zip(&mut b_chunks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .enumerate()
    {
        lanes[lane] = a.mul_add(*b, lanes[lane]);
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        let mut worst = 0f64;
        for step in -870_000..883_000 {
            let x = step as f32 * 1e-4;
            let truth = f64::from(x).exp();
            let ulp = f64::from(f32::EPSILON) * 2f64.powi(truth.log2().floor() as i32);
            worst = worst.max((f64::from(exp(x)) - truth).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst} ulp");
    }

    #[test]
    fn exp_keeps_its_edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-100.0), 0.0);
        assert!(exp(1000.0).is_finite());
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(sigmoid(-200.0).max(1e-30), 1e-30);
        assert_eq!(sigmoid(200.0), 1.0);
    }

    #[test]
    fn softplus_is_smooth_and_bounded() {
        assert_eq!(softplus(100.0), 100.0);
        assert!((softplus(0.0) - 2f32.ln()).abs() < 1e-7);
        assert!(softplus(-50.0) > 0.0);
    }
}
