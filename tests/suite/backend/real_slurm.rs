//! Slurm itself: a cluster of one node, started and stopped here. Every way that a job can end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use trestle::backend::slurm::{JobState, QueueState, Slurm};
use trestle::backend::{BackendError, Job, Profile, last_checkpoint, script, tool};

use super::real_torchrun::{PROGRAM, bridge};
use super::skipped;

/// A running cluster; dropped, it is stopped.
struct Cluster {
    folder: tempfile::TempDir,
    slurm: Slurm,
    profile: Profile,
}

fn script_of_cluster() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/cluster")
}

impl Cluster {
    fn start() -> Option<Self> {
        let needs = ["slurmctld", "slurmd", "munged", "sbatch", "python3"];
        let missing = |name: &&&str| {
            !tool::is_installed(name) && !Path::new("/usr/sbin").join(name).is_file()
        };
        if let Some(name) = needs.iter().find(missing) {
            skipped(
                "the tests with a real Slurm",
                &format!("no {name} (.ci/slurm installs slurm-wlm and munge)"),
            );
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skipped(
                "the tests with a real Slurm",
                "slurmd of Debian needs root to start jobs",
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let cluster = folder.path().join("cluster");
        let output = Command::new(script_of_cluster())
            .arg("start")
            .arg(&cluster)
            .output()
            .unwrap();
        if !output.status.success() {
            // A sandbox may forbid what the daemons need.
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            skipped(
                "the tests with a real Slurm",
                &format!("the cluster does not start here: {why}"),
            );
            return None;
        }
        let conf = String::from_utf8(output.stdout).unwrap();
        let slurm = Slurm {
            environment: vec![("SLURM_CONF".to_owned(), PathBuf::from(conf.trim()))],
            limit: Duration::from_secs(15),
        };
        let profile = Profile {
            bridge: Some(bridge(folder.path(), PROGRAM)),
            python: vec!["python3".to_owned()],
            partition: Some("test".to_owned()),
            gpus_per_node: 2,
            request_gpus: false,
            time_limit: "00:10:00".to_owned(),
            ..Profile::new("test")
        };
        Some(Self {
            folder,
            slurm,
            profile,
        })
    }

    fn control(&self, word: &str) {
        let status = Command::new(script_of_cluster())
            .arg(word)
            .arg(self.folder.path().join("cluster"))
            .status()
            .unwrap();
        assert!(status.success(), "{word}");
    }

    fn program(&self, words: &[&str]) -> String {
        let output = Command::new(words[0])
            .args(&words[1..])
            .envs(self.slurm.environment.iter().map(|(k, v)| (k, v)))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A job of two ranks in the run directory `name`, for so many steps.
    fn job(&self, name: &str, steps: u64) -> Job {
        let mut job = super::job(&self.folder.path().join(name));
        job.parallel.tp = 1;
        job.parallel.dp = 2;
        job.sizes.steps = Some(steps);
        job.environment
            .insert("TRESTLE_NO_TORCH".to_owned(), "1".to_owned());
        job
    }

    fn submit(&self, job: &Job, profile: &Profile) -> String {
        std::fs::create_dir_all(&job.folders.run).unwrap();
        let path = job.folders.run.join(script::SCRIPT);
        std::fs::write(&path, script::slurm(job, profile).unwrap()).unwrap();
        self.slurm.submit(&path).unwrap()
    }

    fn state(&self, number: &str, job: &Job) -> QueueState {
        self.slurm.state(number, &job.folders.run)
    }

    fn wait(&self, number: &str, job: &Job, done: impl Fn(&QueueState) -> bool) -> QueueState {
        let begin = Instant::now();
        loop {
            let state = self.state(number, job);
            if done(&state) {
                return state;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(90),
                "{state:?}\n{}",
                output(job)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn ended(&self, number: &str, job: &Job) -> QueueState {
        self.wait(number, job, |s| s.state.is_final())
    }

    /// Waits until both ranks are at work.
    fn at_work(&self, number: &str, job: &Job) {
        self.wait(number, job, |_| output(job).contains("step 2"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(script_of_cluster())
            .arg("stop")
            .arg(self.folder.path().join("cluster"))
            .status();
    }
}

/// All that the jobs of a run directory printed.
fn output(job: &Job) -> String {
    std::fs::read_to_string(job.folders.run.join("console.log")).unwrap_or_default()
}

/// One test, since one cluster serves for all of it: starting one takes seconds.
#[test]
fn jobs_are_followed_to_every_kind_of_end() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    the_program_does_all_of_it(&cluster);
    completes(&cluster);
    fails(&cluster);
    is_stopped_with_a_checkpoint_and_submitted_again(&cluster);
    waits_and_is_cancelled(&cluster);
    is_queued_again(&cluster);
    is_refused(&cluster);
    reaches_its_time_limit(&cluster);
    vanishes(&cluster);
    survives_a_silent_controller(&cluster);
}

/// A published recipe from the command line: launched, listed, stopped with a checkpoint, submitted again, cancelled.
fn the_program_does_all_of_it(cluster: &Cluster) {
    let runs = cluster.folder.path().join("runs").display().to_string();
    let config = cluster.folder.path().join("config");
    std::fs::create_dir_all(config.join("trestle")).unwrap();
    let profile = format!(
        "[test]\nbridge = {:?}\npython = [\"python3\"]\npartition = \"test\"\ngpus_per_node = 2\nrequest_gpus = false\ntime_limit = \"00:10:00\"\n",
        cluster
            .profile
            .bridge
            .as_ref()
            .unwrap()
            .display()
            .to_string()
    );
    std::fs::write(config.join("trestle/profiles.toml"), profile).unwrap();
    let program = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_trestle"))
            .args(words)
            .args(["--json", "--runs", &runs])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("XDG_CONFIG_HOME", &config)
            .env("TRESTLE_NO_TORCH", "1")
            .envs(cluster.slurm.environment.iter().map(|(k, v)| (k, v)))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}{wrong}");
        serde_json::from_str::<serde_json::Value>(&said).unwrap_or_default()
    };
    let until = |what: &str, done: &dyn Fn(&serde_json::Value) -> bool| {
        let begin = Instant::now();
        loop {
            let job = program(&["job", "last"]);
            if done(&job) {
                return job;
            }
            assert!(begin.elapsed() < Duration::from_secs(90), "{what}: {job}");
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    let started = program(&[
        "launch",
        "recipes/megatron/qwen35_vl_4b_sft_2gpu_h100_bf16.toml",
        "--on",
        "slurm",
        "--set",
        "train.steps=1000000",
        "--accept",
        "weights",
        "--accept",
        "free-space",
    ]);
    let run = PathBuf::from(started["path"].as_str().unwrap());
    let console = || std::fs::read_to_string(run.join("console.log")).unwrap_or_default();
    until("at work", &|_| {
        let said = console();
        said.contains("step 2") && said.contains("rank 1 world")
    });
    let listed = program(&["runs"]);
    assert_eq!(listed[0]["status"]["state"], "running", "{listed}");
    program(&["job", "last", "--stop"]);
    let job = until("its end", &|job| job["is_final"] == true);
    let step = job["last_checkpoint"].as_u64().expect("a last checkpoint");
    assert!(step >= 2, "{job}");
    program(&["job", "last", "--resubmit"]);
    until("resumed", &|_| {
        console().contains(&format!("rank 0 from step {step}"))
    });
    program(&["job", "last", "--cancel"]);
    let job = until("cancelled", &|job| job["is_final"] == true);
    assert_eq!(job["state"]["state"], "cancelled", "{job}");
    assert_eq!(program(&["runs"])[0]["status"]["state"], "stopped");
}

fn completes(cluster: &Cluster) {
    // A folder that a careless script would trip over.
    let job = cluster.job("it's 100% done", 5);
    let number = cluster.submit(&job, &cluster.profile);
    let state = cluster.ended(&number, &job);
    let said = output(&job);
    assert_eq!(state.state, JobState::Completed, "{said}");
    assert!(state.nodes.is_some() && state.start.is_some(), "{state:?}");
    assert!(
        said.contains("rank 0 world") && said.contains("rank 1 world"),
        "{said}"
    );
    assert_eq!(last_checkpoint(&job.folders.save), Some(5));
}

fn fails(cluster: &Cluster) {
    let mut job = cluster.job("fails", 50);
    job.environment
        .insert("TRESTLE_FAIL_AT".to_owned(), "2".to_owned());
    let number = cluster.submit(&job, &cluster.profile);
    let state = cluster.ended(&number, &job);
    assert_eq!(
        (state.state, state.exit_code),
        (JobState::Failed, Some(3)),
        "{}",
        output(&job)
    );
    assert_eq!(last_checkpoint(&job.folders.save), None);
}

fn is_stopped_with_a_checkpoint_and_submitted_again(cluster: &Cluster) {
    let mut job = cluster.job("stopped", 1_000_000);
    let number = cluster.submit(&job, &cluster.profile);
    cluster.at_work(&number, &job);
    cluster.slurm.stop(&number).unwrap();
    cluster.ended(&number, &job);
    let step = last_checkpoint(&job.folders.save).expect("a last checkpoint");
    assert!(step >= 2);
    job.sizes.steps = Some(step + 3);
    let again = cluster.submit(&job, &cluster.profile);
    assert_ne!(number, again);
    let state = cluster.ended(&again, &job);
    assert_eq!(state.state, JobState::Completed, "{}", output(&job));
    assert!(output(&job).contains(&format!("from step {step}")));
    assert_eq!(last_checkpoint(&job.folders.save), Some(step + 3));
}

fn waits_and_is_cancelled(cluster: &Cluster) {
    let first = cluster.job("holds", 1_000_000);
    let exclusive = Profile {
        exclusive: true,
        ..cluster.profile.clone()
    };
    let holder = cluster.submit(&first, &exclusive);
    cluster.at_work(&holder, &first);
    let second = cluster.job("waits", 5);
    let waiter = cluster.submit(&second, &exclusive);
    let state = cluster.wait(&waiter, &second, |s| {
        s.reason
            .as_deref()
            .is_some_and(|r| ["Resources", "Priority"].contains(&r))
            && s.start.is_some()
    });
    assert_eq!(state.state, JobState::Pending);
    for (number, job) in [(&waiter, &second), (&holder, &first)] {
        cluster.slurm.cancel(number).unwrap();
        assert_eq!(cluster.ended(number, job).state, JobState::Cancelled);
    }
}

fn is_queued_again(cluster: &Cluster) {
    let job = cluster.job("requeued", 40);
    let number = cluster.submit(&job, &cluster.profile);
    cluster.at_work(&number, &job);
    cluster.program(&["scontrol", "requeue", &number]);
    cluster.wait(&number, &job, |s| s.state == JobState::Pending);
    // A job that was queued again waits two minutes by Slurm's own rule; nobody here has so much time.
    cluster.program(&[
        "scontrol",
        "update",
        &format!("jobid={number}"),
        "starttime=now",
    ]);
    let state = cluster.ended(&number, &job);
    assert_eq!(state.state, JobState::Completed, "{}", output(&job));
    let noted = std::fs::read_to_string(job.folders.run.join(script::STATUS)).unwrap();
    assert!(noted.ends_with(&format!("0 {number} 1\n")), "{noted}");
}

fn is_refused(cluster: &Cluster) {
    let job = cluster.job("refused", 5);
    let elsewhere = Profile {
        partition: Some("nowhere".to_owned()),
        ..cluster.profile.clone()
    };
    std::fs::create_dir_all(&job.folders.run).unwrap();
    let path = job.folders.run.join(script::SCRIPT);
    std::fs::write(&path, script::slurm(&job, &elsewhere).unwrap()).unwrap();
    let error = cluster.slurm.submit(&path).unwrap_err();
    assert!(
        matches!(&error, BackendError::Refused { reason, .. } if reason.contains("partition")),
        "{error}"
    );
}

/// The limit is shortened while the job runs, because Slurm's own least is a minute.
fn reaches_its_time_limit(cluster: &Cluster) {
    let job = cluster.job("limited", 1_000_000);
    let profile = Profile {
        time_limit: "00:01:00".to_owned(),
        checkpoint_seconds: 50,
        go_on: true,
        ..cluster.profile.clone()
    };
    let number = cluster.submit(&job, &profile);
    // The signal comes, a checkpoint is written, and the job queues again since it made progress.
    cluster.wait(&number, &job, |_| {
        last_checkpoint(&job.folders.save).is_some()
    });
    let state = cluster.wait(&number, &job, |s| s.state == JobState::Pending);
    assert!(!state.state.is_final());
    cluster.slurm.cancel(&number).unwrap();
    assert_eq!(cluster.ended(&number, &job).state, JobState::Cancelled);
}

fn vanishes(cluster: &Cluster) {
    let job = cluster.job("never", 5);
    assert_eq!(cluster.state("4000000", &job).state, JobState::Vanished);
    // What the queue has forgotten, the script's own note tells.
    std::fs::create_dir_all(&job.folders.run).unwrap();
    std::fs::write(
        job.folders.run.join(script::STATUS),
        "0 1 0\n7 4000000 0\ntorn",
    )
    .unwrap();
    let state = cluster.state("4000000", &job);
    assert_eq!((state.state, state.exit_code), (JobState::Failed, Some(7)));
}

fn survives_a_silent_controller(cluster: &Cluster) {
    let job = cluster.job("silence", 5);
    let number = cluster.submit(&job, &cluster.profile);
    cluster.ended(&number, &job);
    let hasty = Slurm {
        limit: Duration::from_millis(1500),
        ..cluster.slurm.clone()
    };
    cluster.control("pause");
    let state = hasty.state(&number, &job.folders.run);
    cluster.control("continue");
    assert_eq!(state.state, JobState::Unreachable, "{state:?}");
    assert!(!state.state.is_final());
    assert_eq!(cluster.state(&number, &job).state, JobState::Completed);
    // And one that is gone for good.
    cluster.control("stop");
    let state = hasty.state(&number, &job.folders.run);
    assert_eq!(state.state, JobState::Unreachable, "{state:?}");
    assert!(state.reason.is_some());
}
