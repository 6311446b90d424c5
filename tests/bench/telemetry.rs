//! What a sample of the machine costs: `cargo bench --bench telemetry [-- <samples>]`.
#![allow(missing_docs, reason = "a bench is run, not linked against")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::time::Duration;

use trestle::telemetry::Sampler;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let samples = numbers.first().copied().unwrap_or(30).max(1);
    let pid = Some(std::process::id());
    let mut sampler = Sampler::new();
    let first = sampler.sample(pid, true);
    match &first.gpus {
        Ok(gpus) => gpus.iter().for_each(|gpu| println!("{gpu:#?}")),
        Err(why) => println!("{why}"),
    }
    println!("{:?}  {:?}", first.host, first.process);
    println!("first sample {:.2} ms", milliseconds(first.cost));
    for traffic in [false, true] {
        let cpu = cpu_seconds();
        let mut costs: Vec<Duration> = (0..samples)
            .map(|_| sampler.sample(pid, traffic).cost)
            .collect();
        let cpu = (cpu_seconds() - cpu) * 1e3 / samples as f64;
        costs.sort();
        println!(
            "bus counters {traffic:<5}  median {:.2} ms  highest {:.2} ms  processor {cpu:.2} ms a sample",
            milliseconds(costs[samples / 2]),
            milliseconds(costs[samples - 1]),
        );
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.unwrap_or(f64::NAN) / 1e9
}
