//! The gated delta rule: goldens, packed documents, shared key heads and hard decays against the CPU in both types, then its speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::{CuSeqlens, gated_delta};

use crate::{compare, gpu, many, place, speed, truth, values};

/// Token by token in f32, as the CPU's recurrent form: tests/golden/kernels/README.md.
const F32: f64 = 3e-6;
/// Inputs, states between chunks and tiles are rounded to bf16: the peer's bf16 bound of the same table.
const BF16: f64 = 1.5e-2;

/// Query, key and value as columns of one buffer, as the convolution leaves them.
fn views(parts: [&Tensor; 3], dtype: DType, gpu: &Device) -> Result<[Tensor; 3]> {
    let flat = parts.map(|part| place(&part.flatten_from(1)?, gpu, dtype));
    let [q, k, v] = flat;
    let joined = Tensor::cat(&[&q?, &k?, &v?], 1)?;
    let (_, key_heads, dk) = parts[0].dims3()?;
    let (_, heads, dv) = parts[2].dims3()?;
    Ok([
        gated_delta::heads(&joined, 0, key_heads, dk)?,
        gated_delta::heads(&joined, key_heads * dk, key_heads, dk)?,
        gated_delta::heads(&joined, 2 * key_heads * dk, heads, dv)?,
    ])
}

/// The packed documents of a case, or its batch.
fn cu_seqlens(settings: &serde_json::Value) -> Result<CuSeqlens> {
    let number = |value: &serde_json::Value| value.as_u64().expect("a count") as usize;
    let Some(documents) = settings["docs"].as_array() else {
        return Ok(CuSeqlens::uniform(
            number(&settings["B"]),
            number(&settings["T"]),
        ));
    };
    let mut boundaries = vec![0];
    for document in documents {
        boundaries.push(boundaries[boundaries.len() - 1] + number(document));
    }
    CuSeqlens::new(boundaries)
}

#[test]
fn the_delta_rule_matches_its_goldens() -> Result<()> {
    let gpu = gpu();
    let index: serde_json::Value =
        serde_json::from_str(include_str!("../golden/kernels/index.json")).expect("JSON");
    let files: [&[u8]; 3] = [
        include_bytes!("../golden/kernels/gdn.safetensors"),
        include_bytes!("../golden/kernels/gdn_wide.safetensors"),
        include_bytes!("../golden/kernels/gdn_long.safetensors"),
    ];
    for file in files {
        for (name, case) in truth::cases(file)? {
            // [B, T, ..] as [B T, ..]
            let packed = |key: &str| case[key].flatten(0, 1);
            let cu = cu_seqlens(&index["cases"][&name]["settings"])?;
            for (dtype, tolerance) in [(DType::F32, F32), (DType::BF16, BF16)] {
                let [q, k, v] = views(
                    [&packed("in.q")?, &packed("in.k")?, &packed("in.v")?],
                    dtype,
                    &gpu,
                )?;
                let there = |key: &str| case.get(key).map(|t| t.to_device(&gpu)).transpose();
                let (g, beta) = (packed("in.g")?, packed("in.beta")?);
                let (g, beta) = (g.to_device(&gpu)?, beta.to_device(&gpu)?);
                let state = there("in.state")?;
                let output = gated_delta::forward(&q, &k, &v, &g, &beta, &cu, state.as_ref())?;
                let up = place(&packed("up.o")?, &gpu, dtype)?;
                let grads = gated_delta::backward(&up, there("up.state")?.as_ref(), &output.saved)?;
                let mut pairs = vec![
                    ("out.o", &output.o, packed("out.o")?),
                    ("grad.q", &grads.dq, packed("grad.q")?),
                    ("grad.k", &grads.dk, packed("grad.k")?),
                    ("grad.v", &grads.dv, packed("grad.v")?),
                    ("grad.g", &grads.dg, packed("grad.g")?),
                    ("grad.beta", &grads.dbeta, packed("grad.beta")?),
                ];
                for (key, found) in [
                    ("out.state", &output.final_state),
                    ("grad.state", &grads.dstate),
                ] {
                    if let Some(state) = case.get(key) {
                        pairs.push((key, found, state.clone()));
                    }
                }
                for (key, found, want) in pairs {
                    let what = format!("{name} {} {key}", dtype.as_str());
                    truth::compare(&what, &found.contiguous()?, &want, tolerance)?;
                }
            }
        }
    }
    Ok(())
}

/// One batch that both devices get.
struct Batch {
    boundaries: Vec<usize>,
    heads: (usize, usize),
    widths: (usize, usize),
    /// Log decays are -2 to 0 times this.
    decay: f64,
    with_states: bool,
}

