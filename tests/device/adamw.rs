//! AdamW: three steps on odd and long arenas, with and without the bf16 copy, then its speed.

use candle_core::{DType, Result, Tensor};
use trestle::ops::adamw::{self, AdamW, Guard, Verdict};
use trestle::ops::reduce;
use trestle::ops::transfer::Readback;

use crate::{compare, gpu, place, speed, tolerance, truth, values};

fn update(step: u64) -> AdamW {
    AdamW {
        lr: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        grad_scale: 0.37,
    }
}

#[test]
fn adamw_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for n in [1, 63, 4096, 1_000_003] {
        let (master, grad) = (values(&[n], 1)?, values(&[n], 2)?);
        let (m, v) = (master.zeros_like()?, master.zeros_like()?);
        let [gm, gg, g1, g2] = [&master, &grad, &m, &v].map(|t| place(t, &gpu, DType::F32));
        let (gmaster, ggrad, gm, gv) = (gm?, gg?, g1?, g2?);
        let weights = Tensor::zeros(n, DType::BF16, &gpu)?;
        for step in 1..=3 {
            adamw::step(&master, &grad, &m, &v, update(step))?;
            if step == 2 {
                adamw::step(&gmaster, &ggrad, &gm, &gv, update(step))?;
            } else {
                adamw::step_and_copy(&gmaster, &ggrad, &gm, &gv, &weights, update(step))?;
            }
        }
        for (name, found, reference) in [
            ("master", &gmaster, &master),
            ("m", &gm, &m),
            ("v", &gv, &v),
        ] {
            compare(
                &format!("adamw [{n}] {name}"),
                found,
                reference,
                tolerance(DType::F32),
            )?;
        }
        let rounded = gmaster.to_dtype(DType::BF16)?;
        compare(
            &format!("adamw [{n}] copy"),
            &weights,
            &rounded.to_dtype(DType::F32)?,
            0.0,
        )?;
    }
    Ok(())
}

/// The settings of the cases: update, learning rate, second decay, weight decay, clip.
#[test]
fn adamw_matches_its_goldens_under_a_guard() -> Result<()> {
    let gpu = gpu();
    let cases = truth::cases(include_bytes!("../golden/kernels/adamw.safetensors"))?;
    for (name, step, lr, beta2, weight_decay, clip) in [
        ("adamw_first", 1, 3e-4, 0.95, 0.033, 0.0),
        ("adamw_later", 737, 5e-6, 0.95, 0.033, 0.0),
        ("adamw_clipped", 5, 2e-2, 0.999, 0.0, 1.0),
    ] {
        let case = &cases[name];
        let get = |key: &str| place(&case[key], &gpu, DType::F32);
        let (master, grad, m, v) = (
            get("in.master")?,
            get("in.grad")?,
            get("in.m")?,
            get("in.v")?,
        );
        let weights = Tensor::zeros(master.shape(), DType::BF16, &gpu)?;
        let squares = Tensor::zeros(1, DType::F64, &gpu)?;
        reduce::sum_of_squares_into(&grad, &squares)?;
        let mut guard = Guard::new(&gpu)?;
        guard.judge(&[], &squares, clip)?;
        let update = AdamW {
            lr,
            beta1: 0.9,
            beta2,
            eps: 1e-8,
            weight_decay,
            step,
            grad_scale: 1.0,
        };
        adamw::step_guarded(&master, &grad, &m, &v, Some(&weights), &guard, update)?;
        for (key, found) in [("out.master", &master), ("out.m", &m), ("out.v", &v)] {
            truth::compare(&format!("{name} {key}"), found, &case[key], 5e-7)?;
        }
        let norm = guard.verdict().narrow(0, 0, 1)?;
        truth::compare(&format!("{name} norm"), &norm, &case["out.norm"], 5e-7)?;
        let weights = (
            crate::numbers(&weights)?,
            crate::numbers(&case["out.weight_bf16"])?,
        );
        let differ = weights
            .0
            .iter()
            .zip(&weights.1)
            .filter(|(found, truth)| found != truth);
        assert!(
            differ.count() <= 2,
            "{name}: more than 0.2 % of the weights differ"
        );
    }
    Ok(())
}

