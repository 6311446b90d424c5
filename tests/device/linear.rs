//! Linear layers: products on odd, real and strided shapes, from and into arenas that are aligned to nothing, then their speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::{kernel_times, linear};

use crate::{compare, gpu, place, tolerance, tolerance_of_sum, values};

/// Tokens, inputs, outputs.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (3, 63, 17),
    (128, 64, 256),
    (257, 100, 36),
    (65, 1024, 8224),
    (1, 1024, 3584),
    (300, 3584, 1024),
    (1000, 200, 33),
];

/// A product rounds its f32 sum once when it is bf16; in f32 the orders of the sums over `k` differ.
fn tolerance_of_product(dtype: DType, k: usize) -> f64 {
    match dtype {
        DType::BF16 => tolerance(dtype),
        _ => tolerance_of_sum(k),
    }
}

/// A gradient of weights is a sum over `n` tokens that is not rounded to bf16. The tensor cores, which take 16 of them at a time, cut
/// what they add to their f32 sum off instead of rounding it: up to 2^-24 of it each time, all in one direction.
fn tolerance_of_gradient(dtype: DType, n: usize) -> f64 {
    match dtype {
        DType::BF16 => tolerance_of_sum(n).max(n as f64 / 16.0 / f64::from(1u32 << 24)),
        _ => tolerance_of_sum(n),
    }
}

/// Columns `first..first + width` of a tensor on the GPU with other columns around them.
fn columns(x: &Tensor, gpu: &Device, dtype: DType, first: usize, after: usize) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let before = Tensor::full(f32::NAN, (n, first), &Device::Cpu)?;
    let behind = Tensor::full(f32::NAN, (n, after), &Device::Cpu)?;
    let joint = Tensor::cat(&[&before, x, &behind], 1)?;
    place(&joint, gpu, dtype)?.narrow(1, first, width)
}

/// `x` as a view of an arena that begins `offset` values behind its start.
fn in_arena(x: &Tensor, gpu: &Device, dtype: DType, offset: usize) -> Result<Tensor> {
    let flat = x.flatten_all()?;
    let arena = Tensor::cat(&[&flat.narrow(0, 0, 1)?.repeat(offset)?, &flat], 0)?;
    place(&arena, gpu, dtype)?
        .narrow(0, offset, x.elem_count())?
        .reshape(x.shape())
}

#[test]
fn products_match_their_references() -> Result<()> {
    let gpu = gpu();
    for (n, i, o) in SHAPES {
        let (x, w, dy) = (
            values(&[n, i], 1)?,
            values(&[o, i], 2)?,
            values(&[n, o], 3)?,
        );
        let (residual, other) = (values(&[n, o], 4)?, values(&[n, i], 5)?);
        let y = linear::forward(&x, &w)?;
        let y_add = linear::forward_add(&x, &w, &residual)?;
        let dx = linear::backward_input(&dy, &w)?;
        let dx_add = linear::backward_input_add(&dy, &w, &other)?;
        let dw = values(&[o, i], 6)?;
        let dw_before = dw.copy()?;
        linear::backward_weight(&dy, &x, &dw)?;
        for dtype in [DType::F32, DType::BF16] {
            for (form, apart) in [("packed", 0), ("apart", 1), ("apart by vectors", 8)] {
                let (gx, gdy, gother) = match apart {
                    0 => (
                        place(&x, &gpu, dtype)?,
                        place(&dy, &gpu, dtype)?,
                        place(&other, &gpu, dtype)?,
                    ),
                    _ => (
                        columns(&x, &gpu, dtype, apart, 2 * apart)?,
                        columns(&dy, &gpu, dtype, 0, apart)?,
                        columns(&other, &gpu, dtype, apart, 0)?,
                    ),
                };
                let gresidual = place(&residual, &gpu, dtype)?;
                let gw = in_arena(&w, &gpu, dtype, apart)?;
                let gdw = in_arena(&dw_before, &gpu, DType::F32, apart)?;
                let what =
                    |name| format!("linear [{n}, {i}, {o}] {} {form} {name}", dtype.as_str());
                let (to_y, to_dx) = (
                    tolerance_of_product(dtype, i),
                    tolerance_of_product(dtype, o),
                );
                compare(&what("y"), &linear::forward(&gx, &gw)?, &y, to_y)?;
                let found = linear::forward_add(&gx, &gw, &gresidual)?;
                compare(&what("y + residual"), &found, &y_add, to_y)?;
                compare(&what("dx"), &linear::backward_input(&gdy, &gw)?, &dx, to_dx)?;
                let found = linear::backward_input_add(&gdy, &gw, &gother)?;
                compare(&what("dx + other"), &found, &dx_add, to_dx)?;
                linear::backward_input_into(&gdy, &gw, &gother)?;
                compare(&what("dx into"), &gother, &dx_add, to_dx)?;
                linear::backward_weight(&gdy, &gx, &gdw)?;
                compare(&what("dw"), &gdw, &dw, tolerance_of_gradient(dtype, n))?;
            }
        }
    }
    Ok(())
}

