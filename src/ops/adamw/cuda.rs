//! The launch of `kernels/adamw.cu`.

use candle_core::{DType, Result, Tensor, bail};

use super::AdamW;
use crate::ops::cuda::Argument::{Absent, Float, Int, Typed, Values};
use crate::ops::cuda::{each, launch};

pub(super) fn step(
    master: &Tensor,
    grad: &Tensor,
    m: &Tensor,
    v: &Tensor,
    weights: Option<&Tensor>,
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
            float(grad_scale),
        ],
    )
}
