//! What would keep a job from starting, looked up before anybody waits for it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::profile::Profile;
use super::{Job, Place, last_checkpoint, tool};
use crate::base::Severity;

mod tools;

pub use tools::{Tool, tools};

/// Something to know before a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name, by which it can be accepted.
    pub code: String,
    /// Errors keep a job from being launched unless they are accepted.
    pub severity: Severity,
    /// What is wrong, with the values that disagree.
    pub message: String,
    /// What can be done.
    pub hint: Option<String>,
}

impl Finding {
    /// An error.
    pub fn error(code: &str, message: String, hint: Option<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            message,
            hint,
        }
    }

    /// A warning.
    pub fn warning(code: &str, message: String, hint: Option<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message, hint)
        }
    }
}

/// What a job needs beyond its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Where it runs.
    pub place: Place,
    /// Whether nothing will be started, so that what starting needs may be missing.
    pub is_dry: bool,
    /// Whether the job starts from weights; a job from scratch needs none.
    pub weights: bool,
    /// Bytes of a full checkpoint.
    pub checkpoint_bytes: u64,
    /// Hugging Face weights that could be converted: a folder, or an id of the Hub.
    pub source: Option<String>,
    /// GPUs of a node of the machine that the recipe is for.
    pub gpus_per_node: Option<usize>,
}

/// Everything that would keep `job` from starting or going on, as far as this machine can tell.
pub fn check(job: &Job, profile: &Profile, needs: &Needs) -> Vec<Finding> {
    let mut found = Vec::new();
    programs(needs, &mut found);
    nodes(job, profile, needs, &mut found);
    environment(profile, &mut found);
    if profile.container.is_none() {
        bridge(profile, &mut found);
    } else {
        mounts(job, profile, &mut found);
    }
    weights(job, needs, &mut found);
    if job.saves {
        save(job, needs, &mut found);
    }
    budget(job, &mut found);
    found
}

fn programs(needs: &Needs, found: &mut Vec<Finding>) {
    let programs: &[&str] = match needs.place {
        Place::Torchrun => &["bash"],
        Place::Slurm => &["sbatch", "squeue", "scancel", "scontrol"],
    };
    for program in programs.iter().filter(|name| !tool::is_installed(name)) {
        let message = format!("{program} is not on the PATH");
        found.push(if needs.is_dry {
            Finding::warning("program", message, None)
        } else {
            Finding::error("program", message, None)
        });
    }
}

/// Nodes that would be unlike, or more GPUs than the one machine has.
fn nodes(job: &Job, profile: &Profile, needs: &Needs, found: &mut Vec<Finding>) {
    let (gpus, a_node) = (job.gpus(), profile.gpus_per_node);
    match needs.place {
        Place::Torchrun if gpus > a_node => found.push(Finding::error(
            "one-machine",
            format!(
                "the job takes {gpus} GPUs, and profile `{}` says that this machine has {a_node}",
                profile.name
            ),
            Some("--on slurm spreads it over nodes".to_owned()),
        )),
        Place::Slurm if job.nodes(a_node).is_none() => found.push(Finding::error(
            "nodes",
            format!(
                "{gpus} GPUs do not fill nodes of {a_node}, as profile `{}` has them",
                profile.name
            ),
            None,
        )),
        _ => {}
    }
    if let Some(theirs) = needs.gpus_per_node.filter(|theirs| *theirs != a_node) {
        found.push(Finding::warning(
            "gpus-per-node",
            format!(
                "the recipe is for nodes of {theirs} GPUs, and those of profile `{}` have {a_node}",
                profile.name
            ),
            None,
        ));
    }
}

fn environment(profile: &Profile, found: &mut Vec<Finding>) {
    for name in &profile.environment {
        if std::env::var_os(name).is_none_or(|value| value.is_empty()) {
            found.push(Finding::error(
                "environment",
                format!(
                    "the variable {name} is not set, and profile `{}` names it",
                    profile.name
                ),
                Some(format!("export {name}=...")),
            ));
        }
    }
}

fn bridge(profile: &Profile, found: &mut Vec<Finding>) {
    let Some(folder) = &profile.bridge else {
        found.push(Finding::error(
            "bridge",
            format!(
                "profile `{}` does not say where Megatron-Bridge lies",
                profile.name
            ),
            Some("bridge = \"/path/to/Megatron-Bridge\"".to_owned()),
        ));
        return;
    };
    let script = folder.join("scripts/training/run_recipe.py");
    if !script.is_file() {
        found.push(Finding::error(
            "bridge",
            format!("{} is missing", script.display()),
            Some("the profile's `bridge` is the folder of a Megatron-Bridge clone".to_owned()),
        ));
    }
}

/// Folders that the processes in the container would not see under the path that they are told.
fn mounts(job: &Job, profile: &Profile, found: &mut Vec<Finding>) {
    let folders = &job.folders;
    let mut paths = vec![&folders.run, &folders.save, &folders.tensorboard];
    paths.extend(&folders.pretrained);
    let is_seen = |path: &Path| {
        profile.mounts.iter().any(|mount| {
            let mut parts = mount.split(':');
            let host = parts.next().unwrap_or_default();
            let inside = parts.next().unwrap_or(host);
            host == inside && path.starts_with(host)
        })
    };
    if let Some(path) = paths.into_iter().find(|path| !is_seen(path)) {
        found.push(Finding::warning(
            "mount",
            format!(
                "no mount of profile `{}` puts {} into the container under the same path",
                profile.name,
                path.display()
            ),
            Some("mounts = [\"/shared:/shared\"] in the profile".to_owned()),
        ));
    }
}