/// The shapes of a layer at 8192 tokens against the same products in f32; and every product twice.
#[test]
fn large_products_match_f32_and_give_equal_bits_twice() -> Result<()> {
    let gpu = gpu();
    for (n, i, o) in [(8192, 1024, 8224), (8192, 3584, 1024), (8192, 2048, 1024)] {
        let bf16 = |shape, salt| -> Result<Tensor> { Ok(large(&gpu, 1, shape, salt)?.remove(0)) };
        let (x, w, dy) = (bf16((n, i), 1)?, bf16((o, i), 2)?, bf16((n, o), 3)?);
        let [x32, w32, dy32] = [&x, &w, &dy].map(|t| t.to_dtype(DType::F32));
        let (x32, w32, dy32) = (x32?, w32?, dy32?);
        let dw32 = Tensor::ones((o, i), DType::F32, &gpu)?;
        linear::backward_weight(&dy32, &x32, &dw32)?;
        let run = || -> Result<_> {
            let dw = Tensor::ones((o, i), DType::F32, &gpu)?;
            linear::backward_weight(&dy, &x, &dw)?;
            Ok([
                linear::forward(&x, &w)?,
                linear::backward_input(&dy, &w)?,
                dw,
            ])
        };
        let found = run()?;
        let reference = [
            linear::forward(&x32, &w32)?,
            linear::backward_input(&dy32, &w32)?,
            dw32,
        ];
        let again = run()?;
        for (index, name) in ["y", "dx", "dw"].into_iter().enumerate() {
            let what = format!("linear [{n}, {i}, {o}] {name}");
            let limit = if index == 2 {
                tolerance_of_gradient(DType::BF16, n)
            } else {
                tolerance(DType::BF16)
            };
            // the last rows, since the host takes its time
            let rows = found[index].dim(0)?.min(200);
            let last = |t: &Tensor| t.narrow(0, t.dim(0)? - rows, rows);
            compare(
                &what,
                &last(&found[index])?,
                &last(&reference[index])?,
                limit,
            )?;
            let differ = found[index].ne(&again[index])?.to_dtype(DType::F32)?;
            assert_eq!(differ.sum_all()?.to_scalar::<f32>()?, 0.0, "{what} again");
        }
    }
    Ok(())
}

#[test]
fn mismatched_operands_are_refused() -> Result<()> {
    let gpu = gpu();
    let x = place(&values(&[4, 8], 1)?, &gpu, DType::BF16)?;
    let w = place(&values(&[6, 8], 2)?, &gpu, DType::F32)?;
    assert!(linear::forward(&x, &w).is_err());
    assert!(linear::forward(&x, &values(&[6, 8], 2)?).is_err());
    assert!(linear::forward(&x.narrow(1, 0, 7)?, &w).is_err());
    let dw = Tensor::zeros((4, 8), DType::BF16, &gpu)?;
    let empty = Tensor::zeros((0, 8), DType::BF16, &gpu)?;
    linear::backward_weight(&empty.narrow(1, 0, 4)?, &empty, &dw)?; // no tokens, no gradient
    assert_eq!(
        linear::forward(&empty, &w.to_dtype(DType::BF16)?)?.dims(),
        [0, 6]
    );
    Ok(())
}