#[test]
fn a_guard_skips_what_is_not_finite() -> Result<()> {
    let gpu = gpu();
    let n = 1003;
    let (master, grad) = (values(&[n], 1)?, values(&[n], 2)?);
    let squares = Tensor::zeros(1, DType::F64, &gpu)?;
    reduce::sum_of_squares_into(&place(&grad, &gpu, DType::F32)?, &squares)?;
    let norm = reduce::sum_of_squares(&grad)?.sqrt();
    let infinite = Tensor::new(&[f64::INFINITY], &gpu)?;
    let mut guard = Guard::new(&gpu)?;
    // more losses than one launch looks at, a bad one at each end and a good step after a bad one
    for (count, bad, squares, clip) in [
        (3, None, &squares, 1.0),
        (19, Some(0), &squares, 1.0),
        (19, Some(18), &squares, 1.0),
        (8, None, &infinite, 1.0),
        (19, None, &squares, 0.0),
        (0, None, &squares, 1e9),
    ] {
        let losses: Vec<Tensor> = (0..count)
            .map(|i| {
                let loss = if bad == Some(i) { f64::NAN } else { i as f64 };
                Tensor::new(&[loss, f64::NAN], &gpu)
            })
            .collect::<Result<_>>()?;
        guard.judge(&losses.iter().collect::<Vec<_>>(), squares, clip)?;
        let verdict = Readback::start(guard.verdict())?;
        let [p, g] = [&master, &grad].map(|t| place(t, &gpu, DType::F32));
        let (p, g) = (p?, g?);
        let (m, v) = (p.zeros_like()?, p.zeros_like()?);
        let weights = Tensor::zeros(n, DType::BF16, &gpu)?;
        adamw::step_guarded(&p, &g, &m, &v, Some(&weights), &guard, update(1))?;
        let verdict = Verdict::of(&verdict.wait()?)?;
        let skip = bad.is_some() || count == 8;
        assert_eq!(verdict.skip, skip);
        if skip {
            compare("adamw skipped master", &p, &master, 0.0)?;
            compare("adamw skipped m", &m, &m.zeros_like()?, 0.0)?;
            compare(
                "adamw skipped weights",
                &weights,
                &weights.zeros_like()?,
                0.0,
            )?;
            continue;
        }
        let factor = if clip > 0.0 {
            (clip / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        assert!(
            (verdict.norm / norm - 1.0).abs() < 1e-12
                && (verdict.factor / factor - 1.0).abs() < 1e-12
        );
        let (p_cpu, m_cpu, v_cpu) = (master.copy()?, master.zeros_like()?, master.zeros_like()?);
        let expected = AdamW {
            grad_scale: update(1).grad_scale * factor,
            ..update(1)
        };
        adamw::step(&p_cpu, &grad, &m_cpu, &v_cpu, expected)?;
        compare("adamw guarded master", &p, &p_cpu, tolerance(DType::F32))?;
        compare("adamw guarded v", &v, &v_cpu, tolerance(DType::F32))?;
    }
    Ok(())
}

#[test]
fn adamw_speed() -> Result<()> {
    let gpu = gpu();
    let n = 1 << 28;
    let grad = place(&values(&[1 << 20], 1)?, &gpu, DType::F32)?.repeat(256)?;
    let zeros = || Tensor::zeros(n, DType::F32, &gpu);
    let (master, m, v) = (grad.copy()?, zeros()?, zeros()?);
    let weights = Tensor::zeros(n, DType::BF16, &gpu)?;
    let mut step = 0;
    speed(&gpu, "adamw with copy [2^28]", 30 * n, |_| {
        step += 1;
        adamw::step_and_copy(&master, &grad, &m, &v, &weights, update(step))
    })
}