/// Weights to start from, or the conversion that would make them.
fn weights(job: &Job, needs: &Needs, found: &mut Vec<Finding>) {
    if last_checkpoint(&job.folders.load).is_some() {
        return;
    }
    let convert = needs.source.as_ref().map(|source| conversion(job, source));
    let Some(folder) = &job.folders.pretrained else {
        if needs.weights {
            found.push(Finding::error(
                "weights",
                "fine-tuning needs weights to start from, and the recipe names none".to_owned(),
                convert,
            ));
        }
        return;
    };
    if !folder.exists() {
        found.push(Finding::error(
            "weights",
            format!("{} does not exist", folder.display()),
            convert,
        ));
        return;
    }
    let is_iteration = folder.join(".metadata").is_file();
    let is_hugging_face = folder.join("config.json").is_file();
    if !is_iteration && !is_hugging_face && last_checkpoint(folder).is_none() {
        found.push(Finding::error(
            "weights",
            format!(
                "{} holds neither a complete Megatron checkpoint nor Hugging Face weights",
                folder.display()
            ),
            convert,
        ));
    }
}

/// The command that makes the weights a job lacks.
fn conversion(job: &Job, source: &str) -> String {
    let word = |path: &Path| super::shell::word(&path.to_string_lossy());
    let named = job.folders.pretrained.as_deref();
    // Beside the runs, where the next run finds it too.
    let runs = job.folders.run.parent().unwrap_or(Path::new("."));
    let beside = runs.join("pretrained").join(&job.model);
    let into = word(named.unwrap_or(&beside));
    let source_word = super::shell::word(source);
    let fetch = if Path::new(source).exists() {
        String::new()
    } else {
        format!("trestle fetch {source_word} && ")
    };
    let then = match named {
        Some(_) => String::new(),
        None => format!(", then --pretrained {into}"),
    };
    format!("{fetch}trestle convert import {source_word} {into} --dtype bfloat16{then}")
}

/// How many files were tried so far, for their names.
static PROBES: AtomicU64 = AtomicU64::new(0);

/// The nearest folder above `path` that exists.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| folder.is_dir())
}

fn save(job: &Job, needs: &Needs, found: &mut Vec<Finding>) {
    let folder = &job.folders.save;
    let Some(existing) = existing(folder) else {
        return;
    };
    if job.folders.load != *folder && last_checkpoint(folder).is_some() {
        found.push(Finding::error(
            "save-folder",
            format!(
                "{} holds checkpoints of another run, and this one resumes from {}",
                folder.display(),
                job.folders.load.display()
            ),
            None,
        ));
    }
    let Ok(space) = rustix::fs::statvfs(existing) else {
        return;
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < needs.checkpoint_bytes {
        found.push(Finding::error(
            "free-space",
            format!(
                "a checkpoint takes {:.1} GB and {} has {:.1} GB free",
                needs.checkpoint_bytes as f64 / 1e9,
                existing.display(),
                free as f64 / 1e9
            ),
            None,
        ));
    }
    // A folder that cannot be written to costs a job its first checkpoint, hours later. A quota shows only when bytes are written.
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let probe = existing.join(format!(".trestle-{}-{number}", std::process::id()));
    let written = fs::File::create_new(&probe).and_then(|mut file| {
        file.write_all(&[0; 16 << 10])?;
        file.sync_all()
    });
    let _ = fs::remove_file(&probe);
    if let Err(error) = written {
        found.push(Finding::error(
            "save-folder",
            format!("cannot write to {}: {error}", existing.display()),
            None,
        ));
    }
}

/// Tokens that the job will see, and warm-up and decay that do not fit its length.
fn budget(job: &Job, found: &mut Vec<Finding>) {
    let sizes = &job.sizes;
    if let (Some(warmup), Some(steps)) = (sizes.warmup_steps, sizes.steps)
        && warmup >= steps
    {
        found.push(Finding::warning(
            "warmup",
            format!("{warmup} steps of warm-up do not fit {steps} steps of training"),
            Some("--set schedule.warmup_steps=N".to_owned()),
        ));
    }
    if let (Some(decay), Some(steps)) = (sizes.decay_steps, sizes.steps)
        && decay > steps
    {
        found.push(Finding::warning(
            "decay",
            format!("the learning rate falls over {decay} steps and training ends after {steps}: it never gets low"),
            Some(format!("--set schedule.decay_steps={steps}")),
        ));
    }
    if let (true, Some(every), Some(steps)) = (job.saves, sizes.save_interval, sizes.steps)
        && every > steps
    {
        found.push(Finding::warning(
            "save-interval",
            format!("a checkpoint every {every} steps is never due in {steps} steps; only the end or a stop writes one"),
            Some(format!("--set checkpoint.interval={steps}")),
        ));
    }
}

/// Tokens of the whole job, if its sizes are known.
pub fn tokens(job: &Job) -> Option<u64> {
    let sizes = &job.sizes;
    let step = (sizes.global_batch_size? as u64).checked_mul(sizes.seq_length? as u64)?;
    step.checked_mul(sizes.steps?)
}
