//! Norms, gates, activations, arithmetic: what moves bytes and does little else.

use candle_core::Result;

use super::{Bench, Work};
use crate::ops::{
    self, gated_norm, gdn_gates, qk_norm_rope, rms_norm, rope, sigmoid_gate, silu_mul,
};

const EPS: f64 = 1e-6;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    norms(bench)?;
    gates(bench)?;
    rotary(bench)?;
    arithmetic(bench)
}

fn norms(bench: &mut Bench) -> Result<()> {
    let config = bench.sizes.config.clone();
    let (n, h, a) = (bench.sizes.tokens(), config.hidden_size, bench.size());
    if bench.wants("rms_norm") {
        let (x, y, dy) = (
            bench.random(&[n, h])?,
            bench.random(&[n, h])?,
            bench.random(&[n, h])?,
        );
        let w = bench.random(&[h])?;
        let dw = bench.zeros_f32(&[h])?;
        let shape = format!("{n} x {h}");
        let each = |tensors: usize| Work::bytes(tensors * a * n * h);
        bench.measure("rms_norm", "forward", &shape, each(2), || {
            rms_norm::forward(&x, &w, EPS)
        });
        bench.measure("rms_norm", "add_forward", &shape, each(4), || {
            rms_norm::add_forward(&x, &y, &w, EPS)
        });
        bench.measure("rms_norm", "backward", &shape, each(3), || {
            rms_norm::backward(&dy, &x, &w, EPS, &dw)
        });
        bench.measure("rms_norm", "add_backward", &shape, each(4), || {
            rms_norm::add_backward(&dy, &y, &x, &w, EPS, &dw)
        });
    }
    if bench.wants("gated_norm") {
        let (heads, dv) = (config.linear_num_value_heads, config.linear_value_head_dim);
        let rows = n * heads;
        let (o, z, dy, dz) = (
            bench.random(&[rows, dv])?,
            bench.random(&[rows, dv])?,
            bench.random(&[rows, dv])?,
            bench.random(&[rows, dv])?,
        );
        let w = bench.random(&[dv])?;
        let dw = bench.zeros_f32(&[dv])?;
        let shape = format!("{n} x {heads} x {dv}");
        let each = |tensors: usize| Work::bytes(tensors * a * rows * dv);
        bench.measure("gated_norm", "forward", &shape, each(3), || {
            gated_norm::forward(&o, &z, &w, EPS)
        });
        bench.measure("gated_norm", "backward_into", &shape, each(6), || {
            gated_norm::backward_into(&dy, &o, &z, &w, EPS, &dw, &dz)
        });
    }
    Ok(())
}

fn gates(bench: &mut Bench) -> Result<()> {
    let config = bench.sizes.config.clone();
    let (n, a) = (bench.sizes.tokens(), bench.size());
    if bench.wants("sigmoid_gate") {
        let width = config.num_attention_heads * config.head_dim;
        let (o, gate, dy, d_gate) = (
            bench.random(&[n, width])?,
            bench.random(&[n, width])?,
            bench.random(&[n, width])?,
            bench.random(&[n, width])?,
        );
        let shape = format!("{n} x {width}");
        let each = |tensors: usize| Work::bytes(tensors * a * n * width);
        bench.measure("sigmoid_gate", "forward", &shape, each(3), || {
            sigmoid_gate::forward(&o, &gate)
        });
        bench.measure("sigmoid_gate", "backward_into", &shape, each(6), || {
            sigmoid_gate::backward_into(&dy, &o, &gate, &d_gate)
        });
    }
    if bench.wants("silu_mul") {
        let mlp = config.intermediate_size;
        let (gate_up, dy) = (bench.random(&[n, 2 * mlp])?, bench.random(&[n, mlp])?);
        let shape = format!("{n} x {mlp}");
        let each = |tensors: usize| Work::bytes(tensors * a * n * mlp);
        bench.measure("silu_mul", "joined_forward", &shape, each(3), || {
            silu_mul::joined_forward(&gate_up)
        });
        bench.measure("silu_mul", "joined_backward", &shape, each(6), || {
            silu_mul::joined_backward(&dy, &gate_up)
        });
    }
    if bench.wants("gdn_gates") {
        let heads = config.linear_num_value_heads;
        let row = [n, heads];
        let (in_a, in_b, da, db) = (
            bench.random(&row)?,
            bench.random(&row)?,
            bench.random(&row)?,
            bench.random(&row)?,
        );
        let (dg, dbeta) = (bench.random_f32(&row)?, bench.random_f32(&row)?);
        let (a_log, dt_bias) = (bench.random_f32(&[heads])?, bench.random_f32(&[heads])?);
        let (da_log, ddt_bias) = (bench.zeros_f32(&[heads])?, bench.zeros_f32(&[heads])?);
        let shape = format!("{n} x {heads}");
        let work = Work::bytes(n * heads * (2 * a + 8));
        bench.measure("gdn_gates", "forward", &shape, work, || {
            gdn_gates::forward(&in_a, &in_b, &a_log, &dt_bias)
        });
        let work = Work::bytes(n * heads * (4 * a + 8));
        bench.measure("gdn_gates", "backward_into", &shape, work, || {
            gdn_gates::backward_into(
                &dg, &dbeta, &in_a, &in_b, &a_log, &dt_bias, &da_log, &ddt_bias, &da, &db,
            )
        });
    }
    Ok(())
}

fn rotary(bench: &mut Bench) -> Result<()> {
    if !bench.wants("qk_norm_rope") {
        return Ok(());
    }
    let config = bench.sizes.config.clone();
    let (n, a, heads, d) = (
        bench.sizes.tokens(),
        bench.size(),
        config.num_attention_heads,
        config.head_dim,
    );
    let length = bench.sizes.seq_length;
    let positions: [Vec<i64>; 3] =
        std::array::from_fn(|_| (0..n).map(|index| (index % length) as i64).collect());
    let table = rope::Table::new(
        &positions,
        config.rotary_dim(),
        config.rope_theta,
        config.mrope_section,
    )?;
    let (x, dy, dx) = (
        bench.random(&[n, heads, d])?,
        bench.random(&[n, heads, d])?,
        bench.random(&[n, heads, d])?,
    );
    let w = bench.random(&[d])?;
    let dw = bench.zeros_f32(&[d])?;
    let shape = format!("{n} x {heads} x {d}");
    let each = |tensors: usize| Work::bytes(tensors * a * n * heads * d);
    bench.measure("qk_norm_rope", "forward", &shape, each(2), || {
        qk_norm_rope::forward(&x, &w, EPS, &table)
    });
    bench.measure("qk_norm_rope", "backward_into", &shape, each(3), || {
        qk_norm_rope::backward_into(&dy, &x, &w, EPS, &table, &dw, &dx)
    });
    Ok(())
}

fn arithmetic(bench: &mut Bench) -> Result<()> {
    if !bench.wants("arithmetic") {
        return Ok(());
    }
    let (n, h, a) = (
        bench.sizes.tokens(),
        bench.sizes.config.hidden_size,
        bench.size(),
    );
    let (x, y) = (bench.random(&[n, h])?, bench.random(&[n, h])?);
    let shape = format!("{n} x {h}");
    let work = Work::bytes(3 * a * n * h);
    bench.measure("arithmetic", "add_assign", &shape, work, || {
        ops::add_assign(&x, &y)
    });
    Ok(())
}
