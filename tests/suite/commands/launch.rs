//! `launch` and `plan` of recipes for Megatron-Bridge.

use std::path::Path;

use super::trestle;
use trestle::recipe::published_paths;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_published_recipe_is_planned_on_its_own_gpus() {
    for path in published_paths() {
        let path = Path::new("recipes").join(path);
        let output = trestle(&["plan", &path.to_string_lossy(), "--json"]);
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}: {}", path.display(), text(&output.stderr)));
        let problems = plan["problems"].as_array().unwrap();
        let stops = problems.iter().any(|p| p["severity"] == "error");
        assert_eq!(output.status.code(), Some(if stops { 3 } else { 0 }));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if plan["memory"].is_array() {
            assert!(name.contains(&format!("_{}gpu_", plan["gpus"])), "{name}");
            let hardware = plan["machine"]["name"].as_str().unwrap().to_lowercase();
            assert!(
                name.contains(&format!("_{hardware}_")),
                "{name}: {hardware}"
            );
        } else {
            assert!(stops, "{name} has neither a plan nor a reason");
        }
    }
}

#[test]
fn a_degree_of_a_published_recipe_changes_within_its_gpus() {
    let path = "recipes/megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml";
    let output = trestle(&["plan", path, "--tp", "2", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&plan["gpus"], &plan["degrees"]["dp"]),
        (&4.into(), &2.into())
    );
    let output = trestle(&["plan", path, "--set", "megatron.gpu=4"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stdout).contains("megatron.gpus"),
        "{}",
        text(&output.stdout)
    );
}

/// Programs of Slurm that answer as they are told, and a folder for runs and profiles.
struct Site {
    folder: tempfile::TempDir,
}

const SFT: &str = "recipes/megatron/qwen35_vl_4b_sft_2gpu_h100_bf16.toml";

impl Site {
    fn new(profiles: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config/trestle");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::create_dir_all(folder.path().join("bin")).unwrap();
        std::fs::write(config.join("profiles.toml"), profiles).unwrap();
        let site = Self { folder };
        for name in ["sbatch", "squeue", "sacct", "scancel", "scontrol"] {
            site.program(name, "exit 0");
        }
        site
    }

    fn with_profile() -> Self {
        let site = Self::new("");
        let bridge = site.folder.path().join("bridge/scripts/training");
        std::fs::create_dir_all(&bridge).unwrap();
        std::fs::write(bridge.join("run_recipe.py"), "").unwrap();
        let text = format!(
            "[test]\nbridge = {:?}\npython = [\"python3\"]\n",
            site.folder.path().join("bridge").display().to_string()
        );
        std::fs::write(site.profiles(), text).unwrap();
        site
    }

    fn profiles(&self) -> std::path::PathBuf {
        self.folder.path().join("config/trestle/profiles.toml")
    }

    fn runs(&self) -> std::path::PathBuf {
        self.folder.path().join("runs")
    }

