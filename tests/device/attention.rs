//! Attention: goldens, outputs and gradients over odd and packed documents with values among the columns of a joint buffer, equal bits,
//! speed.

use candle_core::{DType, Device, Result, Tensor, safetensors};
use serde_json::Value;
use trestle::ops::{CuSeqlens, attention, kernel_times, sigmoid_gate};

use crate::{compare, gpu, numbers, place, tolerance, values};

const INDEX: &str = include_str!("../golden/kernels/index.json");
const GOLDENS: [&[u8]; 2] = [
    include_bytes!("../golden/kernels/attention.safetensors"),
    include_bytes!("../golden/kernels/attention_256.safetensors"),
];

/// `[B, heads, T, ..]` as `[B T, heads, ..]`.
fn packed(tensor: &Tensor) -> Result<Tensor> {
    tensor.transpose(1, 2)?.contiguous()?.flatten(0, 1)
}

/// Largest difference over the largest value; against a truth that is 0 everywhere, the largest difference.
fn worst(what: &str, found: &Tensor, truth: &Tensor, allowed: f64) -> Result<()> {
    let (found, truth) = (numbers(found)?, numbers(truth)?);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |a: f64, b| a.max(b.abs()));
    let size = most(&mut truth.iter().copied());
    let difference = most(&mut found.iter().zip(&truth).map(|(f, t)| f - t));
    let error = if size == 0.0 {
        difference
    } else {
        difference / size
    };
    println!("error {what}: {error:.2e} of {allowed:.1e}");
    let finite = found.iter().all(|value| value.is_finite());
    assert!(
        finite && error <= allowed,
        "{what}: {error:e} above {allowed:e}"
    );
    Ok(())
}

#[test]
fn attention_matches_its_goldens() -> Result<()> {
    let gpu = gpu();
    let index: Value = serde_json::from_str(INDEX).expect("the index of the goldens is JSON");
    for golden in GOLDENS {
        let tensors = safetensors::load_buffer(golden, &Device::Cpu)?;
        let names = tensors.keys().filter_map(|key| key.strip_suffix("/in.q"));
        for name in names {
            let case = |key: &str| tensors[&format!("{name}/{key}")].clone();
            let settings = &index["cases"][name]["settings"];
            let [q, k, v] = ["in.q", "in.k", "in.v"].map(|key| packed(&case(key)));
            let (q, k, v) = (q?, k?, v?);
            let (_, _, d) = q.dims3()?;
            let cu = match settings["docs"].as_array() {
                None => CuSeqlens::uniform(case("in.q").dim(0)?, case("in.q").dim(2)?),
                Some(docs) => {
                    let lengths = docs.iter().filter_map(Value::as_u64).map(|n| n as usize);
                    let ends = lengths.scan(0, |end, length| {
                        *end += length;
                        Some(*end)
                    });
                    CuSeqlens::new([0].into_iter().chain(ends).collect())?
                }
            };
            let flat = |key: &str| case(key).reshape(q.shape());
            let truth_o = flat("out.o")?;
            let (d_o, _) = sigmoid_gate::backward(&flat("up.y")?, &truth_o, &flat("in.gate")?)?;
            let sharp = name == "attn_sharp";
            let mut forms = vec![(DType::F32, if sharp { 1e-5 } else { 5e-6 })];
            if settings["grid"].as_str() != Some("f32") {
                forms.push((DType::BF16, if sharp { 8e-2 } else { 2.5e-2 }));
            }
            for (dtype, allowed) in forms {
                let place = |t: &Tensor| place(t, &gpu, dtype);
                let (gq, gk, gv, gdo) = (place(&q)?, place(&k)?, place(&v)?, place(&d_o)?);
                let scale = (d as f32).powf(-0.5);
                let (o, lse) = attention::forward(&gq, &gk, &gv, &cu, scale)?;
                let (dq, dk, dv) = attention::backward(&gdo, &gq, &gk, &gv, &o, &lse, &cu, scale)?;
                let what = |part| format!("{name} {} {part}", dtype.as_str());
                worst(&what("o"), &o, &truth_o, allowed)?;
                worst(&what("lse"), &lse, &packed(&case("out.lse"))?, allowed)?;
                worst(&what("dq"), &dq, &packed(&case("grad.q"))?, allowed)?;
                worst(&what("dk"), &dk, &packed(&case("grad.k"))?, allowed)?;
                worst(&what("dv"), &dv, &packed(&case("grad.v"))?, allowed)?;
            }
        }
    }
    Ok(())
}

/// Lengths of the documents, heads, key-value heads, head dim. The last ones meet both sides of every edge of the blocks of Hopper's
/// kernels, which have 64 and 128 rows.
const SHAPES: [(&[usize], usize, usize, usize); 8] = [
    (&[1], 1, 1, 1),
    (&[1, 33, 70], 6, 2, 24),
    (&[31, 97], 4, 1, 64),
    (&[100], 2, 2, 200),
    (&[1], 1, 1, 256),
    (&[64, 1, 65, 63, 127, 7], 8, 2, 256),
    (&[129, 128, 191], 4, 4, 256),
    (&[700], 4, 1, 256),
];

