//! AdamW: three steps on odd and long arenas, with and without the bf16 copy, then its speed.

use candle_core::{DType, Result, Tensor};
use trestle::ops::adamw::{self, AdamW};

use crate::{compare, gpu, place, speed, tolerance, values};

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
