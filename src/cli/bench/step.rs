//! A recipe's whole step: in a process of nothing else, or by its trainer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::arguments::{BenchArguments, BenchDevice};
use super::super::diagnostics::load_valid;
use super::super::{Context, Exit, Failure, OrExit, Outcome, trainer};
use super::place;
use crate::app::preview::train_shape;
use crate::base::Bytes;
use crate::bench::{self, Place, Profile, Sizes, Spread, StepOptions};
use crate::event::{Event, layout};
use crate::nn::{Part, Precision, Recompute};
use crate::plan::{self, StepPlan, Storage, TrainShape};
use crate::recipe::{self, DeviceChoice, Recipe, RecomputeModule};
use crate::run::{self, CreateRun};
use crate::{spec, train};

/// What `--json` says of a step.
#[derive(Serialize)]
struct Step<'a> {
    recipe: String,
    model: &'a str,
    device: String,
    precision: &'static str,
    micro_batch: usize,
    sequence: usize,
    micro_batches: usize,
    recompute: String,
    tokens_per_second: f64,
    flops_per_token: f64,
    tflops_per_second: f64,
    #[serde(flatten)]
    profile: &'a Profile,
    /// Planned bytes by term, and the moment they are for; none on the CPU.
    plan: Option<Value>,
}

fn recipe_of(
    path: &Path,
    arguments: &BenchArguments,
    context: &Context,
    more: &[&str],
) -> Result<Recipe, Failure> {
    let mut sets = arguments.sets.set.clone();
    let device = match arguments.device {
        Some(BenchDevice::Cpu) => Some("train.device=cpu"),
        Some(BenchDevice::Cuda) => Some("train.device=cuda"),
        _ => None,
    };
    sets.extend(
        device
            .into_iter()
            .chain(more.iter().copied())
            .map(str::to_owned),
    );
    Ok(load_valid(path, &sets, context.color_stderr)?.0)
}

fn recompute(recipe: &Recipe) -> (Recompute, String) {
    let part = |module: &RecomputeModule| match module {
        RecomputeModule::CoreAttn => Part::CoreAttn,
        RecomputeModule::GatedDelta => Part::GatedDelta,
        RecomputeModule::MlpAct => Part::MlpAct,
        RecomputeModule::Norm => Part::Norm,
    };
    match &recipe.recompute {
        recipe::Recompute::None => (Recompute::None, "none".into()),
        recipe::Recompute::Full => (Recompute::Full, "full".into()),
        recipe::Recompute::Selective(modules) => {
            let parts: Vec<Part> = modules.iter().map(part).collect();
            let words = format!("selective {parts:?}");
            (Recompute::Selective(parts), words)
        }
    }
}

pub(super) fn profile(path: &Path, arguments: &BenchArguments, context: &Context) -> Outcome {
    let recipe = recipe_of(path, arguments, context, &[])?;
    let place = match (arguments.device, recipe.train.device) {
        (None | Some(BenchDevice::Auto), DeviceChoice::Cpu) => Place::Cpu,
        (None | Some(BenchDevice::Auto), DeviceChoice::Cuda) => Place::Cuda,
        (device, _) => place(device),
    };
    let device = bench::open(place).or_exit(Exit::Device)?;
    let (recompute, words) = recompute(&recipe);
    let train = &recipe.train;
    let config = &recipe.model.config;
    let depth = config.mtp_num_hidden_layers;
    let options = StepOptions {
        sizes: Sizes {
            config: config.clone(),
            micro_batch_size: train.micro_batch_size,
            seq_length: train.seq_length,
            loss_chunk: train.loss_chunk,
        },
        recompute,
        precision: if device.is_cuda() {
            Precision::Bf16
        } else {
            Precision::F32
        },
        micro_batches: (train.global_batch_size / train.micro_batch_size.max(1)).max(1),
        mtp_lambda: if depth > 0 {
            recipe.mtp.loss_scale as f32
        } else {
            0.0
        },
        cuda_graph: train.cuda_graph,
        warm_up: arguments.warm_up,
        repeat: arguments.repeat,
    };
    let plan = device.is_cuda().then(|| {
        // As measured, whatever the recipe would take on another device.
        let shape = TrainShape {
            storage: Storage::MixedBf16,
            ..train_shape(&recipe)
        };
        plan::step_plan(config, &shape.one_gpu())
    });
    let micro_batches = options.micro_batches;
    let profile = bench::profile(&device, options).or_exit(Exit::Failure)?;
    let flops = spec::flops_per_token(config, train.seq_length as f64).0;
    let step = Step {
        recipe: path.display().to_string(),
        model: &recipe.model.name,
        device: bench::name(&device).or_exit(Exit::Failure)?,
        precision: if device.is_cuda() {
            "bf16, f32 masters, gradients and moments"
        } else {
            "f32"
        },
        micro_batch: train.micro_batch_size,
        sequence: train.seq_length,
        micro_batches,
        recompute: words,
        tokens_per_second: profile.tokens_per_second,
        flops_per_token: flops,
        tflops_per_second: flops * profile.tokens_per_second * 1e-12,
        profile: &profile,
        plan: plan.as_ref().map(planned),
    };
    if arguments.json {
        return Ok(context.out.json(&step)?);
    }
    context.out.write(table(&step, plan.as_ref()))?;
    Ok(())
}

