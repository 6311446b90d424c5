//! How long a plan of 397B on 512 GPUs takes, the search over all of its layouts, and the check of every published recipe.
//!
//! `cargo bench --bench plan` prints one JSON object; limits are 20 ms for a plan and 2 s for a search.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use trestle::base::Severity;
use trestle::plan::{BatchShape, Constraints, Degrees, Job, fit, machine, plan, problems};
use trestle::recipe::{Known, Published, from_yaml, load, to_yaml};
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
    let planned = timed(50, || {
        let plan = plan(&job, machine).expect("valid");
        assert_eq!(plan.stages.len(), 4);
    });
    let mut found = None;
    let searched = timed(5, || {
        found = Some(fit(&job, 512, machine, &Constraints::default()));
    });
    let found = found.expect("searched");
    let mut stuck = 0;
    let checked = timed(20, || {
        stuck = 0;
        for path in paths() {
            let loaded = load(&path, &[], &|path: &Path| fs::read_to_string(path));
            let all = problems(&loaded.megatron.expect("published").job());
            stuck += usize::from(all.iter().any(|p| p.severity == Severity::Error));
        }
    });
    let published: Vec<Published> = paths()
        .into_iter()
        .map(|path| Published {
            recipe: load(&path, &[], &|path: &Path| fs::read_to_string(path))
                .megatron
                .expect("published"),
            path,
        })
        .collect();
    let dumps: Vec<String> = published.iter().map(|p| to_yaml(&p.recipe)).collect();
    let imported = timed(20, || {
        for dump in &dumps {
            let read = from_yaml(Path::new("a.yaml"), dump, &published, &Known::default());
            assert!(read.expect("ours").extends.is_some());
        }
    });
    let result = json!({
        "command": "cargo bench --bench plan",
        "machine": processor(),
        "milliseconds": "of each: median, worst, times",
        "plan of 397B-A17B on 512 GPUs": planned,
        "fit of 397B-A17B on 512 GPUs": searched,
        "layouts tried": found.tried,
        "layouts that start and fit": found.fitting,
        "layouts that none beats": found.best.len(),
        "check of the published recipes": checked,
        "published recipes": published.len(),
        "published recipes that cannot start": stuck,
        "import of the published recipes from YAML": imported,
    });
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
}

/// Median, worst, and how often, in milliseconds.
fn timed(times: usize, mut work: impl FnMut()) -> Value {
    let mut all: Vec<f64> = (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let round = |x: f64| (x * 1e3).round() / 1e3;
    json!([round(all[times / 2]), round(all[times - 1]), times])
}

fn paths() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/megatron");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    paths
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map_or("unknown", |name| name.trim_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{name}, {cores} cores")
}
