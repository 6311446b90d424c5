//! What would keep a job from starting, looked up before anybody waits for it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::profile::Profile;
use super::{Job, last_checkpoint, tool};
use crate::base::Severity;

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

    fn warning(code: &str, message: String, hint: Option<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message, hint)
        }
    }
}

/// What a job needs of the machine that it is launched from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether the job starts from weights; a job from scratch needs none.
    pub weights: bool,
    /// Bytes of a full checkpoint.
    pub checkpoint_bytes: u64,
    /// Hugging Face weights that could be converted, for the hint.
    pub hugging_face: Option<PathBuf>,
    /// Programs that the launch itself needs.
    pub programs: Vec<&'static str>,
}

/// Everything that would keep `job` from starting or going on, as far as this machine can tell.
pub fn check(job: &Job, profile: &Profile, needs: &Needs) -> Vec<Finding> {
    let mut found = Vec::new();
    for program in &needs.programs {
        if !tool::is_installed(program) {
            found.push(Finding::error(
                "program",
                format!("{program} is not on the PATH"),
                None,
            ));
        }
    }
    environment(profile, &mut found);
    if profile.container.is_none() {
        bridge(profile, &mut found);
    }
    weights(job, needs, &mut found);
    save(job, needs, &mut found);
    budget(job, &mut found);
    found
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

/// Weights to start from, or the conversion that would make them.
fn weights(job: &Job, needs: &Needs, found: &mut Vec<Finding>) {
    if last_checkpoint(&job.folders.load).is_some() {
        return;
    }
    let convert = needs.hugging_face.as_ref().map(|weights| {
        let into = job
            .folders
            .pretrained
            .clone()
            .unwrap_or_else(|| job.folders.run.join("pretrained"));
        format!(
            "trestle convert import {} {}",
            super::shell::word(&weights.to_string_lossy()),
            super::shell::word(&into.to_string_lossy())
        )
    });
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
    // A folder that cannot be written to costs a job its first checkpoint, hours later.
    let probe = existing.join(format!(".trestle-{}", std::process::id()));
    match fs::File::create_new(&probe) {
        Ok(file) => {
            drop(file);
            let _ = fs::remove_file(&probe);
        }
        Err(error) => found.push(Finding::error(
            "save-folder",
            format!("cannot write to {}: {error}", existing.display()),
            None,
        )),
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
    if let (Some(every), Some(steps)) = (sizes.save_interval, sizes.steps)
        && every > steps
    {
        found.push(Finding::warning(
            "save-interval",
            format!("a checkpoint every {every} steps is never due in {steps} steps"),
            None,
        ));
    }
}

/// Tokens of the whole job, if its sizes are known.
pub fn tokens(job: &Job) -> Option<u64> {
    let sizes = &job.sizes;
    let step = (sizes.global_batch_size? as u64).checked_mul(sizes.seq_length? as u64)?;
    step.checked_mul(sizes.steps?)
}