fn planned(plan: &StepPlan) -> Value {
    let terms: Vec<Value> = plan
        .terms
        .iter()
        .map(|term| json!({ "name": term.name, "bytes": term.bytes, "formula": term.formula }))
        .collect();
    json!({
        "total": plan.total,
        "allocated": plan.allocated(),
        "moment": plan.moment,
        "terms": terms,
    })
}

fn table(step: &Step, plan: Option<&StepPlan>) -> String {
    let Profile {
        step: seconds,
        phases,
        kernels,
        ..
    } = step.profile;
    let mut text = format!(
        "{} on {}: {} x {} tokens, {} micro-batches, recompute {}\n\
         {:.0} tokens/s, {:.1} TFLOP/s of the model; a step {:.2} ms ({:.2} - {:.2}, {} steps)\n",
        step.model,
        step.device,
        step.micro_batch,
        step.sequence,
        step.micro_batches,
        step.recompute,
        step.tokens_per_second,
        step.tflops_per_second,
        seconds.median * 1e3,
        seconds.min * 1e3,
        seconds.max * 1e3,
        seconds.runs,
    );
    if let Some(graphs) = graphs(step.profile.graphs, seconds.runs * step.micro_batches) {
        text += &graphs;
    }
    if let Some(failure) = &step.profile.graph_failure {
        let _ = writeln!(text, "no CUDA graphs: {failure}");
    }
    for phase in phases {
        let _ = writeln!(
            text,
            "  {:<12} {:>9.3} ms {:>5.1} %",
            phase.name,
            phase.seconds.median * 1e3,
            phase.seconds.median / seconds.median * 100.0
        );
    }
    let peaks = [
        step.profile.used_peak,
        step.profile.reserved_peak,
        step.profile.driver,
    ];
    if let [Some(used), Some(reserved), Some(driver)] = peaks {
        let _ = writeln!(
            text,
            "memory: tensors {used}, pool {reserved}, device {driver}"
        );
    }
    if let Some(plan) = plan {
        let _ = writeln!(
            text,
            "planned: {} at the {}, {} in tensors",
            plan.total,
            plan.moment,
            plan.allocated()
        );
        for term in &plan.terms {
            let _ = writeln!(
                text,
                "  {:<17} {:>10}  {}",
                term.name,
                term.bytes.to_string(),
                term.formula
            );
        }
    }
    if !kernels.is_empty() {
        text += "kernels of one step\n";
    }
    for kernel in kernels {
        let _ = writeln!(
            text,
            "  {:<44} {:>5} x {:>9.3} ms {:>5.1} %",
            kernel.name,
            kernel.calls,
            kernel.seconds * 1e3,
            kernel.share * 100.0
        );
    }
    text
}

/// How many of so many micro-batches were graphs, a line; nothing if none was.
fn graphs(graphs: u64, of: usize) -> Option<String> {
    (graphs > 0).then(|| format!("{graphs} of {of} micro-batches as CUDA graphs\n"))
}

/// What the recipe's trainer said of its own steps.
#[derive(Serialize)]
struct Trained {
    recipe: String,
    device: String,
    tokens_per_second: f64,
    step: Spread,
    /// Seconds of each part of a step, medians.
    parts: BTreeMap<String, f64>,
    /// Most bytes allocated, by the trainer.
    peak: Bytes,
    /// Micro-batches of these steps that were launched as graphs.
    graphs: u64,
    /// All of them.
    micro_batches: usize,
    last_loss: f64,
    /// The last step as the trainer said it.
    last: Value,
    /// What it said at its start.
    started: Value,
}