    /// Puts a program on the path.
    fn program(&self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let path = std::env::var("PATH").unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_trestle"))
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env(
                "PATH",
                format!("{}/bin:{path}", self.folder.path().display()),
            )
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// Launches the recipe in Slurm, with the problems accepted that every machine of ours has.
    fn launch(&self, more: &[&str]) -> (i32, String, String) {
        let runs = self.runs().display().to_string();
        let mut words = vec!["launch", SFT, "--on", "slurm", "--runs", &runs];
        words.extend(["--accept", "weights", "--accept", "free-space"]);
        words.extend(more);
        self.run(&words)
    }

    fn job(&self, more: &[&str]) -> (i32, String, String) {
        let runs = self.runs().display().to_string();
        let mut words = vec!["job", "last", "--runs", &runs];
        words.extend(more);
        self.run(&words)
    }
}

#[test]
fn our_own_trainer_says_why_it_does_not_take_a_recipe_for_bridge() {
    for words in [
        &["launch", SFT][..],
        &["launch", SFT, "--dry-run"],
        &["train", SFT],
    ] {
        let output = trestle(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("our own trainer has one GPU"), "{said}");
        assert!(
            said.contains("--on torchrun") && said.contains("--on slurm"),
            "{said}"
        );
    }
}

#[test]
fn profiles_that_cannot_be_used_are_named_with_a_way_out() {
    let launch = ["launch", SFT, "--on", "slurm", "--dry-run"];
    let site = Site::new("[a]\nbridge = \"/b\"\n[b]\nbridge = \"/b\"\n");
    let (code, _, said) = site.run(&launch);
    assert!(
        code == 2 && said.contains("--profile NAME, one of: a, b"),
        "{said}"
    );
    let (code, _, said) = site.run(&[&launch[..], &["--profile", "c"]].concat());
    assert!(code == 2 && said.contains("no valid profile `c`"), "{said}");
    // One that is wrong, beside one that is right.
    std::fs::write(
        site.profiles(),
        "[a]\nbrigde = \"/b\"\n[b]\nbridge = \"/b\"\n",
    )
    .unwrap();
    let (code, _, said) = site.run(&launch);
    assert!(
        code == 2 && said.contains("error[P003]: a profile has no key `brigde`"),
        "{said}"
    );
    let (code, out, _) = site.run(&[&launch[..], &["--profile", "b"]].concat());
    assert!(
        code == 3 && out.starts_with("#!/usr/bin/env bash\n"),
        "{out}"
    );
    for broken in ["[a", "a = 1\n", ""] {
        std::fs::write(site.profiles(), broken).unwrap();
        let (code, _, said) = site.run(&launch);
        assert!(
            code == 2 && said.contains("no valid profile"),
            "{broken:?}: {said}"
        );
    }
    // Bytes that are no text, a folder in its place, and nothing at all.
    std::fs::write(site.profiles(), b"[a]\nbridge = \"\xff\"\n").unwrap();
    let (code, _, said) = site.run(&launch);
    assert!(code == 2 && said.contains("cannot read"), "{said}");
    std::fs::remove_file(site.profiles()).unwrap();
    let (code, _, said) = site.run(&launch);
    assert!(
        code == 2 && said.contains("cannot read") && said.contains("[h100]"),
        "{said}"
    );
    std::fs::create_dir(site.profiles()).unwrap();
    let (code, _, said) = site.run(&launch);
    assert!(code == 2 && said.contains("cannot read"), "{said}");
}

#[test]
fn a_dry_run_writes_nothing_and_says_all_it_found() {
    let site = Site::with_profile();
    let (code, out, said) = site.launch(&["--dry-run", "--json"]);
    assert_eq!(code, 0, "{said}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&found["gpus"], &found["can_start"]),
        (&2.into(), &true.into())
    );
    assert!(
        found["script"]
            .as_str()
            .unwrap()
            .contains("#SBATCH --ntasks-per-node=2")
    );
    let codes: Vec<&str> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect();
    assert!(codes.contains(&"weights"), "{codes:?}");
    let python = found["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["name"] == "python");
    // Where there is a Python it says its version.
    let has_python = std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_ok();
    assert_eq!(python.is_some(), has_python, "{}", found["tools"]);
    assert!(!site.runs().exists());
    // Without a word of acceptance the same ends with 3 and names what to say.
    let runs = site.runs().display().to_string();
    let (code, _, said) = site.run(&["launch", SFT, "--on", "slurm", "--runs", &runs]);
    assert!(code == 3 && said.contains("--accept weights"), "{said}");
    assert!(!site.runs().exists());
}

#[test]
fn a_launch_is_submitted_and_its_job_followed() {
    let site = Site::with_profile();
    site.program("sbatch", "[ \"$1\" = --test-only ] || echo 41");
    site.program(
        "squeue",
        "echo 'PENDING|AssocGrpGRES||2026-11-25T08:00:00|x'",
    );
    let (code, out, said) = site.launch(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(out.contains("is job 41"), "{out}");
    let run = site.runs().join("qwen35_vl_4b_sft_2gpu_h100_bf16-1");
    let script = std::fs::read_to_string(run.join("launch.sh")).unwrap();
    assert!(
        script.contains(&format!("--save_dir\n    {}/checkpoints\n", run.display())),
        "{script}"
    );
    // The recipe of the run is the recipe that was launched.
    let kept = trestle(&["check", &run.join("recipe.toml").to_string_lossy()]);
    assert_eq!(kept.status.code(), Some(0), "{}", text(&kept.stderr));
    let (code, out, _) = site.job(&[]);
    assert_eq!(code, 0);
    assert!(
        out.contains("waits in the queue (AssocGrpGRES: the account's share is used up), expected to start 2026-11-25T08:00:00"),
        "{out}"
    );
    // Submitting what waits would be a second job.
    let (code, _, said) = site.job(&["--resubmit"]);
    assert!(code == 1 && said.contains("waits in the queue"), "{said}");
    site.program(
        "squeue",
        "echo 'TIMEOUT|TimeLimit|n1|2026-11-25T08:00:00|x'",
    );
    std::fs::create_dir_all(run.join("checkpoints/iter_0000500")).unwrap();
    std::fs::write(
        run.join("checkpoints/latest_checkpointed_iteration.txt"),
        "500",
    )
    .unwrap();
    std::fs::write(
        run.join("console.log"),
        " [2026-08-22 10:00:01] iteration      500/    1000 | consumed samples:        16000 | elapsed time per iteration (ms): 1000.0 | learning rate: 1.000000E-05 | global batch size:    32 | lm loss: 2.500000E+00 | loss scale: 1.0 | grad norm: 1.000 | number of skipped iterations:   0 | number of nan iterations:   0 |\n",
    )
    .unwrap();
    let (_, out, _) = site.job(&[]);
    assert!(
        out.contains("ended at its time limit") && out.contains("step 500/1000, loss 2.500"),
        "{out}"
    );
    // Tokens are told by the recipe's sequences of 4096.
    let (_, out, _) = site.run(&[
        "runs",
        "--json",
        "--runs",
        &site.runs().display().to_string(),
    ]);
    let runs: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(runs[0]["tokens"], 500 * 32 * 4096, "{out}");
    site.program("sbatch", "echo 42");
    let (code, out, said) = site.job(&["--resubmit"]);
    assert!(
        code == 0 && out.contains("is job 42, from step 500"),
        "{out}{said}"
    );
}

#[test]
fn a_daemon_that_is_down_and_a_job_that_vanished_are_told_apart() {
    let site = Site::with_profile();
    site.program("sbatch", "[ \"$1\" = --test-only ] || echo 7");
    assert_eq!(site.launch(&[]).0, 0);
    site.program(
        "squeue",
        "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
    );
    let (code, out, _) = site.job(&["--json"]);
    let state: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &state["state"]["state"]), (0, &"unreachable".into()));
    assert_eq!(state["is_final"], false);
    assert!(
        state["state"]["reason"]
            .as_str()
            .unwrap()
            .contains("Unable to contact")
    );
    // A launch meanwhile is refused before there is a run.
    site.program(
        "sbatch",
        "echo 'sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)' >&2; exit 1",
    );
    let (code, _, said) = site.launch(&[]);
    assert!(
        code == 3 && said.contains("error[slurm]") && said.contains("Unable to contact"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(site.runs()).unwrap().count(), 1);
    site.program(
        "squeue",
        "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
    );
    let (_, out, _) = site.job(&["--json"]);
    let state: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&state["state"]["state"], &state["is_final"]),
        (&"vanished".into(), &true.into())
    );
}

