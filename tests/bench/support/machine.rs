//! Where and of what a result was measured.

use std::fs;
use std::process::Command;

/// The commit, shortened.
pub(super) fn commit() -> String {
    let output = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    output.map_or_else(
        |_| "unknown".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Processor, cores, and how busy they are.
pub(super) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores,{}, load average {}",
        model
            .unwrap_or("unknown")
            .trim_start()
            .trim_start_matches(':'),
        load.split(' ').next().unwrap_or("unknown")
    )
}
