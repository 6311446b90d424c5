//! A launch beyond this machine's trainer: looked at, then made.
//!
//! [`prepare`] reads, plans and looks around and changes nothing; what it returns can be shown, refused or [started](Prepared::start).

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::handover::{self, Extra, Handover, Unsaid};
use super::preflight::{self, Finding, Needs, Tool};
use super::profile::{Profile, Profiles, Unusable};
use super::record::{self, Entry};
use super::slurm::Slurm;
use super::{BackendError, Job, script, torchrun};
use crate::base::{Diagnostic, Severity};
use crate::event::layout;
use crate::plan::{self, machine};
use crate::recipe::{self, Loaded};
use crate::run::{self, CreateRun, RunDirectory, RunError};
use crate::spec;

/// Code of the warning that our own trainer does not spread a layout.
const ONE_PROCESS: &str = "W0405";

/// Where a job of Megatron-Bridge runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On this machine, a process a GPU.
    Torchrun,
    /// In a Slurm cluster.
    Slurm,
}

/// What shall be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// `key=value` overrides of the recipe.
    pub sets: Vec<String>,
    /// Where it runs.
    pub place: Place,
    /// The profile's name; none takes the only one.
    pub profile: Option<String>,
    /// Name of the run; none is made from the recipe's.
    pub name: Option<String>,
    /// What is said beside the recipe.
    pub extra: Extra,
    /// Problems that are accepted by name.
    pub accept: Vec<String>,
    /// Words to find the run by.
    pub tags: Vec<String>,
    /// The folder of runs; none takes the recipe's.
    pub runs: Option<PathBuf>,
    /// Whether nothing will be started.
    pub is_dry: bool,
}

/// Why a launch cannot even be looked at.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// There is no profile.
    #[error(transparent)]
    Profile(#[from] Unusable),
    /// The recipe has errors of its own.
    #[error("{} is not valid", .0.path.display())]
    Recipe(Box<Loaded>),
    /// It lacks what upstream must know.
    #[error("{}", .0.message)]
    Unsaid(Unsaid),
    /// There is no working folder.
    #[error("no working folder: {0}")]
    Folder(#[from] std::io::Error),
    /// The run directory cannot be made.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It could not be started; the run directory is there and it can be submitted again.
    #[error("{source}")]
    Start {
        /// The run.
        run: Box<RunDirectory>,
        /// Why not.
        source: BackendError,
    },
    /// A script cannot be made.
    #[error(transparent)]
    Script(BackendError),
    /// It has problems that were not accepted.
    #[error("it cannot start: {}", .0.join(", "))]
    Refused(Vec<String>),
}

/// A launch that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// What was asked for.
    pub request: Request,
    /// The profile.
    pub profile: Profile,
    /// What is wrong with other profiles of the file.
    pub profile_problems: Vec<Diagnostic>,
    /// What is launched.
    pub job: Job,
    /// The recipe with its diagnostics.
    pub loaded: Loaded,
    /// What the plan found.
    pub planned: Vec<Finding>,
    /// What else was found.
    pub findings: Vec<Finding>,
    /// Tools and their versions, as far as they could be asked.
    pub tools: Vec<Tool>,
    recipe_toml: String,
    runs: PathBuf,
    name: String,
}

