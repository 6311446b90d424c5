//! What mixes tokens: convolution, gated delta rule, attention.

use candle_core::{D, Result};

use super::{Bench, Work};
use crate::ops::{CuSeqlens, attention, conv1d, gated_delta};

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let cu_seqlens = CuSeqlens::uniform(bench.sizes.micro_batch_size, bench.sizes.seq_length);
    convolution(bench, &cu_seqlens)?;
    delta(bench, &cu_seqlens)?;
    full(bench, &cu_seqlens)
}

fn convolution(bench: &mut Bench, cu_seqlens: &CuSeqlens) -> Result<()> {
    if !bench.wants("conv1d") {
        return Ok(());
    }
    let (n, a) = (bench.sizes.tokens(), bench.size());
    let channels = bench.sizes.config.linear_conv_dim();
    let taps = bench.sizes.config.linear_conv_kernel_dim;
    let (x, dy, dx) = (
        bench.random(&[n, channels])?,
        bench.random(&[n, channels])?,
        bench.random(&[n, channels])?,
    );
    let w = bench.random(&[channels, taps])?;
    let dw = bench.zeros_f32(&[channels, taps])?;
    let shape = format!("{n} x {channels}, {taps} taps");
    let each = |tensors: usize| Work::bytes(tensors * a * n * channels);
    bench.measure("conv1d", "forward", &shape, each(2), || {
        conv1d::forward(&x, &w, cu_seqlens)
    });
    bench.measure("conv1d", "backward_into", &shape, each(3), || {
        conv1d::backward_into(&dy, &x, &w, cu_seqlens, &dw, &dx)
    });
    Ok(())
}

/// Operations of the chunked form a token and value head: within a chunk of `c` tokens the products of keys with keys, queries with keys
/// and their two solutions, between chunks state with keys and queries and the state's update.
fn delta_flops(chunk: usize, dk: usize, dv: usize) -> f64 {
    (2 * chunk * (2 * dk + 2 * dv) + 2 * 3 * dk * dv) as f64
}

fn delta(bench: &mut Bench, cu_seqlens: &CuSeqlens) -> Result<()> {
    if !bench.wants("gated_delta") {
        return Ok(());
    }
    let config = bench.sizes.config.clone();
    let (n, a) = (bench.sizes.tokens(), bench.size());
    let (key_heads, heads) = (config.linear_num_key_heads, config.linear_num_value_heads);
    let (dk, dv) = (config.linear_key_head_dim, config.linear_value_head_dim);
    // Parts of one convolution output, as in the model.
    let mixed = bench.random(&[n, config.linear_conv_dim()])?;
    let keys = key_heads * dk;
    let q = gated_delta::heads(&mixed, 0, key_heads, dk)?;
    let k = gated_delta::heads(&mixed, keys, key_heads, dk)?;
    let v = gated_delta::heads(&mixed, 2 * keys, heads, dv)?;
    let g = bench.random_f32(&[n, heads])?.affine(0.4, -0.5)?;
    let beta = bench.random_f32(&[n, heads])?.affine(0.4, 0.5)?;
    let d_o = bench.random(&[n, heads, dv])?;
    let shape = format!("{n} x {key_heads} x {dk} and {heads} x {dv}");
    let flops = n as f64 * heads as f64 * delta_flops(gated_delta::CHUNK, dk, dv);
    let bytes = n * (a * (2 * keys + 2 * heads * dv) + 8 * heads);
    bench.measure(
        "gated_delta",
        "forward",
        &shape,
        Work::flops(flops, bytes),
        || gated_delta::forward(&q, &k, &v, &g, &beta, cu_seqlens, None),
    );
    // The backward makes states and products again, then has two products for each of the forward's.
    let bytes = n * (a * (4 * keys + 3 * heads * dv) + 16 * heads);
    match gated_delta::forward(&q, &k, &v, &g, &beta, cu_seqlens, None) {
        Ok(output) => bench.measure(
            "gated_delta",
            "backward",
            &shape,
            Work::flops(3.0 * flops, bytes),
            || gated_delta::backward(&d_o, None, &output.saved),
        ),
        Err(error) => bench.measure::<()>(
            "gated_delta",
            "backward",
            &shape,
            Work::flops(3.0 * flops, bytes),
            || Err(candle_core::Error::Msg(error.to_string())),
        ),
    }
    Ok(())
}

fn full(bench: &mut Bench, cu_seqlens: &CuSeqlens) -> Result<()> {
    if !bench.wants("attention") {
        return Ok(());
    }
    let config = bench.sizes.config.clone();
    let (n, a) = (bench.sizes.tokens(), bench.size());
    let (heads, kv_heads, d) = (
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
    );
    let (q, k, v, d_o) = (
        bench.random(&[n, heads, d])?,
        bench.random(&[n, kv_heads, d])?,
        bench.random(&[n, kv_heads, d])?,
        bench.random(&[n, heads, d])?,
    );

    let dv = v.zeros_like()?;
    let scale = (d as f32).powf(-0.5);
    let shape = format!(
        "{} x {}, {heads} over {kv_heads} heads of {d}",
        bench.sizes.micro_batch_size, bench.sizes.seq_length
    );
    // Two products over the half of all pairs that is causal; the backward has five.
    let flops = 2.0 * n as f64 * bench.sizes.seq_length as f64 * (heads * d) as f64;
    let bytes = a * n * (2 * heads + 2 * kv_heads) * d + 4 * n * heads;
    bench.measure(
        "attention",
        "forward",
        &shape,
        Work::flops(flops, bytes),
        || attention::forward(&q, &k, &v, cu_seqlens, scale),
    );
    let (o, lse) = match attention::forward(&q, &k, &v, cu_seqlens, scale) {
        Ok(pair) => pair,
        Err(_) => (
            q.zeros_like()?,
            q.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?,
        ),
    };
    let bytes = a * n * (4 * heads + 4 * kv_heads) * d + 4 * n * heads;
    bench.measure(
        "attention",
        "backward_into",
        &shape,
        Work::flops(2.5 * flops, bytes),
        || attention::backward_into(&d_o, &q, &k, &v, &o, &lse, cu_seqlens, scale, &dv),
    );
    Ok(())
}
