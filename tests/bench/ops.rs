//! Times every op at the geometry of the demo recipe: `cargo bench --bench ops [FILTER]`.
//!
//! 8 sequences of 256 tokens, hidden 256, MLP 768, vocabulary 4096, 4 query and 2 key-value heads of 64, 4 key heads of 32 and 4 value
//! heads of 64. A line gives the shortest of several runs, the least processor time
//! of all threads, and GFLOP/s or GB/s of the shortest.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::{
    self, CuSeqlens, adamw, attention, columns, conv1d, cross_entropy, embedding, gated_delta,
    gated_norm, gdn_gates, linear, reduce, rms_norm, rope, sigmoid_gate, silu_mul,
};

const BATCH: usize = 8;
const SEQUENCE: usize = 256;
const N: usize = BATCH * SEQUENCE;
const HIDDEN: usize = 256;
const MLP: usize = 768;
const VOCABULARY: usize = 4096;

/// What a rate is counted in.
enum Work {
    Flops(usize),
    Bytes(usize),
}

struct Bench {
    filter: Option<String>,
    seed: u32,
}

impl Bench {
    fn time<T>(&self, name: &str, work: &Work, mut run: impl FnMut() -> Result<T>) -> Result<()> {
        if self
            .filter
            .as_ref()
            .is_some_and(|filter| !name.contains(filter.as_str()))
        {
            return Ok(());
        }
        run()?;
        let begin = Instant::now();
        let (mut best, mut cpu, mut runs) = (f64::INFINITY, f64::INFINITY, 0);
        while runs < 50 && begin.elapsed().as_secs_f64() < 0.7 {
            let (cpu_start, start) = (cpu_seconds(), Instant::now());
            std::hint::black_box(run()?);
            best = best.min(start.elapsed().as_secs_f64());
            cpu = cpu.min(cpu_seconds() - cpu_start);
            runs += 1;
        }
        let (amount, unit) = match work {
            Work::Flops(count) => (*count, "GFLOP/s"),
            Work::Bytes(count) => (*count, "GB/s"),
        };
        let rate = amount as f64 / best * 1e-9;
        println!(
            "{name:<36} {:>8.3} ms {:>8.3} cpu ms {rate:>8.1} {unit}",
            best * 1e3,
            cpu * 1e3
        );
        Ok(())
    }

    /// Values between -1 and 1 that do not repeat soon.
    fn random(&mut self, shape: &[usize]) -> Result<Tensor> {
        let mut state = self.seed.wrapping_mul(2_654_435_761) | 1;
        self.seed += 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / 2_147_483_648.0 - 1.0
        };
        Tensor::from_vec(
            (0..shape.iter().product()).map(next).collect::<Vec<f32>>(),
            shape,
            &Device::Cpu,
        )
    }
}

/// Time that the threads of this process have run, which a busy machine does not stretch.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let nanoseconds = |task: std::fs::DirEntry| {
        let line = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() * 1e-9
}

fn main() -> Result<()> {
    ops::retain_heap();
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let mut bench = Bench { filter, seed: 1 };
    products(&mut bench)?;
    elementwise(&mut bench)?;
    mixers(&mut bench)?;
    head(&mut bench)?;
    arenas(&mut bench)
}

fn products(bench: &mut Bench) -> Result<()> {
    for (i, o) in [
        (HIDDEN, HIDDEN),
        (HIDDEN, MLP),
        (MLP, HIDDEN),
        (HIDDEN, 8),
        (4 * HIDDEN, 4 * HIDDEN),
    ] {
        let (x, w, dy) = (
            bench.random(&[N, i])?,
            bench.random(&[o, i])?,
            bench.random(&[N, o])?,
        );
        let dw = w.zeros_like()?;
        let flops = Work::Flops(2 * N * i * o);
        bench.time(&format!("linear forward {i}x{o}"), &flops, || {
            linear::forward(&x, &w)
        })?;
        bench.time(&format!("linear backward_input {i}x{o}"), &flops, || {
            linear::backward_input(&dy, &w)
        })?;
        bench.time(&format!("linear backward_weight {i}x{o}"), &flops, || {
            linear::backward_weight(&dy, &x, &dw)
        })?;
    }
    Ok(())
}

