//! Versions of what a launch uses, asked of the tools themselves.

use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::Finding;
use crate::backend::profile::Profile;
use crate::backend::{Place, tool};

/// How long a tool may take to say its version. Python on a shared file system is slow at first.
const LIMIT: Duration = Duration::from_secs(20);

/// The least version of transformers that knows the family.
const TRANSFORMERS: (u32, u32) = (5, 2);

/// Asks for versions without importing anything that is large.
const QUESTION: &str = "\
import importlib.metadata as m, platform
print('python', platform.python_version())
for name in ('torch', 'megatron-core', 'megatron-bridge', 'transformer-engine', 'transformers'):
    try:
        print(name, m.version(name))
    except m.PackageNotFoundError:
        pass
";

/// A tool and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version as it says it.
    pub version: String,
}

/// What is there, and what is wrong with it, for a job of so many GPUs. What is in a container or behind modules cannot be asked from here.
pub fn tools(profile: &Profile, place: Place, gpus: usize) -> (Vec<Tool>, Vec<Finding>) {
    let mut there = Vec::new();
    let mut found = Vec::new();
    match place {
        Place::Slurm if tool::is_installed("sbatch") => there.extend(slurm()),
        Place::Slurm => {}
        Place::Torchrun => driver(gpus, &mut there, &mut found),
    }
    if profile.container.is_none() && profile.modules.is_empty() {
        python(profile, place, &mut there, &mut found);
    }
    (there, found)
}

fn slurm() -> Option<Tool> {
    let mut command = Command::new("sbatch");
    command.arg("--version");
    let answer = tool::ask(command, LIMIT).ok()?;
    let (name, version) = answer.out.trim().split_once(' ')?;
    Some(Tool {
        name: name.to_owned(),
        version: version.to_owned(),
    })
}

/// The GPUs of this machine, as the driver lists them.
fn driver(gpus: usize, there: &mut Vec<Tool>, found: &mut Vec<Finding>) {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=name,driver_version", "--format=csv,noheader"]);
    let answer = tool::ask(command, LIMIT).ok().filter(|a| a.success);
    let lines: Vec<&str> = answer.as_ref().map_or(vec![], |a| a.out.lines().collect());
    let has = lines.len();
    if let Some((name, version)) = lines.first().and_then(|line| line.split_once(", ")) {
        there.push(Tool {
            name: format!("{has} {name}, driver"),
            version: version.to_owned(),
        });
    }
    if answer.is_none() {
        let message = "nvidia-smi finds no GPU on this machine".to_owned();
        found.push(Finding::warning("gpus", message, None));
    } else if has < gpus {
        let message = format!("the job takes {gpus} GPUs, and this machine has {has}");
        found.push(Finding::error("gpus", message, None));
    }
}

fn python(profile: &Profile, place: Place, there: &mut Vec<Tool>, found: &mut Vec<Finding>) {
    // Slurm's nodes may have what this one lacks.
    let finding = |code: &str, message: String| match place {
        Place::Torchrun => Finding::error(code, message, Some("`python` of the profile".into())),
        Place::Slurm => Finding::warning(code, format!("{message}, here at least"), None),
    };
    let Some((program, words)) = profile.python.split_first() else {
        return;
    };
    let mut command = Command::new(program);
    command.args(words).args(["-c", QUESTION]);
    if let Some(bridge) = profile.bridge.as_ref().filter(|folder| folder.is_dir()) {
        command.current_dir(bridge);
    }
    let answer = match tool::ask(command, LIMIT) {
        Ok(answer) if answer.success => answer,
        Ok(answer) => {
            let why = answer.error.lines().last().unwrap_or("no reason was given");
            let message = format!("`{}` does not run Python: {why}", profile.python.join(" "));
            found.push(finding("python", message));
            return;
        }
        Err(error) => {
            found.push(finding("python", error.to_string()));
            return;
        }
    };
    there.extend(answer.out.lines().filter_map(|line| {
        let (name, version) = line.trim().split_once(' ')?;
        Some(Tool {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }));
    let version = |name: &str| there.iter().find(|t| t.name == name).map(|t| &t.version);
    if version("torch").is_none() {
        let message = format!("`{}` has no torch", profile.python.join(" "));
        found.push(finding("torch", message));
    }
    if let Some(version) = version("transformers")
        && numbers(version).is_some_and(|have| have < TRANSFORMERS)
    {
        let (major, minor) = TRANSFORMERS;
        found.push(Finding::warning(
            "transformers",
            format!(
                "transformers {version} does not know the model; it takes {major}.{minor} or later"
            ),
            None,
        ));
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("5.10.1") > Some(TRANSFORMERS));
        assert!(numbers("4.57.0") < Some(TRANSFORMERS));
        assert_eq!(numbers("unknown"), None);
    }

    #[test]
    fn a_python_that_is_not_there_stops_torchrun_and_only_warns_for_slurm() {
        let profile = Profile {
            python: vec!["no-such-python".into()],
            ..Profile::new("x")
        };
        let severity = |place| {
            let (_, found) = tools(&profile, place, 1);
            let python = found.into_iter().find(|f| f.code == "python");
            python.expect("it is not there").severity
        };
        assert_eq!(severity(Place::Torchrun), crate::base::Severity::Error);
        assert_eq!(severity(Place::Slurm), crate::base::Severity::Warning);
        let inside = Profile {
            container: Some("image".into()),
            ..profile
        };
        let found = tools(&inside, Place::Torchrun, 1).1;
        assert!(found.iter().all(|f| f.code == "gpus"), "{found:?}");
    }
}