/// `count` large bf16 matrices on the GPU: a block of values again and again, each time scaled otherwise.
fn large(gpu: &Device, count: usize, shape: (usize, usize), salt: u64) -> Result<Vec<Tensor>> {
    const BLOCK: usize = 1 << 20;
    let block = place(&values(&[BLOCK], salt)?, gpu, DType::BF16)?;
    let elements = shape.0 * shape.1;
    (0..count)
        .map(|index| {
            let scaled = block.affine(1.0 - index as f64 / 64.0, 0.0)?;
            let all = scaled.repeat(elements.div_ceil(BLOCK))?;
            all.narrow(0, 0, elements)?.reshape(shape)
        })
        .collect()
}

/// Median of 15 after a warm-up.
fn rate(
    gpu: &Device,
    what: &str,
    flops: usize,
    mut work: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    for run in 0..3 {
        work(run)?;
    }
    let mut seconds = Vec::new();
    for run in 0..15 {
        let ((), times) = kernel_times(gpu, || work(run))?;
        seconds.push(times.iter().map(|time| time.seconds).sum::<f64>());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[7];
    let rate = flops as f64 / median;
    println!(
        "speed {what}: {:.1} us, {:.0} TFLOP/s",
        median * 1e6,
        rate / 1e12
    );
    assert!(rate < 1e15, "{what}: faster than the tensor cores are");
    Ok(())
}

#[test]
fn linear_speed() -> Result<()> {
    let gpu = gpu();
    let n = 8192;
    for (i, o) in [
        (1024, 8224),
        (1024, 7168),
        (3584, 1024),
        (2048, 1024),
        (1024, 5120),
        (2048, 12_288),
        (6144, 2048),
    ] {
        let (x, dy) = (large(&gpu, 3, (n, i), 1)?, large(&gpu, 3, (n, o), 2)?);
        let w = large(&gpu, 3, (o, i), 3)?;
        let dw = Tensor::zeros((o, i), DType::F32, &gpu)?;
        let residual = &dy[0];
        let what = |name| format!("linear {i} -> {o} {name}");
        let flops = 2 * n * i * o;
        rate(&gpu, &what("forward"), flops, |run| {
            linear::forward(&x[run % 3], &w[run % 3]).map(drop)
        })?;
        rate(&gpu, &what("forward_add"), flops, |run| {
            linear::forward_add(&x[run % 3], &w[run % 3], residual).map(drop)
        })?;
        rate(&gpu, &what("backward_input"), flops, |run| {
            linear::backward_input(&dy[run % 3], &w[run % 3]).map(drop)
        })?;
        rate(&gpu, &what("backward_weight"), flops, |run| {
            linear::backward_weight(&dy[run % 3], &x[run % 3], &dw)
        })?;
    }
    let (vocabulary, hidden) = (248_320, 1024);
    let w = large(&gpu, 1, (vocabulary, hidden), 1)?;
    let dw = Tensor::zeros((vocabulary, hidden), DType::F32, &gpu)?;
    for chunk in [1024, 2048, 4096] {
        let x = large(&gpu, 1, (chunk, hidden), 2)?;
        let flops = 2 * chunk * vocabulary * hidden;
        let what = |name| format!("linear head {chunk} x {hidden} -> {vocabulary} {name}");
        let logits = linear::forward(&x[0], &w[0])?;
        rate(&gpu, &what("forward"), flops, |_| {
            linear::forward(&x[0], &w[0]).map(drop)
        })?;
        rate(&gpu, &what("backward_input"), flops, |_| {
            linear::backward_input(&logits, &w[0]).map(drop)
        })?;
        rate(&gpu, &what("backward_weight"), flops, |_| {
            linear::backward_weight(&logits, &x[0], &dw)
        })?;
    }
    Ok(())
}
