//! Launches of `kernels/adamw.cu`.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor, bail};

use super::AdamW;
use crate::ops::cuda::Argument::{Absent, Double, Float, Int, Typed, Values};
use crate::ops::cuda::{each, grid, launch};

/// Losses that one launch looks at.
const LOSSES: usize = 8;

pub(super) fn step(
    master: &Tensor,
    grad: &Tensor,
    m: &Tensor,
    v: &Tensor,
    weights: Option<&Tensor>,
    verdict: Option<&Tensor>,
    update: AdamW,
) -> Result<()> {
    if master.dtype() != DType::F32 {
        bail!(
            "adamw: master weights are f32, found {}",
            master.dtype().as_str()
        );
    }
    let AdamW {
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        step,
        grad_scale,
    } = update;
    let step_size = lr / (1.0 - beta1.powf(step as f64));
    let inverse_root = 1.0 / (1.0 - beta2.powf(step as f64)).sqrt();
    let float = |value: f64| Float(value as f32);
    let n = master.elem_count();
    launch(
        "adamw",
        "adamw_step",
        master,
        each(master, n),
        &[
            Values(master),
            Values(grad),
            Values(m),
            Values(v),
            weights.map_or(Absent, |weights| Typed(DType::BF16, weights)),
            Int(n),
            float(1.0 - lr * weight_decay),
            float(step_size),
            float(inverse_root),
            float(beta1),
            float(1.0 - beta1),
            float(beta2),
            float(1.0 - beta2),
            float(eps),
            verdict.map_or(Absent, |verdict| Typed(DType::F64, verdict)),
            Double(grad_scale),
        ],
    )
}

pub(super) fn judge(verdict: &Tensor, sums: &[&Tensor], squares: &Tensor, clip: f64) -> Result<()> {
    let launches = sums.len().div_ceil(LOSSES).max(1);
    for index in 0..launches {
        let losses = &sums[index * LOSSES..sums.len().min((index + 1) * LOSSES)];
        let last = index + 1 == launches;
        let mut arguments = vec![
            Values(verdict),
            if last { Values(squares) } else { Absent },
            Double(clip),
            Int(usize::from(index == 0)),
            Int(losses.len()),
        ];
        arguments.extend(losses.iter().map(|loss| Values(loss)));
        arguments.extend((losses.len()..LOSSES).map(|_| Absent));
        launch("adamw", "adamw_judge", verdict, one_thread(), &arguments)?;
    }
    Ok(())
}

fn one_thread() -> LaunchConfig {
    LaunchConfig {
        block_dim: (1, 1, 1),
        ..grid(1, 0)
    }
}
