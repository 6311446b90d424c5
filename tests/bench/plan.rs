//! How long a plan of 397B on 512 GPUs takes, and the search over all of its layouts.
//!
//! `cargo bench --bench plan`; limits are 20 ms and 2 s.

#![allow(
    missing_docs,
    clippy::print_stdout,
    reason = "a bench prints its result"
)]

use std::time::Instant;

use trestle::plan::{BatchShape, Constraints, Degrees, Job, fit, machine, plan};
use trestle::spec::find;

fn main() {
    let model = find("397b-a17b").expect("a published size").model.clone();
    let degrees = Degrees {
        tp: 2,
        pp: 4,
        ep: 32,
        sequence_parallel: true,
        ..Degrees::default()
    };
    let batch = BatchShape {
        seq_length: 4096,
        micro_batch_size: 1,
        global_batch_size: 1024,
    };
    let job = Job::new(model, degrees, batch).with_gpus(512);
    let machine = machine::machine("h100").expect("built in");
    let mut times: Vec<f64> = (0..50)
        .map(|_| {
            let start = Instant::now();
            let plan = plan(&job, machine).expect("valid");
            assert_eq!(plan.stages.len(), 4);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "plan of 397B on 512 GPUs: median {:.3} ms, worst {:.3} ms",
        times[25], times[49]
    );
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let found = fit(&job, 512, machine, &Constraints::default());
        times.push(start.elapsed().as_secs_f64() * 1e3);
        println!(
            "fit: {} tried, {} fit, {} best in {:.0} ms",
            found.tried,
            found.fitting,
            found.best.len(),
            times[times.len() - 1]
        );
    }
    times.sort_by(f64::total_cmp);
    println!("fit of 397B on 512 GPUs: median {:.0} ms", times[2]);
}