#[test]
fn the_delta_rule_matches_the_cpu() -> Result<()> {
    let gpu = gpu();
    let batch = |boundaries: &[usize], heads, widths, decay, with_states| Batch {
        boundaries: boundaries.to_vec(),
        heads,
        widths,
        decay,
        with_states,
    };
    let batches = [
        batch(&[0, 1], (1, 1), (128, 128), 0.1, true),
        batch(&[0, 64, 128], (2, 2), (128, 128), 0.1, false),
        batch(&[0, 1, 2, 66, 200, 263], (2, 4), (128, 128), 0.05, true),
        batch(&[0, 1000, 1500], (2, 2), (128, 128), 1e-4, true),
        batch(&[0, 300], (1, 2), (128, 128), 20.0, true),
        batch(&[0, 5, 6, 70, 101], (2, 4), (24, 40), 0.1, true),
        batch(&[0, 130], (1, 1), (128, 64), 0.1, false),
    ];
    for Batch {
        boundaries,
        heads: (key_heads, heads),
        widths: (dk, dv),
        decay,
        with_states,
    } in batches
    {
        let cu = CuSeqlens::new(boundaries.clone())?;
        let n = cu.tokens();
        let q = values(&[n, key_heads, dk], 1)?;
        let k = values(&[n, key_heads, dk], 2)?;
        let v = values(&[n, heads, dv], 3)?;
        let g = values(&[n, heads], 4)?.affine(decay / 2.0, -decay)?;
        let beta = values(&[n, heads], 5)?.affine(0.25, 0.5)?;
        let up = values(&[n, heads, dv], 6)?;
        let shape = [cu.len(), heads, dk, dv];
        let (state, up_state) = if with_states {
            (Some(values(&shape, 7)?), Some(values(&shape, 8)?))
        } else {
            (None, None)
        };
        let want = gated_delta::forward(&q, &k, &v, &g, &beta, &cu, state.as_ref())?;
        let want_grads = gated_delta::backward(&up, up_state.as_ref(), &want.saved)?;
        for dtype in [DType::F32, DType::BF16] {
            let here = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_device(&gpu)).transpose();
            let [q, k, v] = views([&q, &k, &v], dtype, &gpu)?;
            let (g, beta) = (g.to_device(&gpu)?, beta.to_device(&gpu)?);
            let output = gated_delta::forward(&q, &k, &v, &g, &beta, &cu, here(&state)?.as_ref())?;
            let up = place(&up, &gpu, dtype)?;
            let grads = gated_delta::backward(&up, here(&up_state)?.as_ref(), &output.saved)?;
            // The CPU's chunked form is itself 4e-6 off (README of the goldens).
            let tolerance = match dtype {
                DType::F32 => 2e-5,
                _ => 1e-2,
            };
            let pairs = [
                ("o", &output.o, &want.o),
                ("state", &output.final_state, &want.final_state),
                ("dq", &grads.dq, &want_grads.dq),
                ("dk", &grads.dk, &want_grads.dk),
                ("dv", &grads.dv, &want_grads.dv),
                ("dg", &grads.dg, &want_grads.dg),
                ("dbeta", &grads.dbeta, &want_grads.dbeta),
                ("dstate", &grads.dstate, &want_grads.dstate),
            ];
            for (name, found, want) in pairs {
                let what = format!(
                    "gated_delta {boundaries:?} [{dk}, {dv}] {} {name}",
                    dtype.as_str()
                );
                compare(&what, &found.contiguous()?, want, tolerance)?;
            }
            compare(
                "gated_delta joined",
                &grads.joined()?,
                &want_grads.joined()?,
                tolerance,
            )?;
        }
    }
    Ok(())
}

#[test]
fn the_delta_rule_gives_the_same_bits_twice() -> Result<()> {
    let gpu = gpu();
    let cu = CuSeqlens::new(vec![0, 100, 357, 600])?;
    let n = cu.tokens();
    let parts = [1, 2].map(|salt| values(&[n, 2, 128], salt));
    let [q, k] = parts;
    let [q, k, v] = views([&q?, &k?, &values(&[n, 4, 128], 3)?], DType::BF16, &gpu)?;
    let g = values(&[n, 4], 4)?.affine(0.05, -0.1)?.to_device(&gpu)?;
    let beta = values(&[n, 4], 5)?.affine(0.25, 0.5)?.to_device(&gpu)?;
    let up = place(&values(&[n, 4, 128], 6)?, &gpu, DType::BF16)?;
    let run = || -> Result<Vec<Vec<f32>>> {
        let output = gated_delta::forward(&q, &k, &v, &g, &beta, &cu, None)?;
        let grads = gated_delta::backward(&up, None, &output.saved)?;
        [&output.o, &grads.joined()?, &grads.dg, &grads.dbeta]
            .map(|t| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1())
            .into_iter()
            .collect()
    };
    assert!(run()? == run()?, "two runs differ");
    Ok(())
}

#[test]
fn gated_delta_speed() -> Result<()> {
    let gpu = gpu();
    let (n, heads, width) = (8192, 16, 128);
    let cu = CuSeqlens::uniform(2, n / 2);
    let mixed = many(&gpu, 3, &[n, 3 * heads * width], 1)?;
    let up = many(&gpu, 3, &[n, heads, width], 2)?;
    let g = values(&[n, heads], 4)?
        .affine(0.05, -0.1)?
        .to_device(&gpu)?;
    let beta = values(&[n, heads], 5)?.affine(0.25, 0.5)?.to_device(&gpu)?;
    let forward = |run: usize| {
        let column =
            |at: usize| gated_delta::heads(&mixed[run % 3], at * heads * width, heads, width);
        gated_delta::forward(&column(0)?, &column(1)?, &column(2)?, &g, &beta, &cu, None)
    };
    let tensor = n * heads * width * 2;
    speed(
        &gpu,
        "gated_delta forward [2 x 4096, 16, 128]",
        4 * tensor,
        |run| forward(run).map(drop),
    )?;
    let outputs = (0..3).map(forward).collect::<Result<Vec<_>>>()?;
    speed(
        &gpu,
        "gated_delta backward [2 x 4096, 16, 128]",
        7 * tensor,
        |run| gated_delta::backward(&up[run % 3], None, &outputs[run % 3].saved).map(drop),
    )
}
