//! Trains a model directory on one batch and says how many tokens a second it takes, as one JSON line.
//!
//! ```text
//! cargo bench --bench step -- config RECIPE FOLDER                          writes the recipe's config.json into FOLDER
//! cargo bench --bench step -- FOLDER [--steps 12] [--warmup 2] [--threads 2]
//! ```
//!
//! `cpu_vs_transformers` runs both, and between them `transformers_cpu.py prepare`, which adds weights and a batch; losses are to be
//! compared with those of `transformers_cpu.py train`. A step is gradients, clipping at 1, `AdamW` with decay on matrices.
#![expect(clippy::print_stdout, reason = "the result is printed")]
#![allow(missing_docs, reason = "a program")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use trestle::nn::{BatchFile, LossScales, Model, Parameters, Recompute};
use trestle::ops::{self, adamw, reduce};
use trestle::recipe;
use trestle::spec::TextConfig;

struct Options {
    folder: PathBuf,
    steps: usize,
    warmup: usize,
    threads: usize,
}

fn options(arguments: &[String]) -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        folder: PathBuf::new(),
        steps: 12,
        warmup: 2,
        threads: 2,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let slot = match argument.as_str() {
            "--steps" => &mut options.steps,
            "--warmup" => &mut options.warmup,
            "--threads" => &mut options.threads,
            folder => {
                options.folder = folder.into();
                continue;
            }
        };
        let value = arguments
            .next()
            .ok_or(format!("{argument} needs a number"))?;
        *slot = value.parse()?;
    }
    if options.folder.as_os_str().is_empty() {
        return Err("usage: step FOLDER [--steps N] [--warmup N] [--threads N]".into());
    }
    Ok(options)
}

fn load(folder: &Path) -> Result<Model, Box<dyn Error>> {
    let config = std::fs::read_to_string(folder.join("config.json"))?;
    let config = TextConfig::from_json(&serde_json::from_str(&config)?)?;
    let parameters = Parameters::from_spec(&config, &Device::Cpu, trestle::nn::Precision::F32)?;
    let file = folder.join("model.safetensors");
    for (name, value) in candle_core::safetensors::load(file, &Device::Cpu)? {
        parameters.set(&name, &value)?;
    }
    Ok(Model::new(config, parameters, &Recompute::None)?)
}

/// One clipped step; `number` counts from 1.
fn update(
    parameters: &Parameters,
    m: &Tensor,
    v: &Tensor,
    number: u64,
) -> Result<(), Box<dyn Error>> {
    let norm = reduce::sum_of_squares(parameters.grads())?.sqrt();
    for (range, decays) in parameters.decay_ranges() {
        let part = |arena: &Tensor| arena.narrow(0, range.start, range.len());
        adamw::step(
            &part(parameters.weights())?,
            &part(parameters.grads())?,
            &part(m)?,
            &part(v)?,
            adamw::AdamW {
                lr: 1e-3,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: if decays { 0.1 } else { 0.0 },
                step: number,
                grad_scale: (1.0 / (norm + 1e-6)).min(1.0),
            },
        )?;
    }
    Ok(())
}

/// Writes the `config.json` of a recipe's model, and returns the rows and tokens of its micro-batch.
fn write_config(recipe: &Path, folder: &Path) -> Result<Value, Box<dyn Error>> {
    let loaded = recipe::load(recipe, &[], &|path| std::fs::read_to_string(path));
    let recipe = loaded.recipe.ok_or("the recipe is not valid")?;
    std::fs::create_dir_all(folder)?;
    let config = serde_json::to_string_pretty(&recipe.model.config.to_json())?;
    std::fs::write(folder.join("config.json"), config)?;
    Ok(json!({
        "batch": recipe.train.micro_batch_size,
        "sequence": recipe.train.seq_length,
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [mode, recipe, folder] = &arguments[..]
        && mode == "config"
    {
        println!("{}", write_config(Path::new(recipe), Path::new(folder))?);
        return Ok(());
    }
    let options = options(&arguments)?;
    ops::retain_heap();
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()?;
    let model = load(&options.folder)?;
    let parameters = model.parameters();
    let file = BatchFile::read(
        &options.folder.join("batch.safetensors"),
        model.config().vocab_size,
    )?;
    let [m, v] = [
        parameters.grads().zeros_like()?,
        parameters.grads().zeros_like()?,
    ];

    let (mut seconds, mut losses, mut saved) = (Vec::new(), Vec::new(), 0);
    for number in 1..=options.steps {
        let start = Instant::now();
        parameters.zero_grads()?;
        let output = model
            .forward_backward(&file.batch, &LossScales::default())?
            .read()?;
        update(parameters, &m, &v, number as u64)?;
        seconds.push(start.elapsed().as_secs_f64());
        let all = std::iter::once(&output.main).chain(&output.mtp);
        losses.push(all.map(|loss| json!(loss.mean())).collect::<Value>());
        saved = output.saved_bytes;
    }
    let fastest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let mut measured = seconds.split_off(options.warmup.min(seconds.len() - 1));
    measured.sort_by(f64::total_cmp);
    let median = measured[measured.len() / 2];
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    let result = json!({
        "stack": format!("trestle {}", env!("CARGO_PKG_VERSION")),
        "threads": options.threads,
        "tokens_per_second": (file.batch.tokens() as f64 / median).round(),
        "step_seconds": rounded(median),
        "fastest_step_seconds": rounded(fastest),
        "parameters": parameters.len(),
        "saved_bytes": saved,
        "losses": losses,
    });
    println!("{result}");
    Ok(())
}
