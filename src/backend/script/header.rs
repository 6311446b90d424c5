//! The head of a script: what Slurm shall give, and what the ranks will do, in comments made from the job.

use std::fmt::Write;

use crate::backend::shell::{comment, sbatch_path, sbatch_value};
use crate::backend::{Job, Profile};
use crate::event::layout;

/// Head of a script for `sbatch`.
pub(super) fn slurm(
    job: &Job,
    profile: &Profile,
    nodes: usize,
    gpus: usize,
    tasks: usize,
) -> String {
    let mut text = String::from("#!/usr/bin/env bash\n");
    let mut option = |name: &str, value: &str| {
        let _ = writeln!(text, "#SBATCH --{name}={}", sbatch_value(value));
    };
    option("job-name", &job.name);
    option("nodes", &nodes.to_string());
    option("ntasks-per-node", &tasks.to_string());
    if profile.request_gpus {
        option("gpus-per-node", &gpus.to_string());
    }
    option("time", &profile.time_limit);
    for (name, value) in [
        ("partition", &profile.partition),
        ("account", &profile.account),
        ("qos", &profile.qos),
        ("constraint", &profile.constraint),
        ("reservation", &profile.reservation),
    ] {
        if let Some(value) = value {
            option(name, value);
        }
    }
    let run = sbatch_path(&job.folders.run.to_string_lossy());
    option("chdir", &job.folders.run.to_string_lossy());
    option("output", &format!("{run}/{}", layout::CONSOLE));
    option("open-mode", "append");
    option("signal", &format!("B:USR1@{}", profile.checkpoint_seconds));
    text += if profile.requeue || profile.go_on {
        "#SBATCH --requeue\n"
    } else {
        "#SBATCH --no-requeue\n"
    };
    if profile.exclusive {
        text += "#SBATCH --exclusive\n";
    }
    for word in &profile.sbatch {
        let line = match word.split_once('=') {
            Some((name, value)) => format!("{}={}", comment(name), sbatch_value(value)),
            None => comment(word),
        };
        let _ = writeln!(text, "#SBATCH {line}");
    }
    text + &description(job, gpus)
}

/// Head of a script for this machine.
pub(super) fn local(job: &Job) -> String {
    format!("#!/usr/bin/env bash\n{}", description(job, job.gpus()))
}

fn description(job: &Job, gpus_per_node: usize) -> String {
    let mut text = String::from("#\n");
    for line in job.description(gpus_per_node) {
        let _ = writeln!(text, "# {}", comment(&line));
    }
    text + "#\n# Written by trestle from the recipe; changes are lost when it is launched again.\n# shellcheck disable=SC1003,SC2016,SC2089,SC2090 # values are meant as they stand\nset -euo pipefail\n"
}