/// Reads the recipe and the profile, plans, and looks at what the launch needs.
pub fn prepare(request: Request, profiles: &Profiles) -> Result<Prepared, LaunchError> {
    let profile = profiles.choose(request.profile.as_deref())?;
    let profile = match request.place {
        Place::Slurm => profile.clone(),
        Place::Torchrun => profile.outside(),
    };
    let here = std::env::current_dir()?;
    let mut loaded = recipe::load(&request.recipe, &request.sets, &|path| {
        fs::read_to_string(path)
    });
    if !loaded.is_readable() || loaded.recipe.is_none() && loaded.megatron.is_none() {
        return Err(LaunchError::Recipe(Box::new(loaded)));
    }
    // That our own trainer has one process is no matter here.
    loaded.diagnostics.retain(|d| d.code != ONE_PROCESS);
    loaded.recipe = loaded.recipe.map(|own| own.with_absolute_paths(&here));
    let name = request.name.clone().unwrap_or_else(|| {
        let stem = request.recipe.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    });
    let runs = match (&request.runs, &loaded.recipe) {
        (Some(runs), _) => here.join(runs),
        (None, Some(own)) => here.join(&own.logging.runs),
        (None, None) => here.join("runs"),
    };
    let handed =
        handover::hand_over(&loaded, &name, &request.extra, &here).map_err(LaunchError::Unsaid)?;
    let mut job = handed.job.clone();
    let is_named = |folder: &Path| !folder.as_os_str().is_empty();
    place(&mut job, &runs.join(&name), is_named);
    let planned = planned(&handed);
    let mut findings = handed.findings.clone();
    findings.extend(memory(&handed));
    findings.extend(preflight::check(&job, &profile, &needs(&request, &handed)));
    let (tools, wrong) = preflight::tools(&profile, request.place, job.gpus());
    findings.extend(wrong);
    let mut prepared = Prepared {
        profile_problems: profiles.problems.clone(),
        recipe_toml: handed.recipe_toml,
        request,
        profile,
        job,
        loaded,
        planned,
        findings,
        tools,
        runs,
        name,
    };
    prepared.ask_slurm();
    let accepted = prepared.request.accept.clone();
    let known = prepared.all().map(|f| f.code.clone());
    let mut codes: Vec<String> = known.filter(|code| accepted.contains(code)).collect();
    codes.sort();
    codes.dedup();
    prepared.job.accepted = codes;
    Ok(prepared)
}

/// Gives a job the folders that its recipe does not name, all of the run's own, so that it resumes nobody else's checkpoints.
fn place(job: &mut Job, run: &Path, is_named: impl Fn(&Path) -> bool) {
    let folders = &mut job.folders;
    run.clone_into(&mut folders.run);
    if !is_named(&folders.save) {
        folders.save = run.join(layout::CHECKPOINTS);
    }
    if !is_named(&folders.load) {
        folders.load.clone_from(&folders.save);
    }
    if !is_named(&folders.tensorboard) {
        folders.tensorboard = run.join(layout::TENSORBOARD);
    }
}

/// What the plan says about the job.
fn planned(handed: &Handover) -> Vec<Finding> {
    plan::problems(&handed.planned)
        .into_iter()
        .map(|problem| {
            let ways: Vec<String> = problem.fixes.iter().map(recipe::change).collect();
            Finding {
                code: problem.code.to_owned(),
                severity: problem.severity,
                message: problem.message,
                hint: (!ways.is_empty()).then(|| format!("set {}", ways.join("; or "))),
            }
        })
        .collect()
}

/// A rank that holds more than a GPU has. The plan's figures are estimates, so this is a warning.
fn memory(handed: &Handover) -> Option<Finding> {
    let machine = machine::machine(handed.hardware.as_deref()?)?;
    let plan = plan::plan(&handed.planned, machine).ok()?;
    let (fullest, has) = (plan.fullest(), machine.memory());
    (fullest > has).then(|| {
        Finding::warning(
            "memory",
            format!(
                "the fullest rank takes {fullest} by estimate, and an {} has {has}",
                machine.gpu
            ),
            Some("`trestle plan RECIPE` says of what; `--fit` finds other layouts".to_owned()),
        )
    })
}

fn needs(request: &Request, handed: &Handover) -> Needs {
    let parameters = spec::parameters(&handed.planned.model.text).total;
    Needs {
        place: request.place,
        is_dry: request.is_dry,
        weights: handed.needs_weights,
        // bf16 weights, f32 master weights and two f32 moments; of adapters only, next to nothing.
        checkpoint_bytes: match handed.planned.megatron.tuning {
            plan::Tuning::Full(_) => parameters.saturating_mul(14),
            plan::Tuning::Lora { .. } => parameters / 10,
        },
        source: handed.source.clone(),
        gpus_per_node: handed.gpus_per_node,
    }
}

