//! Hands a recipe to our trainer, to torchrun or to Slurm.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::arguments::{LaunchArguments, LaunchPlace, TrainArguments};
use super::output::Tone;
use super::{Context, Exit, Failure, Outcome, diagnostics, job, train};
use crate::backend::preflight::{self, Finding, Needs};
use crate::backend::profile::{self, Profile};
use crate::backend::slurm::Slurm;
use crate::backend::{self, Job, record, script, torchrun};
use crate::base::Severity;
use crate::recipe::{Init, Loaded, Recipe};
use crate::run::{self, CreateRun};
use crate::spec;

pub(super) fn run(arguments: &LaunchArguments, context: &Context) -> Outcome {
    if arguments.on == LaunchPlace::Local {
        return local(arguments, context);
    }
    let profile = choose_profile(arguments, context)?;
    let sets = &arguments.sets.set;
    let (recipe, loaded) = diagnostics::load_valid(&arguments.recipe, sets, context.color_stderr)?;
    let recipe = recipe.with_absolute_paths(&std::env::current_dir()?);
    let name = arguments.name.clone().unwrap_or_else(|| {
        let stem = arguments.recipe.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    });
    let runs = context
        .runs
        .clone()
        .unwrap_or_else(|| recipe.logging.runs.clone());
    let mut plan = make_job(arguments, &recipe, &loaded, &name)?;
    let found = {
        place(&mut plan, &std::path::absolute(&runs)?.join(&name));
        check(arguments, &profile, &recipe, &plan)
    };
    let refused: Vec<&Finding> = found
        .iter()
        .filter(|f| f.severity == Severity::Error && !arguments.accept.contains(&f.code))
        .collect();
    plan.accepted = found
        .iter()
        .filter(|f| arguments.accept.contains(&f.code))
        .map(|f| f.code.clone())
        .collect();
    plan.accepted.dedup();
    if !(arguments.json && arguments.dry_run) {
        say_findings(&found, context);
    }
    if arguments.dry_run {
        let text = write_script(arguments, &plan, &profile)?;
        if arguments.json {
            context.out.json(&json!({
                "script": text, "findings": found, "can_start": refused.is_empty(), "profile": profile.name,
                "tokens": preflight::tokens(&plan),
            }))?;
        } else {
            context.out.write(text)?;
        }
        return if refused.is_empty() {
            Ok(())
        } else {
            Err(refusal(&refused))
        };
    }
    if !refused.is_empty() {
        return Err(refusal(&refused));
    }
    let run = run::create(
        &runs,
        CreateRun {
            name,
            recipe_toml: crate::recipe::to_toml(&recipe),
            source: Some(arguments.recipe.clone()),
            overrides: sets.clone(),
            tags: Vec::new(),
            ..CreateRun::default()
        },
    )?;
    run.id().clone_into(&mut plan.name);
    place(&mut plan, &run.path);
    let path = run.join(script::SCRIPT);
    fs::write(&path, write_script(arguments, &plan, &profile)?)?;
    let entry = if arguments.on == LaunchPlace::Slurm {
        let job = Slurm::default().submit(&path).map_err(|error| {
            Failure::new(Exit::Failure, error).hint(format!(
                "the script is {}; `trestle job {} --resubmit` tries again",
                path.display(),
                run.id()
            ))
        })?;
        record::Entry::Submitted {
            job,
            profile: profile.name.clone(),
            at_ms: record::now_ms(),
        }
    } else {
        torchrun::start(&run.path, &path)?
    };
    record::note(&run.path, &entry)?;
    job::announce(&run, &entry, arguments.json, context)?;
    if arguments.follow {
        return job::follow(&run, &entry, arguments.json, context);
    }
    Ok(())
}

fn local(arguments: &LaunchArguments, context: &Context) -> Outcome {
    if arguments.dry_run {
        let (recipe, _) =
            diagnostics::load_valid(&arguments.recipe, &arguments.sets.set, context.color_stderr)?;
        train::check(&recipe)?;
        context.out.line("it can start here")?;
        return Ok(());
    }
    let train = TrainArguments {
        recipe: arguments.recipe.clone(),
        sets: arguments.sets.clone(),
        name: arguments.name.clone(),
        detach: !arguments.follow,
        json: arguments.json,
        steps: None,
    };
    train::run(&train, context)
}

fn write_script(
    arguments: &LaunchArguments,
    job: &Job,
    profile: &Profile,
) -> Result<String, Failure> {
    Ok(if arguments.on == LaunchPlace::Slurm {
        script::slurm(job, profile)?
    } else {
        script::torchrun(job, profile)?
    })
}

/// The profile that was asked for, or the only one.
fn choose_profile(arguments: &LaunchArguments, context: &Context) -> Result<Profile, Failure> {
    let path = profile::path()
        .ok_or_else(|| Exit::Usage.because("neither XDG_CONFIG_HOME nor HOME is set"))?;
    let text = fs::read_to_string(&path).map_err(|error| {
        Exit::Usage
            .because(format!("cannot read {}: {error}", path.display()))
            .hint("a profile is a table such as `[h100]` with `bridge = \"/path/to/Megatron-Bridge\"` and `gpus_per_node = 8`")
    })?;
    let (mut profiles, problems) = profile::read(&path, &text);
    for problem in &problems {
        diagnostics::print_to_stderr(&diagnostics::problem(problem, context.color_stderr));
    }
    let names: Vec<String> = profiles.iter().map(|p| p.name.clone()).collect();
    let wanted = match (&arguments.profile, names.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) if problems.is_empty() => only.clone(),
        (None, _) => {
            return Err(Exit::Usage
                .because(format!(
                    "{} has several profiles or none that is valid",
                    path.display()
                ))
                .hint(format!("--profile NAME, one of: {}", names.join(", "))));
        }
    };
    let Some(index) = names.iter().position(|name| *name == wanted) else {
        return Err(Exit::Usage
            .because(format!("no valid profile `{wanted}` in {}", path.display()))
            .hint(format!("valid ones: {}", names.join(", "))));
    };
    Ok(profiles.swap_remove(index))
}