fn elementwise(bench: &mut Bench) -> Result<()> {
    let size = 4 * N * HIDDEN;
    let (x, dy, w) = (
        bench.random(&[N, HIDDEN])?,
        bench.random(&[N, HIDDEN])?,
        bench.random(&[HIDDEN])?,
    );
    let dw = w.zeros_like()?;
    bench.time("rms_norm forward", &Work::Bytes(2 * size), || {
        rms_norm::forward(&x, &w, 1e-6)
    })?;
    bench.time("rms_norm backward", &Work::Bytes(3 * size), || {
        rms_norm::backward(&dy, &x, &w, 1e-6, &dw)
    })?;
    bench.time("add", &Work::Bytes(3 * size), || ops::add(&x, &dy))?;
    bench.time("add_assign", &Work::Bytes(3 * size), || {
        ops::add_assign(&x, &dy)
    })?;
    let (x, z, dy, w) = (
        bench.random(&[8 * N, 32])?,
        bench.random(&[8 * N, 32])?,
        bench.random(&[8 * N, 32])?,
        bench.random(&[32])?,
    );
    let dw = w.zeros_like()?;
    bench.time("gated_norm forward", &Work::Bytes(3 * size), || {
        gated_norm::forward(&x, &z, &w, 1e-6)
    })?;
    bench.time("gated_norm backward", &Work::Bytes(5 * size), || {
        gated_norm::backward(&dy, &x, &z, &w, 1e-6, &dw)
    })?;
    let (g, u, dy) = (
        bench.random(&[N, MLP])?,
        bench.random(&[N, MLP])?,
        bench.random(&[N, MLP])?,
    );
    bench.time("silu_mul forward", &Work::Bytes(12 * N * MLP), || {
        silu_mul::forward(&g, &u)
    })?;
    bench.time("silu_mul backward", &Work::Bytes(20 * N * MLP), || {
        silu_mul::backward(&dy, &g, &u)
    })?;
    let (o, gate) = (bench.random(&[N, HIDDEN])?, bench.random(&[N, HIDDEN])?);
    bench.time("sigmoid_gate forward", &Work::Bytes(3 * size), || {
        sigmoid_gate::forward(&o, &gate)
    })?;
    bench.time("sigmoid_gate backward", &Work::Bytes(5 * size), || {
        sigmoid_gate::backward(&gate, &o, &gate)
    })?;
    let ids: Vec<u32> = (0..N as u32)
        .map(|index| index * 7919 % VOCABULARY as u32)
        .collect();
    let (table, dy) = (
        bench.random(&[VOCABULARY, HIDDEN])?,
        bench.random(&[N, HIDDEN])?,
    );
    let d_table = table.zeros_like()?;
    bench.time("embedding forward", &Work::Bytes(2 * size), || {
        embedding::forward(&ids, &table)
    })?;
    bench.time("embedding backward", &Work::Bytes(3 * size), || {
        embedding::backward(&dy, &ids, &d_table)
    })?;
    let positions: [Vec<i64>; 3] =
        std::array::from_fn(|_| (0..N).map(|index| (index % SEQUENCE) as i64).collect());
    bench.time("rope table", &Work::Bytes(8 * N * 8), || {
        rope::Table::new(&positions, 16, 1e7, [3, 3, 2])
    })?;
    let table = rope::Table::new(&positions, 16, 1e7, [3, 3, 2])?;
    let q = bench.random(&[N, 4, 64])?;
    bench.time("rope forward", &Work::Bytes(2 * size), || {
        rope::forward(&q, &table)
    })?;
    let x = bench.random(&[N, 512])?;
    let parts = columns::split(&x, &[128, 128, 256])?;
    bench.time("columns split", &Work::Bytes(8 * N * 512), || {
        columns::split(&x, &[128, 128, 256])
    })?;
    bench.time("columns join", &Work::Bytes(8 * N * 512), || {
        columns::join(&[&parts[0], &parts[1], &parts[2]])
    })
}

