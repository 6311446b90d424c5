//! Embedding, vocabulary head with its loss, and what goes over whole arenas.

use candle_core::Result;
#[cfg(feature = "cuda")]
use candle_core::Tensor;

use super::{Bench, Work};
use crate::ops::{self, adamw, cross_entropy, embedding, reduce};
use crate::spec::parameters;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    vocabulary(bench)?;
    arenas(bench)
}

fn vocabulary(bench: &mut Bench) -> Result<()> {
    if !bench.wants("embedding") && !bench.wants("cross_entropy") {
        return Ok(());
    }
    let (n, a) = (bench.sizes.tokens(), bench.size());
    let (v, h) = (
        bench.sizes.config.vocab_size,
        bench.sizes.config.hidden_size,
    );
    let ids: Vec<u32> = (0..n)
        .map(|index| ((index as u64 * 2_654_435_761) % v as u64) as u32)
        .collect();
    let (w, x) = (bench.random(&[v, h])?, bench.random(&[n, h])?);
    let dw = bench.zeros_f32(&[v, h])?;
    if bench.wants("embedding") {
        let shape = format!("{n} of {v} x {h}");
        let work = Work::bytes(2 * a * n * h);
        bench.measure("embedding", "forward", &shape, work, || {
            embedding::forward(&ids, &w)
        });
        let work = Work::bytes(n * h * (a + 8));
        bench.measure("embedding", "backward", &shape, work, || {
            embedding::backward(&x, &ids, &dw)
        });
    }
    if bench.wants("cross_entropy") {
        let weights = vec![1.0; n];
        let chunk = bench.sizes.loss_chunk;
        let shape = format!("{n} x {h}, vocabulary {v}, chunk {chunk}");
        let chunks = n.div_ceil(chunk.max(1));
        let flops = 2.0 * n as f64 * h as f64 * v as f64;
        // Logits are written once and read once, in every chunk all of the matrix is read.
        let bytes = 2 * a * n * v + chunks * a * v * h;
        let work = Work::flops(flops, bytes);
        bench.measure("cross_entropy", "forward", &shape, work, || {
            cross_entropy::forward(&x, &w, &ids, &weights, chunk)
        });
        // Gradients take the logits' place and are read by two products; the matrix's gradient is added to in every chunk.
        let bytes = 5 * a * n * v + chunks * v * h * (2 * a + 8);
        let work = Work::flops(3.0 * flops, bytes);
        bench.measure("cross_entropy", "forward_backward", &shape, work, || {
            cross_entropy::forward_backward(&x, &w, &ids, &weights, 1e-4, chunk, &dw)
        });
    }
    Ok(())
}

fn arenas(bench: &mut Bench) -> Result<()> {
    if !bench.wants("adamw") && !bench.wants("reduce") && !bench.wants("arithmetic") {
        return Ok(());
    }
    let count = parameters(&bench.sizes.config).total as usize;
    let shape = format!("{count} parameters");
    let grad = bench.random_f32(&[count])?;
    if bench.wants("adamw") {
        let (master, m, v) = (
            bench.random_f32(&[count])?,
            bench.zeros_f32(&[count])?,
            bench.zeros_f32(&[count])?,
        );
        let update = adamw::AdamW {
            lr: 1e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 10,
            grad_scale: 1.0,
        };
        #[cfg(feature = "cuda")]
        if bench.device.is_cuda() {
            let weights = Tensor::zeros(count, candle_core::DType::BF16, &bench.device)?;
            let work = Work::bytes(30 * count);
            bench.measure("adamw", "step_and_copy", &shape, work, || {
                adamw::step_and_copy(&master, &grad, &m, &v, &weights, update)
            });
        }
        let work = Work::bytes(28 * count);
        bench.measure("adamw", "step", &shape, work, || {
            adamw::step(&master, &grad, &m, &v, update)
        });
    }
    if bench.wants("reduce") {
        let work = Work::bytes(4 * count);
        bench.measure("reduce", "sum_of_squares", &shape, work, || {
            reduce::sum_of_squares(&grad)
        });
    }
    if bench.wants("arithmetic") {
        let work = Work::bytes(4 * count);
        bench.measure("arithmetic", "fill_zero", &shape, work, || {
            ops::fill_zero(&grad)
        });
    }
    Ok(())
}
