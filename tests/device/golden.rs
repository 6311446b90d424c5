//! Kernels against the goldens of `tests/golden/kernels`, whose values come from the peer's own code in f64.

use std::collections::HashMap;

use candle_core::safetensors::load_buffer;
use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::{CuSeqlens, conv1d, gated_norm, gdn_gates, rms_norm, silu_mul};

use crate::{compare, gpu, place, tolerance};

/// The tensors of one golden file.
struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn open(bytes: &[u8]) -> Result<Self> {
        Ok(Self(load_buffer(bytes, &Device::Cpu)?))
    }

    /// A tensor of `case`, batch and time as one dimension.
    fn get(&self, case: &str, name: &str) -> Result<Tensor> {
        let tensor = &self.0[&format!("{case}/{name}")];
        match tensor.dims() {
            [b, t, c] => tensor.reshape((b * t, *c)),
            _ => Ok(tensor.clone()),
        }
    }
}

/// Cases whose inputs are exact in bf16 run in both types, the others in f32.
fn types(case: &str) -> &'static [DType] {
    if case.ends_with("_f32") {
        &[DType::F32]
    } else {
        &[DType::F32, DType::BF16]
    }
}

#[test]
fn conv1d_matches_its_goldens() -> Result<()> {
    let gpu = gpu();
    let golden = Golden::open(include_bytes!("../golden/kernels/conv1d.safetensors"))?;
    for (case, cu) in [
        ("conv_t1", CuSeqlens::uniform(2, 1)),
        ("conv_t3", CuSeqlens::uniform(2, 3)),
        ("conv_t65", CuSeqlens::uniform(2, 65)),
        ("conv_t65_f32", CuSeqlens::uniform(1, 65)),
        ("conv_packed", CuSeqlens::new(vec![0, 2, 3, 33, 40])?),
    ] {
        for dtype in types(case) {
            let get = |name| place(&golden.get(case, name)?, &gpu, *dtype);
            let (x, w, dy) = (get("in.x")?, get("in.w")?, get("up.y")?);
            let dw = Tensor::zeros(w.shape(), DType::F32, &gpu)?;
            let y = conv1d::forward(&x, &w, &cu)?;
            let dx = conv1d::backward(&dy, &x, &w, &cu, &dw)?;
            for (name, found) in [("out.y", &y), ("grad.x", &dx)] {
                let what = format!("golden {case} {} {name}", dtype.as_str());
                compare(&what, found, &golden.get(case, name)?, tolerance(*dtype))?;
            }
            let what = format!("golden {case} {} grad.w", dtype.as_str());
            compare(
                &what,
                &dw,
                &golden.get(case, "grad.w")?,
                tolerance(DType::F32),
            )?;
        }
    }
    Ok(())
}