fn mixers(bench: &mut Bench) -> Result<()> {
    let cu = CuSeqlens::uniform(BATCH, SEQUENCE);
    let channels = 512;
    let (x, w, dy) = (
        bench.random(&[N, channels])?,
        bench.random(&[channels, 4])?,
        bench.random(&[N, channels])?,
    );
    let dw = w.zeros_like()?;
    bench.time("conv1d forward", &Work::Bytes(8 * N * channels), || {
        conv1d::forward(&x, &w, &cu)
    })?;
    bench.time("conv1d backward", &Work::Bytes(12 * N * channels), || {
        conv1d::backward(&dy, &x, &w, &cu, &dw)
    })?;
    let (a, b) = (bench.random(&[N, 8])?, bench.random(&[N, 8])?);
    let (a_log, dt) = (bench.random(&[8])?, bench.random(&[8])?);
    let (da_log, ddt) = (a_log.zeros_like()?, dt.zeros_like()?);
    bench.time("gdn_gates forward", &Work::Bytes(16 * N * 8), || {
        gdn_gates::forward(&a, &b, &a_log, &dt)
    })?;
    bench.time("gdn_gates backward", &Work::Bytes(24 * N * 8), || {
        gdn_gates::backward(&a, &b, &a, &b, &a_log, &dt, &da_log, &ddt)
    })?;

    let (q, k, v) = (
        bench.random(&[N, 4, 64])?,
        bench.random(&[N, 2, 64])?,
        bench.random(&[N, 2, 64])?,
    );
    let (o, lse) = attention::forward(&q, &k, &v, &cu, 0.125)?;
    let flops = 2 * N * SEQUENCE * 4 * 64; // two products over half of the pairs
    bench.time("attention forward", &Work::Flops(flops), || {
        attention::forward(&q, &k, &v, &cu, 0.125)
    })?;
    bench.time("attention backward", &Work::Flops(flops * 5 / 2), || {
        attention::backward(&q, &q, &k, &v, &o, &lse, &cu, 0.125)
    })?;

    for (key_heads, heads, d, dv) in [(4, 4, 32, 64), (4, 8, 32, 32), (4, 8, 64, 64)] {
        let (q, k) = (
            bench.random(&[N, key_heads, d])?,
            bench.random(&[N, key_heads, d])?,
        );
        let v = bench.random(&[N, heads, dv])?;
        let (g, beta) = (
            bench.random(&[N, heads])?.affine(0.4, -0.5)?,
            bench.random(&[N, heads])?.affine(0.4, 0.5)?,
        );
        // per token and value head: the recurrence as such: read, write, output
        let flops = 6 * N * heads * d * dv;
        let name = format!("{key_heads}x{d}/{heads}x{dv}");
        bench.time(
            &format!("gated_delta forward {name}"),
            &Work::Flops(flops),
            || gated_delta::forward(&q, &k, &v, &g, &beta, &cu, None),
        )?;
        let output = gated_delta::forward(&q, &k, &v, &g, &beta, &cu, None)?;
        bench.time(
            &format!("gated_delta backward {name}"),
            &Work::Flops(2 * flops),
            || gated_delta::backward(&v, None, &output.saved),
        )?;
    }
    Ok(())
}

fn head(bench: &mut Bench) -> Result<()> {
    let (x, w) = (
        bench.random(&[N, HIDDEN])?,
        bench.random(&[VOCABULARY, HIDDEN])?,
    );
    let dw = w.zeros_like()?;
    let labels: Vec<u32> = (0..N as u32)
        .map(|index| index * 7919 % VOCABULARY as u32)
        .collect();
    let weights = vec![1.0; N];
    let flops = 2 * N * HIDDEN * VOCABULARY;
    for chunk in [128, 256, 512, 1024] {
        bench.time(
            &format!("cross_entropy forward, chunk {chunk}"),
            &Work::Flops(flops),
            || cross_entropy::forward(&x, &w, &labels, &weights, chunk),
        )?;
        bench.time(
            &format!("cross_entropy both, chunk {chunk}"),
            &Work::Flops(3 * flops),
            || cross_entropy::forward_backward(&x, &w, &labels, &weights, 1e-3, chunk, &dw),
        )?;
    }
    Ok(())
}

fn arenas(bench: &mut Bench) -> Result<()> {
    let n = 6_000_000;
    let (p, g, m) = (
        bench.random(&[n])?,
        bench.random(&[n])?,
        bench.random(&[n])?,
    );
    let v = Tensor::ones(n, DType::F32, &Device::Cpu)?;
    let update = adamw::AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 10,
        grad_scale: 1.0,
    };
    bench.time("adamw, 6e6 parameters", &Work::Bytes(28 * n), || {
        adamw::step(&p, &g, &m, &v, update)
    })?;
    bench.time("sum_of_squares, 6e6", &Work::Bytes(4 * n), || {
        reduce::sum_of_squares(&g)
    })?;
    bench.time("non_finite, 6e6", &Work::Bytes(4 * n), || {
        reduce::non_finite(&g)
    })?;
    bench.time("fill_zero, 6e6", &Work::Bytes(4 * n), || ops::fill_zero(&g))
}
