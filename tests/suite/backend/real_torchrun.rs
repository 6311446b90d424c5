//! torchrun itself, with gloo on the CPU.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trestle::backend::record::Entry;
use trestle::backend::torchrun::{self, State};
use trestle::backend::{Job, Profile, last_checkpoint, script};

use super::skipped;

/// Stands in for Bridge's script: joins the group, "trains", saves when it is asked to end.
pub(super) const PROGRAM: &str = include_str!("program.py");

/// A Python that has torch: `TRESTLE_TORCH_PYTHON`, or that of the user's cache.
pub(super) fn python() -> Option<PathBuf> {
    let candidates = [
        std::env::var_os("TRESTLE_TORCH_PYTHON").map(PathBuf::from),
        std::env::var_os("HOME")
            .map(|home| Path::new(&home).join(".cache/trestle/venv/bin/python")),
    ];
    candidates.into_iter().flatten().find(|path| path.is_file())
}

/// A folder like Bridge's with our script in it.
pub(super) fn bridge(folder: &Path, program: &str) -> PathBuf {
    let bridge = folder.join("a bridge");
    let scripts = bridge.join("scripts/training");
    std::fs::create_dir_all(&scripts).unwrap();
    std::fs::write(scripts.join("run_recipe.py"), program).unwrap();
    bridge
}

fn two_ranks(run: &Path) -> Job {
    let mut job = super::job(run);
    job.parallel.tp = 1;
    job.parallel.dp = 2;
    job.folders.pretrained = None;
    job
}

fn start(run: &Path, job: &Job, python: &Path) -> (u32, u64) {
    std::fs::create_dir_all(run).unwrap();
    let profile = Profile {
        bridge: Some(bridge(run.parent().unwrap(), PROGRAM)),
        python: vec![python.to_string_lossy().into_owned()],
        ..Profile::new("here")
    };
    let path = run.join(script::SCRIPT);
    std::fs::write(&path, script::torchrun(job, &profile).unwrap()).unwrap();
    let Entry::Started { pid, started, .. } = torchrun::start(run, &path).unwrap() else {
        panic!("torchrun is a process");
    };
    (pid, started)
}

fn console(run: &Path) -> String {
    std::fs::read_to_string(run.join("console.log")).unwrap_or_default()
}

fn wait(what: &str, run: &Path, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(
            begin.elapsed() < Duration::from_mins(2),
            "{what} in vain:\n{}",
            console(run)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn two_processes_train_to_their_end() {
    let Some(python) = python() else {
        skipped(
            "two_processes_train_to_their_end",
            "no Python with torch (TRESTLE_TORCH_PYTHON)",
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("a run");
    let mut job = two_ranks(&run);
    job.sizes.steps = Some(3);
    let (pid, started) = start(&run, &job, &python);
    assert_eq!(torchrun::state(&run, pid, started), State::Running);
    wait("waited for its end", &run, || {
        torchrun::state(&run, pid, started) != State::Running
    });
    assert_eq!(
        torchrun::state(&run, pid, started),
        State::Ended(0),
        "{}",
        console(&run)
    );
    assert!(console(&run).contains("world 2"), "{}", console(&run));
    assert_eq!(last_checkpoint(&job.folders.save), Some(3));
    // The next start goes on where this one ended.
    job.sizes.steps = Some(5);
    let (pid, started) = start(&run, &job, &python);
    wait("waited for the second end", &run, || {
        torchrun::state(&run, pid, started) != State::Running
    });
    assert!(console(&run).contains("from step 3"), "{}", console(&run));
    assert_eq!(last_checkpoint(&job.folders.save), Some(5));
}

#[test]
fn a_stop_ends_in_a_checkpoint_and_leaves_no_process() {
    let Some(python) = python() else {
        skipped(
            "a_stop_ends_in_a_checkpoint_and_leaves_no_process",
            "no Python with torch (TRESTLE_TORCH_PYTHON)",
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut job = two_ranks(&run);
    job.sizes.steps = Some(1_000_000);
    let (pid, started) = start(&run, &job, &python);
    wait("waited for a step", &run, || {
        console(&run).contains("step 2\n") || console(&run).contains("step 2\r\n")
    });
    assert!(
        torchrun::stop(pid, started, Duration::from_mins(1)),
        "{}",
        console(&run)
    );
    assert!(last_checkpoint(&job.folders.save).is_some_and(|step| step >= 2));
    let group = rustix::process::Pid::from_raw(pid as i32).unwrap();
    assert!(rustix::process::test_kill_process_group(group).is_err());
    let state = torchrun::state(&run, pid, started);
    assert!(
        matches!(state, State::Ended(code) if code != 0),
        "{state:?}"
    );
}

/// A published recipe on this machine from the command line, to its end.
#[test]
fn the_program_trains_a_published_recipe_with_two_processes() {
    let Some(python) = python() else {
        skipped(
            "the_program_trains_a_published_recipe_with_two_processes",
            "no Python with torch (TRESTLE_TORCH_PYTHON)",
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::create_dir_all(config.join("trestle")).unwrap();
    let profile = format!(
        "[here]\nbridge = {:?}\npython = [{:?}]\n",
        bridge(folder.path(), PROGRAM).display().to_string(),
        python.display().to_string()
    );
    std::fs::write(config.join("trestle/profiles.toml"), profile).unwrap();
    let runs = folder.path().join("runs").display().to_string();
    let program = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_trestle"))
            .args(words)
            .args(["--runs", &runs])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("XDG_CONFIG_HOME", &config)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (code, said) = program(&[
        "launch",
        "recipes/megatron/qwen35_vl_4b_sft_2gpu_h100_bf16.toml",
        "--on",
        "torchrun",
        "--set",
        "train.steps=4",
        "--accept",
        "weights",
        "--accept",
        "free-space",
        "--accept",
        "gpus",
        "--follow",
    ]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("torch 2") && said.contains("is done"),
        "{said}"
    );
    let run = Path::new(&runs).join("qwen35_vl_4b_sft_2gpu_h100_bf16-1");
    assert!(
        console(&run).contains("rank 1 world 2"),
        "{}",
        console(&run)
    );
    assert_eq!(last_checkpoint(&run.join("checkpoints")), Some(4));
    let (_, listed) = program(&["runs"]);
    assert!(listed.contains(" done "), "{listed}");
}

#[test]
fn a_process_of_another_time_is_neither_followed_nor_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::process::id();
    assert_eq!(torchrun::state(folder.path(), own, 1), State::Gone);
    assert!(torchrun::stop(own, 1, Duration::ZERO));
}