#[test]
fn norms_match_their_goldens() -> Result<()> {
    let gpu = gpu();
    let golden = Golden::open(include_bytes!("../golden/kernels/norm.safetensors"))?;
    for case in ["norm_256", "norm_1024", "norm_tiny_f32", "norm_large"] {
        for dtype in types(case) {
            let get = |name| place(&golden.get(case, name)?, &gpu, *dtype);
            let (x, w, dy) = (get("in.x")?, get("in.w")?, get("up.y")?);
            let dw = Tensor::zeros(w.shape(), DType::F32, &gpu)?;
            let y = rms_norm::forward(&x, &w, 1e-6)?;
            let dx = rms_norm::backward(&dy, &x, &w, 1e-6, &dw)?;
            for (name, found) in [("out.y", &y), ("grad.x", &dx), ("grad.w", &dw)] {
                let what = format!("golden {case} {} {name}", dtype.as_str());
                compare(&what, found, &golden.get(case, name)?, tolerance(*dtype))?;
            }
        }
    }
    let golden = Golden::open(include_bytes!("../golden/kernels/gated_norm.safetensors"))?;
    for case in [
        "gated_norm_128",
        "gated_norm_128_w32",
        "gated_norm_tiny_f32",
    ] {
        for dtype in types(case) {
            let get = |name| place(&golden.get(case, name)?, &gpu, *dtype);
            let (x, z, dy) = (get("in.x")?, get("in.z")?, get("up.y")?);
            let gain = if case.ends_with("w32") {
                DType::F32
            } else {
                *dtype
            };
            let w = place(&golden.get(case, "in.w")?, &gpu, gain)?;
            let dw = Tensor::zeros(w.shape(), DType::F32, &gpu)?;
            let y = gated_norm::forward(&x, &z, &w, 1e-6)?;
            let dz = Tensor::zeros(z.shape(), *dtype, &gpu)?;
            let (dx, again) = gated_norm::backward_into(&dy, &x, &z, &w, 1e-6, &dw, &dz)?;
            for (name, found) in [
                ("out.y", &y),
                ("out.y", &again),
                ("grad.x", &dx),
                ("grad.z", &dz),
                ("grad.w", &dw),
            ] {
                let what = format!("golden {case} {} {name}", dtype.as_str());
                compare(&what, found, &golden.get(case, name)?, tolerance(*dtype))?;
            }
        }
    }
    Ok(())
}

#[test]
fn gates_match_their_goldens() -> Result<()> {
    let gpu = gpu();
    let golden = Golden::open(include_bytes!("../golden/kernels/gdn_gates.safetensors"))?;
    for dtype in [DType::F32, DType::BF16] {
        let get = |name, dtype| place(&golden.get("gates", name)?, &gpu, dtype);
        let (a, b) = (get("in.a", dtype)?, get("in.b", dtype)?);
        let (a_log, dt) = (get("in.A_log", DType::F32)?, get("in.dt_bias", DType::F32)?);
        let (dg, dbeta) = (get("up.g", DType::F32)?, get("up.beta", DType::F32)?);
        let (da_log, ddt) = (a_log.zeros_like()?, dt.zeros_like()?);
        let (g, beta) = gdn_gates::forward(&a, &b, &a_log, &dt)?;
        let (da, db) = gdn_gates::backward(&dg, &dbeta, &a, &b, &a_log, &dt, &da_log, &ddt)?;
        for (name, found, dtype) in [
            ("out.g", &g, DType::F32),
            ("out.beta", &beta, DType::F32),
            ("grad.a", &da, dtype),
            ("grad.b", &db, dtype),
            ("grad.A_log", &da_log, DType::F32),
            ("grad.dt_bias", &ddt, DType::F32),
        ] {
            let what = format!("golden gates {} {name}", dtype.as_str());
            compare(&what, found, &golden.get("gates", name)?, tolerance(dtype))?;
        }
    }
    let golden = Golden::open(include_bytes!("../golden/kernels/silu_mul.safetensors"))?;
    for case in ["silu_mul", "silu_mul_large"] {
        for dtype in [DType::F32, DType::BF16] {
            let joined = |g, u| -> Result<Tensor> {
                Tensor::cat(&[golden.get(case, g)?, golden.get(case, u)?], 1)
            };
            let gate_up = place(&joined("in.g", "in.u")?, &gpu, dtype)?;
            let dy = place(&golden.get(case, "up.y")?, &gpu, dtype)?;
            let y = silu_mul::joined_forward(&gate_up)?;
            let (d_gate_up, again) = silu_mul::joined_backward(&dy, &gate_up)?;
            let truth = golden.get(case, "out.y")?;
            let what = |name| format!("golden {case} {} {name}", dtype.as_str());
            compare(&what("y"), &y, &truth, tolerance(dtype))?;
            compare(&what("y again"), &again, &truth, tolerance(dtype))?;
            let truth = joined("grad.g", "grad.u")?;
            compare(&what("d_gate_up"), &d_gate_up, &truth, tolerance(dtype))?;
        }
    }
    Ok(())
}