#[test]
fn a_full_quota_is_said_before_there_is_a_run() {
    let site = Site::with_profile();
    site.program(
        "sbatch",
        "echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2
echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user'\\''s size and/or time limits)' >&2
exit 1",
    );
    let (code, _, said) = site.launch(&[]);
    assert!(
        code == 3 && said.contains("AssocMaxSubmitJobLimit"),
        "{said}"
    );
    assert!(!site.runs().exists());
    // A disk on which names can be made and bytes not: the shell's limit stands in for a quota.
    let site = Site::with_profile();
    let runs = site.runs().display().to_string();
    let limited = format!(
        "trap '' XFSZ; ulimit -f 8; exec \"$0\" launch {SFT} --on torchrun --runs {runs} --accept weights --accept free-space --accept torch"
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_trestle")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("XDG_CONFIG_HOME", site.folder.path().join("config"))
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("error[save-folder]: cannot write to"),
        "{said}"
    );
    assert!(!site.runs().exists());
}

#[test]
fn runs_say_how_their_jobs_fare() {
    let site = Site::with_profile();
    site.program("sbatch", "[ \"$1\" = --test-only ] || echo 7");
    site.program("squeue", "echo 'PENDING|Priority||2026-11-25T08:00:00|x'");
    assert_eq!(site.launch(&[]).0, 0);
    let run = site.runs().join("qwen35_vl_4b_sft_2gpu_h100_bf16-1");
    let status = || {
        let (code, out, said) = site.run(&[
            "runs",
            "--json",
            "--runs",
            &site.runs().display().to_string(),
        ]);
        assert_eq!(code, 0, "{said}");
        let runs: serde_json::Value = serde_json::from_str(&out).unwrap();
        runs[0]["status"]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(status(), "queued");
    // Silence of the daemon changes nothing that was known.
    site.program(
        "squeue",
        "echo 'error: Unable to contact slurm controller' >&2; exit 1",
    );
    assert_eq!(status(), "queued");
    for (word, expected) in [
        ("RUNNING", "running"),
        ("REQUEUED", "queued"),
        ("SUSPENDED", "running"),
        ("COMPLETING", "running"),
    ] {
        site.program(
            "squeue",
            &format!("echo '{word}|None|n1|2026-11-25T08:00:00|x'"),
        );
        assert_eq!(status(), expected, "{word}");
    }
    for (word, expected) in [
        ("COMPLETED", "completed"),
        ("CANCELLED by 0", "stopped"),
        ("TIMEOUT", "failed"),
        ("OUT_OF_MEMORY", "failed"),
        ("FAILED", "failed"),
    ] {
        // An end is asked for once; what was noted before is forgotten here.
        let noted = std::fs::read_to_string(run.join("jobs.jsonl")).unwrap();
        let start = noted.lines().next().unwrap();
        std::fs::write(run.join("jobs.jsonl"), format!("{start}\n")).unwrap();
        site.program(
            "squeue",
            &format!("echo '{word}|None|n1|2026-11-25T08:00:00|x'"),
        );
        assert_eq!(status(), expected, "{word}");
        site.program("squeue", "echo 'RUNNING|None|n1|2026-11-25T08:00:00|x'");
        assert_eq!(status(), expected, "{word} is final");
    }
}