/// The recipe as a job of Megatron-Bridge, without its folders.
fn make_job(
    arguments: &LaunchArguments,
    recipe: &Recipe,
    loaded: &Loaded,
    name: &str,
) -> Result<Job, Failure> {
    let text = |key: &str| {
        let value = &loaded.values.get(key)?.value;
        Some(value.to_string().trim_matches('"').to_owned())
    };
    let upstream = arguments
        .upstream
        .clone()
        .or_else(|| text("megatron.recipe"))
        .ok_or_else(|| {
            Exit::Recipe
                .because(format!(
                    "{} does not say which of Megatron-Bridge's recipes it is",
                    arguments.recipe.display()
                ))
                .hint("--upstream NAME, such as qwen35_vl_9b_sft_4gpu_h100_bf16_config")
        })?;
    let mut overrides = Vec::new();
    for option in &arguments.options {
        let Some((key, value)) = option.split_once('=') else {
            return Err(
                Exit::Usage.because(format!("--option {option}: KEY=VALUE is missing its ="))
            );
        };
        overrides.push((key.to_owned(), value.to_owned()));
    }
    let pretrained = match (&arguments.pretrained, &recipe.model.init) {
        (Some(folder), _) => Some(std::path::absolute(folder)?),
        (None, Init::HuggingFace(folder)) => Some(std::path::absolute(folder)?),
        (None, Init::Random) => text("megatron.checkpoint.pretrained_checkpoint")
            .map(std::path::absolute)
            .transpose()?,
    };
    let (train, schedule) = (&recipe.train, &recipe.schedule);
    Ok(Job {
        name: name.to_owned(),
        recipe: upstream,
        mode: text("megatron.mode").filter(|mode| mode != "peft"),
        model: recipe.model.name.clone(),
        parallel: recipe.parallel.clone(),
        mtp_depth: recipe.model.config.mtp_num_hidden_layers,
        sizes: backend::job::Sizes {
            steps: Some(train.steps),
            seq_length: Some(train.seq_length),
            micro_batch_size: Some(train.micro_batch_size),
            global_batch_size: Some(train.global_batch_size),
            lr: Some(recipe.optimizer.lr),
            min_lr: Some(schedule.min_lr),
            warmup_steps: Some(schedule.warmup_steps),
            decay_steps: Some(schedule.decay_steps),
            save_interval: Some(if recipe.checkpoint.interval == 0 {
                train.steps
            } else {
                recipe.checkpoint.interval
            }),
        },
        overrides,
        environment: std::collections::BTreeMap::default(),
        folders: backend::job::Folders {
            pretrained,
            ..Default::default()
        },
        accepted: Vec::new(),
    })
}

/// Gives a job its folders, all of its own, so that it resumes nobody else's checkpoints.
fn place(job: &mut Job, run: &Path) {
    let checkpoints = run.join(crate::event::layout::CHECKPOINTS);
    run.clone_into(&mut job.folders.run);
    job.folders.save.clone_from(&checkpoints);
    job.folders.load = checkpoints;
    job.folders.tensorboard = run.join(crate::event::layout::TENSORBOARD);
}

fn check(
    arguments: &LaunchArguments,
    profile: &Profile,
    recipe: &Recipe,
    job: &Job,
) -> Vec<Finding> {
    let hugging_face = match &recipe.model.init {
        Init::HuggingFace(folder) => Some(PathBuf::from(folder)),
        Init::Random => None,
    };
    let parameters = spec::parameters(&recipe.model.config).total;
    let is_tuned = ["_sft_", "_peft_", "_lora_", "_dora_", "_finetune_"];
    let needs = Needs {
        weights: is_tuned.iter().any(|word| job.recipe.contains(word)),
        // bf16 weights, f32 master weights and two f32 moments.
        checkpoint_bytes: parameters.saturating_mul(14),
        hugging_face,
        programs: if arguments.on == LaunchPlace::Slurm {
            // A dry run may be made where there is no Slurm.
            if arguments.dry_run {
                vec![]
            } else {
                vec!["sbatch", "squeue", "scancel"]
            }
        } else {
            vec!["bash"]
        },
    };
    preflight::check(job, profile, &needs)
}

fn say_findings(found: &[Finding], context: &Context) {
    let paint = |tone, text: String| super::output::paint(context.color_stderr, tone, text);
    for finding in found {
        let head = match finding.severity {
            Severity::Error => paint(Tone::Error, format!("error[{}]", finding.code)),
            Severity::Warning => paint(Tone::Warning, format!("warning[{}]", finding.code)),
        };
        let mut text = format!("{head}: {}\n", finding.message);
        if let Some(hint) = &finding.hint {
            text += &["  ", &paint(Tone::Dim, "hint:".to_owned()), " ", hint, "\n"].concat();
        }
        diagnostics::print_to_stderr(&text);
    }
}

fn refusal(refused: &[&Finding]) -> Failure {
    let mut codes: Vec<&str> = refused.iter().map(|f| f.code.as_str()).collect();
    codes.dedup();
    let accept: Vec<String> = codes
        .iter()
        .map(|code| format!("--accept {code}"))
        .collect();
    Exit::Recipe
        .because(format!("it cannot start: {}", codes.join(", ")))
        .hint(format!("{} launches all the same", accept.join(" ")))
}