impl Prepared {
    /// Everything that was found, the plan's first.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.planned.iter().chain(&self.findings)
    }

    /// Codes of errors that were not accepted; with any, nothing is started.
    pub fn refused(&self) -> Vec<String> {
        let accept = &self.request.accept;
        let mut codes: Vec<String> = Vec::new();
        for finding in self.all() {
            let stops = finding.severity == Severity::Error && !accept.contains(&finding.code);
            if stops && !codes.contains(&finding.code) {
                codes.push(finding.code.clone());
            }
        }
        codes
    }

    /// Codes to be accepted that nothing has.
    pub fn accepted_in_vain(&self) -> impl Iterator<Item = &String> {
        let accept = self.request.accept.iter();
        accept.filter(|code| self.all().all(|finding| finding.code != **code))
    }

    /// The script.
    pub fn script(&self) -> Result<String, BackendError> {
        write_script(&self.job, &self.profile, self.request.place)
    }

    /// Tokens of the whole job, if its sizes are known.
    pub fn tokens(&self) -> Option<u64> {
        preflight::tokens(&self.job)
    }

    /// What Slurm says to the script without taking it: wrong accounts and partitions, limits, quotas.
    fn ask_slurm(&mut self) {
        let is_asked = self.request.place == Place::Slurm && !self.request.is_dry;
        if !is_asked || !Slurm::is_installed() {
            return;
        }
        let Ok(script) = self.script() else {
            return;
        };
        if let Err(error) = Slurm::default().test(&script) {
            let is_silent = matches!(error, BackendError::Slow { .. });
            let code = if is_silent { "slurm-silent" } else { "slurm" };
            self.findings
                .push(Finding::error(code, error.to_string(), None));
        }
    }

    /// Makes the run directory with its script and starts it.
    pub fn start(&self) -> Result<(RunDirectory, Entry), LaunchError> {
        let refused = self.refused();
        if !refused.is_empty() {
            return Err(LaunchError::Refused(refused));
        }
        // Before there is a run: what cannot be written as a script is no run.
        self.script().map_err(LaunchError::Script)?;
        let run = run::create(
            &self.runs,
            CreateRun {
                name: self.name.clone(),
                recipe_toml: self.recipe_toml.clone(),
                source: Some(self.request.recipe.clone()),
                overrides: self.request.sets.clone(),
                tags: self.request.tags.clone(),
                ..CreateRun::default()
            },
        )?;
        let mut job = self.job.clone();
        let before = std::mem::take(&mut job.folders.run);
        run.id().clone_into(&mut job.name);
        place(&mut job, &run.path, |folder| {
            !folder.as_os_str().is_empty() && !folder.starts_with(&before)
        });
        let path = run.join(script::SCRIPT);
        let failed = |source| LaunchError::Start {
            run: Box::new(run.clone()),
            source,
        };
        let text = write_script(&job, &self.profile, self.request.place).map_err(failed)?;
        fs::write(&path, text).map_err(|source| {
            failed(BackendError::Io {
                action: "write",
                path: path.clone(),
                source,
            })
        })?;
        let entry = match self.request.place {
            Place::Slurm => Entry::Submitted {
                job: Slurm::default().submit(&path).map_err(failed)?,
                profile: self.profile.name.clone(),
                at_ms: record::now_ms(),
            },
            Place::Torchrun => torchrun::start(&run.path, &path).map_err(failed)?,
        };
        record::note(&run.path, &entry).map_err(failed)?;
        Ok((run, entry))
    }
}

fn write_script(job: &Job, profile: &Profile, place: Place) -> Result<String, BackendError> {
    match place {
        Place::Slurm => script::slurm(job, profile),
        Place::Torchrun => script::torchrun(job, profile),
    }
}
