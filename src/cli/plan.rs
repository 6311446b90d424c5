//! What a layout costs before a GPU is asked for.

mod show;

use std::fs;
use std::path::Path;

use super::arguments::PlanArguments;
use super::{Context, Exit, Failure, Outcome, diagnostics, model};
use crate::base::Severity;
use crate::plan::{
    self, BatchShape, Constraints, Degrees, Job, Machine, MegatronRecompute, RecomputeMethod,
    machine,
};
use crate::recipe;
use crate::spec::ModelConfig;

pub(super) fn run(arguments: &PlanArguments, context: &Context) -> Outcome {
    let (job, hardware) = job_of(arguments, context)?;
    let machine = machine_of(arguments, hardware.as_deref())?;
    if arguments.fit {
        let gpus = arguments.gpus.unwrap_or(job.gpus);
        let found = plan::fit(&job, gpus, &machine, &Constraints::default());
        return show::found(&found, &machine, arguments, context);
    }
    let problems = plan::problems(&job);
    let stopped = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    match plan::plan(&job, &machine) {
        Ok(plan) => {
            if let Some(rank) = arguments.rank
                && rank >= plan.grid.world_size()
            {
                let world = plan.grid.world_size();
                return Err(Exit::Usage
                    .because(format!("rank = {rank}, but the job has {world} ranks"))
                    .hint(format!("ranks are 0 to {}", world - 1)));
            }
            show::plan(&job, &plan, &machine, arguments, context)?;
        }
        Err(_) => show::problems(&problems, arguments, context)?,
    }
    if stopped {
        return Err(Failure::said(Exit::Recipe));
    }
    Ok(())
}

/// The machine that the arguments name, or the recipe's `hardware`, or an H100.
fn machine_of(arguments: &PlanArguments, hardware: Option<&str>) -> Result<Machine, Failure> {
    let own = match &arguments.hardware {
        None => Vec::new(),
        Some(path) => {
            let text = fs::read_to_string(path)
                .map_err(|error| Exit::Usage.because(format!("{}: {error}", path.display())))?;
            Machine::read(&text)
                .map_err(|error| Exit::Usage.because(format!("{}: {error}", path.display())))?
        }
    };
    let all = machine::with(own);
    let known: Vec<_> = all.iter().map(|machine| machine.name.clone()).collect();
    let wanted = arguments.machine.as_deref().or(hardware).unwrap_or("h100");
    all.into_iter()
        .find(|machine| machine.name.eq_ignore_ascii_case(wanted))
        .ok_or_else(|| {
            Exit::Usage
                .because(format!("no machine is called \"{wanted}\""))
                .hint(format!("known: {}", known.join(", ")))
        })
}

/// The job that the arguments describe, and the machine that its recipe is for.
fn job_of(arguments: &PlanArguments, context: &Context) -> Result<(Job, Option<String>), Failure> {
    let path = Path::new(&arguments.subject);
    let is_recipe = path
        .extension()
        .is_some_and(|extension| extension == "toml");
    let mut hardware = None;
    let mut is_upstream = false;
    let mut job = if is_recipe {
        let loaded = recipe::load(path, &arguments.sets.set, &|path| fs::read_to_string(path));
        if let Some(megatron) = loaded.megatron.as_ref().filter(|_| loaded.is_readable()) {
            hardware = megatron.text("megatron.hardware").map(str::to_owned);
            is_upstream = true;
            megatron.job()
        } else if let Some(recipe) = &loaded.recipe {
            let model = ModelConfig::from(recipe.model.config.clone());
            Job::new(model, recipe::degrees(recipe), recipe::batch_shape(recipe))
        } else {
            context
                .out
                .write(diagnostics::report(&loaded, context.out.color))?;
            return Err(Failure::said(Exit::Recipe));
        }
    } else {
        let batch = BatchShape {
            seq_length: 4096,
            micro_batch_size: 1,
            global_batch_size: 0,
        };
        Job::new(model_of(&arguments.subject)?, Degrees::default(), batch)
    };
    change(&mut job, arguments, is_upstream);
    Ok((job, hardware))
}

/// Puts what the arguments say in the place of what the subject says. GPUs that the subject says itself stay as many.
fn change(job: &mut Job, arguments: &PlanArguments, says_gpus: bool) {
    let degrees = &mut job.degrees;
    let before = *degrees;
    for (given, degree) in [
        (arguments.tp, &mut degrees.tp),
        (arguments.pp, &mut degrees.pp),
        (arguments.vpp, &mut degrees.vpp),
        (arguments.cp, &mut degrees.cp),
        (arguments.ep, &mut degrees.ep),
        (arguments.etp, &mut degrees.etp),
    ] {
        *degree = given.unwrap_or(*degree);
    }
    if arguments.tp.is_some() {
        degrees.sequence_parallel = degrees.tp > 1;
    }
    let shape = &mut job.batch;
    shape.seq_length = arguments.sequence.unwrap_or(shape.seq_length);
    shape.micro_batch_size = arguments.micro_batch.unwrap_or(shape.micro_batch_size);
    let degrees = job.degrees;
    let kept = (says_gpus && degrees != before).then_some(job.gpus);
    if let Some(gpus) = arguments.gpus.or(kept) {
        *job = job.clone().with_gpus(gpus);
    } else if degrees != before {
        // As many as the degrees take.
        job.gpus = [degrees.tp, degrees.cp, degrees.dp, degrees.pp]
            .into_iter()
            .fold(1usize, usize::saturating_mul);
    }
    let step = job.degrees.dp.saturating_mul(job.batch.micro_batch_size);
    let global = match job.batch.global_batch_size {
        0 if arguments.fit => 1024,
        0 => step.saturating_mul(8),
        given => given,
    };
    job.batch.global_batch_size = arguments.global_batch.unwrap_or(global);
    if arguments.full_recompute {
        job.megatron.recompute = MegatronRecompute::Full {
            method: RecomputeMethod::Uniform,
            num_layers: 1,
        };
    }
    if degrees.cp > 1 {
        job.megatron.per_token_loss = true;
        job.megatron.average_in_collective = false;
    }
}

fn model_of(name: &str) -> Result<ModelConfig, Failure> {
    let path = match model::resolve(name)? {
        model::Model::Registry(entry) => return Ok(entry.model.clone()),
        model::Model::Directory(path) => path,
    };
    let file = if path.is_dir() {
        path.join("config.json")
    } else {
        path
    };
    let wrong = |error: String| Exit::Data.because(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
    let json = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    ModelConfig::from_json(&json).map_err(|error| wrong(error.to_string()))
}
