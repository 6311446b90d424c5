//! The matrix products of a layer, each projection in its three directions.

use candle_core::Result;

use super::{Bench, Work};
use crate::ops::linear;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    if !bench.wants("linear") {
        return Ok(());
    }
    let config = &bench.sizes.config;
    let (h, mlp, n) = (
        config.hidden_size,
        config.intermediate_size,
        bench.sizes.tokens(),
    );
    let value = config.linear_value_dim();
    let delta = config.linear_conv_dim() + value + 2 * config.linear_num_value_heads;
    let query = config.num_attention_heads * config.head_dim;
    let attention = 2 * query + 2 * config.num_key_value_heads * config.head_dim;
    let projections = [
        ("delta net in", h, delta),
        ("delta net out", value, h),
        ("attention in", h, attention),
        ("attention out", query, h),
        ("gate and up", h, 2 * mlp),
        ("down", mlp, h),
    ];
    for (name, i, o) in projections {
        let (x, w, dy) = (
            bench.random(&[n, i])?,
            bench.random(&[o, i])?,
            bench.random(&[n, o])?,
        );
        let dw = bench.zeros_f32(&[o, i])?;
        let size = bench.size();
        let flops = 2.0 * n as f64 * i as f64 * o as f64;
        let activations = size * (n * i + n * o);
        let work = Work::flops(flops, activations + size * o * i);
        let shape = format!("{name}: {n} x {i} to {o}");
        bench.measure("linear", "forward", &shape, work, || {
            linear::forward(&x, &w)
        });
        bench.measure("linear", "backward_input", &shape, work, || {
            linear::backward_input(&dy, &w)
        });
        let work = Work::flops(flops, activations + 8 * o * i);
        bench.measure("linear", "backward_weight", &shape, work, || {
            linear::backward_weight(&dy, &x, &dw)
        });
    }
    Ok(())
}