#[test]
fn attention_matches_its_reference() -> Result<()> {
    let gpu = gpu();
    for (lengths, heads, kv_heads, d) in SHAPES {
        let n: usize = lengths.iter().sum();
        let ends = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let cu = CuSeqlens::new([0].into_iter().chain(ends).collect())?;
        let scale = (d as f32).powf(-0.5);
        let (q, d_o) = (values(&[n, heads, d], 1)?, values(&[n, heads, d], 2)?);
        let k = values(&[n, kv_heads, d], 3)?;
        // the values are heads of a joint buffer, and so are their gradients
        let joint = values(&[n, kv_heads + 3, d], 4)?;
        let view = |joint: &Tensor| joint.narrow(1, 2, kv_heads);
        let v = view(&joint)?.contiguous()?;
        let (o, lse) = attention::forward(&q, &k, &v, &cu, scale)?;
        let (dq, dk, dv) = attention::backward(&d_o, &q, &k, &v, &o, &lse, &cu, scale)?;
        for dtype in [DType::F32, DType::BF16] {
            let place = |t: &Tensor| place(t, &gpu, dtype);
            let (gq, gk, gdo, gjoint) = (place(&q)?, place(&k)?, place(&d_o)?, place(&joint)?);
            let gv = view(&gjoint)?;
            let (go, glse) = attention::forward(&gq, &gk, &gv, &cu, scale)?;
            let gd_joint = Tensor::ones((n, kv_heads + 3, d), dtype, &gpu)?;
            let gdv = view(&gd_joint)?;
            let (gdq, gdk) =
                attention::backward_into(&gdo, &gq, &gk, &gv, &go, &glse, &cu, scale, &gdv)?;
            let what = |part| {
                format!(
                    "attention {lengths:?} {heads}/{kv_heads} {d} {} {part}",
                    dtype.as_str()
                )
            };
            compare(&what("o"), &go, &o, tolerance(dtype))?;
            compare(&what("lse"), &glse, &lse, tolerance(DType::F32))?;
            let gd_joint = gd_joint.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            compare(
                &what("dv"),
                &view(&gd_joint)?.contiguous()?,
                &dv,
                tolerance(dtype),
            )?;
            for (start, heads) in [(0, 2), (2 + kv_heads, 1)] {
                let around = gd_joint.narrow(1, start, heads)?.contiguous()?;
                compare(&what("around dv"), &around, &around.ones_like()?, 0.0)?;
            }
            // one key: a softmax of one number has no gradient, so dq and dk are rounding around zero
            if n > 1 {
                compare(&what("dq"), &gdq, &dq, tolerance(dtype))?;
                compare(&what("dk"), &gdk, &dk, tolerance(dtype))?;
            }
        }
    }
    Ok(())
}

#[test]
fn attention_gives_equal_bits_twice() -> Result<()> {
    let gpu = gpu();
    let cu = CuSeqlens::new(vec![0, 1000, 1001, 3000])?;
    let make = |heads: usize, salt| place(&values(&[3000, heads, 256], salt)?, &gpu, DType::BF16);
    let (q, k, v, d_o) = (make(8, 1)?, make(2, 2)?, make(2, 3)?, make(8, 4)?);
    let run = || -> Result<Vec<f64>> {
        let (o, lse) = attention::forward(&q, &k, &v, &cu, 0.0625)?;
        let (dq, dk, dv) = attention::backward(&d_o, &q, &k, &v, &o, &lse, &cu, 0.0625)?;
        let mut all = Vec::new();
        for tensor in [o, lse, dq, dk, dv] {
            all.extend(numbers(&tensor)?);
        }
        Ok(all)
    };
    assert_eq!(run()?, run()?);
    Ok(())
}

#[test]
fn attention_speed() -> Result<()> {
    let gpu = gpu();
    for (batch, sequence, heads, kv_heads) in [(2, 4096, 8, 2), (1, 32_768, 8, 2), (2, 4096, 16, 4)]
    {
        let n = batch * sequence;
        let cu = CuSeqlens::uniform(batch, sequence);
        let make =
            |heads: usize| Tensor::randn(0f32, 1.0, (n, heads, 256), &gpu)?.to_dtype(DType::BF16);
        let (q, k, v, d_o) = (make(heads)?, make(kv_heads)?, make(kv_heads)?, make(heads)?);
        let (o, lse) = attention::forward(&q, &k, &v, &cu, 0.0625)?;
        // a product of the scores' size, which a forward has two of and a backward needs five
        let product = (n * sequence * heads * 256) as f64;
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..9 {
            let (_, forward) = kernel_times(&gpu, || attention::forward(&q, &k, &v, &cu, 0.0625))?;
            let (_, backward) = kernel_times(&gpu, || {
                attention::backward(&d_o, &q, &k, &v, &o, &lse, &cu, 0.0625)
            })?;
            for (times, kernels) in times.iter_mut().zip([forward, backward]) {
                times.push(kernels.iter().map(|kernel| kernel.seconds).sum::<f64>());
            }
        }
        for ((times, what), products) in times
            .iter_mut()
            .zip(["forward", "backward"])
            .zip([2.0, 5.0])
        {
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            println!(
                "speed attention {what} {batch} x {sequence}, {heads} over {kv_heads} heads: {:.3} ms, {:.0} TFLOP/s",
                median * 1e3,
                products * product / median / 1e12
            );
        }
    }
    Ok(())
}