/// Runs the recipe's trainer in this process, in a folder that is removed afterwards.
pub(super) fn trainer(path: &Path, arguments: &BenchArguments, context: &Context) -> Outcome {
    let steps = format!(
        "train.steps={}",
        arguments.warm_up + arguments.repeat.max(1)
    );
    let quiet = [
        steps.as_str(),
        "schedule.warmup_steps=0",
        "train.eval_interval=0",
        "checkpoint.interval=0",
        "checkpoint.at_end=false",
        "logging.interval=1",
        "logging.tensorboard=false",
    ];
    let recipe = recipe_of(path, arguments, context, &quiet)?;
    let recipe = recipe.with_absolute_paths(&std::env::current_dir()?);
    super::super::train::check(&recipe)?;
    let folder = std::env::temp_dir().join(format!("trestle-bench-{}", std::process::id()));
    let run = run::create(
        &folder,
        CreateRun {
            name: "bench".into(),
            recipe_toml: recipe::to_toml(&recipe),
            source: Some(path.to_owned()),
            ..CreateRun::default()
        },
    )?;
    let trained = train::run(&run.path).map_err(trainer::failure);
    let events = std::fs::read_to_string(run.join(layout::EVENTS));
    // What cannot be removed lies in the system's temporary folder.
    let _ = std::fs::remove_dir_all(&folder);
    trained?;
    let train = &recipe.train;
    let micro_batches = (train.global_batch_size / train.micro_batch_size.max(1)).max(1);
    let trained = summary(path, &events?, arguments.warm_up, micro_batches)?;
    if arguments.json {
        return Ok(context.out.json(&trained)?);
    }
    let mut text = format!(
        "{} on {}: {:.0} tokens/s; a step {:.2} ms ({:.2} - {:.2}, {} steps); peak {}\n",
        trained.recipe,
        trained.device,
        trained.tokens_per_second,
        trained.step.median * 1e3,
        trained.step.min * 1e3,
        trained.step.max * 1e3,
        trained.step.runs,
        trained.peak,
    );
    if let Some(graphs) = graphs(trained.graphs, trained.micro_batches) {
        text += &graphs;
    }
    for (part, seconds) in &trained.parts {
        let _ = writeln!(text, "  {part:<18} {:>9.3} ms", seconds * 1e3);
    }
    context.out.write(text)?;
    Ok(())
}

fn summary(
    path: &Path,
    events: &str,
    warm_up: usize,
    micro_batches: usize,
) -> Result<Trained, Failure> {
    let mut started = Value::Null;
    let mut device = String::new();
    let mut steps = Vec::new();
    let mut last = Value::Null;
    for line in events.lines() {
        let Ok(record) = serde_json::from_str::<crate::event::Record>(line) else {
            continue;
        };
        match record.event {
            Event::Started { device: name, .. } => {
                device = name;
                started = serde_json::from_str(line)?;
            }
            Event::Step(step) => {
                steps.push(step);
                last = serde_json::from_str(line)?;
            }
            _ => {}
        }
    }
    let timed = steps.get(warm_up..).unwrap_or_default();
    let Some(end) = timed.last() else {
        return Err(Exit::Failure.because(format!(
            "the trainer did {} steps, no more than the {warm_up} of its warm-up",
            steps.len()
        )));
    };
    let median = |of: &dyn Fn(&crate::event::StepRecord) -> f64| {
        Spread::of(timed.iter().map(|step| of(step)).collect()).median
    };
    let names = timed.iter().flat_map(|step| step.parts.keys().cloned());
    let names: std::collections::BTreeSet<String> = names.collect();
    let parts = names
        .into_iter()
        .map(|name| {
            let seconds = median(&|step| step.parts.get(&name).copied().unwrap_or(0.0));
            (name, seconds)
        })
        .collect();
    Ok(Trained {
        recipe: path.display().to_string(),
        device,
        tokens_per_second: median(&|step| step.tokens_per_second),
        step: Spread::of(timed.iter().map(|step| step.step_seconds).collect()),
        parts,
        peak: Bytes(timed.iter().map(|step| step.peak).max().unwrap_or(0)),
        graphs: timed.iter().map(|step| step.graphs).sum(),
        micro_batches: timed.len() * micro_batches,
        last_loss: end.loss,
        last,
        started,
    })
}
