//! `trestle convert`: weights from one format to another.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::arguments::{
    ConvertArguments, Direction, ExportArguments, ImportArguments, LayoutArguments,
    MegatronArguments, MegatronFormat, ReshardArguments, WritingArguments,
};
use super::byte_progress::ByteProgress;
use super::fetch::cancel_on_signal;
use super::layout;
use super::model::{self, Model};
use super::output::Tone;
use super::{Context, Exit, Failure, Outcome};
use crate::base::Bytes;
use crate::checkpoint::convert::{self, Conversion, HuggingFaceTarget, Options, Report, Target};
use crate::checkpoint::{Bound, CheckpointError, Weights, compare, huggingface};
use crate::mapping::Spelling;
use crate::spec::{ExpertStyle, ModelConfig};

pub(super) fn run(arguments: &ConvertArguments, context: &Context) -> Outcome {
    match &arguments.direction {
        Direction::Import(a) => import(a, context),
        Direction::Export(a) => export(a, context),
        Direction::Reshard(a) => reshard(a, context),
    }
}

fn import(arguments: &ImportArguments, context: &Context) -> Outcome {
    let input = model::directory(&arguments.input)?;
    let weights = Weights::open(&input).map_err(failure)?;
    if weights.config.is_none() {
        return Err(failure(CheckpointError::NoConfig { path: input }));
    }
    let config = weights.model().map_err(failure)?;
    let style = weights.expert_style().map_err(failure)?;
    let bound = weights.bind(&config, style).map_err(failure)?;
    let target = megatron(
        &arguments.megatron,
        &arguments.layout,
        &config,
        Some(config.to_json()),
    )?;
    let work = Work {
        name: "import",
        weights: &weights,
        bound: &bound,
        target: &target,
        output: &arguments.output,
        writing: &arguments.writing,
    };
    work.run(context)
}

fn reshard(arguments: &ReshardArguments, context: &Context) -> Outcome {
    let weights = Weights::open(&arguments.input).map_err(failure)?;
    let config = match &arguments.hf {
        Some(name) => Reference::open(name)?.config,
        None => weights.model().map_err(failure)?,
    };
    let bound = weights
        .bind(&config, ExpertStyle::QWEN3_5)
        .map_err(failure)?;
    // A model that shapes alone tell has no config to keep.
    let is_known = arguments.hf.is_some() || weights.config.is_some();
    let json = is_known.then(|| config.to_json());
    let target = megatron(&arguments.megatron, &arguments.layout, &config, json)?;
    let work = Work {
        name: "reshard",
        weights: &weights,
        bound: &bound,
        target: &target,
        output: &arguments.output,
        writing: &arguments.writing,
    };
    work.run(context)
}

fn export(arguments: &ExportArguments, context: &Context) -> Outcome {
    let weights = Weights::open(&arguments.input).map_err(failure)?;
    let reference = Reference::open(&arguments.hf)?;
    let style = match (arguments.experts, &reference.weights) {
        (Some(experts), _) => experts.into(),
        (None, Some(weights)) => weights.expert_style().map_err(failure)?,
        (None, None) => reference.experts,
    };
    let bound = weights.bind(&reference.config, style).map_err(failure)?;
    let config_text = match (arguments.writing.dtype, &reference.text) {
        // A file that says what is so stays as it is, to the byte.
        (None, Some(text)) => text.clone(),
        (dtype, _) => {
            let mut json = reference.json.clone();
            if let Some(dtype) = dtype {
                set_dtype(&mut json, dtype.name());
            }
            convert::config_text(&json)
        }
    };
    let companions = reference
        .weights
        .as_ref()
        .map(|weights| weights.path.clone());
    let target = Target::HuggingFace(HuggingFaceTarget {
        config: config_text,
        dtypes: reference.dtypes(),
        keeps_f32: reference.keeps_f32,
        max_shard_bytes: Some(arguments.max_shard_size),
        companions: companions.filter(|path| path.is_dir()),
    });
    let work = Work {
        name: "export",
        weights: &weights,
        bound: &bound,
        target: &target,
        output: &arguments.output,
        writing: &arguments.writing,
    };
    work.run(context)
}

/// A model that an option names.
pub(super) struct Reference {
    pub(super) config: ModelConfig,
    /// Its `config.json`, and the text of the file if it is one.
    json: Value,
    text: Option<Vec<u8>>,
    /// How its publication stores experts, and whether some of its types are wider.
    experts: ExpertStyle,
    keeps_f32: bool,
    /// Its weights, if there are any.
    weights: Option<Weights>,
}

impl Reference {
    /// Opens a directory, a `config.json`, a Hub id or a size.
    pub(super) fn open(name: &str) -> Result<Self, Failure> {
        let path = match model::resolve(name)? {
            Model::Registry(entry) => {
                return Ok(Self {
                    json: entry.model.to_json(),
                    text: None,
                    config: entry.model.clone(),
                    experts: entry.experts,
                    keeps_f32: entry.keeps_f32,
                    weights: None,
                });
            }
            Model::Directory(path) => path,
        };
        let config = huggingface::read_model(&path).map_err(failure)?;
        let weights = match Weights::open(&path) {
            _ if path.is_file() => None,
            Ok(weights) => Some(weights),
            Err(CheckpointError::NoWeights { .. }) => None,
            Err(error) => return Err(failure(error)),
        };
        Ok(Self {
            json: config.to_json(),
            text: std::fs::read(if path.is_dir() {
                path.join("config.json")
            } else {
                path
            })
            .ok(),
            config,
            experts: ExpertStyle::QWEN3_5,
            keeps_f32: true,
            weights,
        })
    }

    /// The types that its weights have, by name.
    fn dtypes(&self) -> HashMap<String, crate::base::DType> {
        let tensors = self.weights.iter().flat_map(|weights| &weights.tensors);
        tensors
            .filter(|tensor| tensor.dtype.is_weight())
            .map(|tensor| (tensor.name.clone(), tensor.dtype))
            .collect()
    }
}

/// Writes a type under the keys that say it.
fn set_dtype(config: &mut Value, dtype: &str) {
    let Some(top) = config.as_object_mut() else {
        return;
    };
    for key in ["dtype", "torch_dtype"] {
        if let Some(value) = top.get_mut(key) {
            *value = dtype.into();
        }
    }
    for (_, part) in top.iter_mut().filter(|(key, _)| key.ends_with("_config")) {
        set_dtype(part, dtype);
    }
}

/// What the arguments ask Megatron's side to be.
fn megatron(
    arguments: &MegatronArguments,
    layout_arguments: &LayoutArguments,
    config: &ModelConfig,
    json: Option<Value>,
) -> Result<Target, Failure> {
    let layout = layout::layout(layout_arguments, config)?;
    Ok(match arguments.format {
        MegatronFormat::Shards => Target::Shards {
            layout,
            config: json,
        },
        MegatronFormat::TorchDist => Target::TorchDist {
            vocab_rows: layout.vocab_rows,
            spelling: layout_arguments
                .spelling
                .map_or(Spelling::TransformerLayer, Into::into),
            iteration: arguments.iteration,
            config: json,
        },
    })
}

/// A conversion with its surroundings.
struct Work<'a> {
    name: &'static str,
    weights: &'a Weights,
    bound: &'a Bound,
    target: &'a Target,
    output: &'a Path,
    writing: &'a WritingArguments,
}

impl Work<'_> {
    fn run(&self, context: &Context) -> Outcome {
        let writing = self.writing;
        compare::check_repeats(self.bound, &self.weights.files).map_err(failure)?;
        let conversion = Conversion::plan(self.weights, self.bound, self.target, writing.dtype)
            .map_err(failure)?;
        if writing.dry_run {
            return self.describe(&conversion, context);
        }
        let cancel = cancel_on_signal()?;
        let options = Options {
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            overwrite: writing.overwrite,
            restart: writing.restart,
        };
        let line = ByteProgress::new(self.name);
        let result = conversion.run(
            self.output,
            &options,
            &|progress| line.show(progress),
            &cancel,
        );
        line.close();
        let report = result.map_err(failure)?;
        if writing.json {
            context.out.json(&json!({
                "path": report.path,
                "bytes": report.bytes,
                "resumed": report.resumed,
                "files": report.files,
                "tensors": report.tensors,
                "guessed_stages": self.weights.has_guessed_stages(),
                "not_finite": report
                    .not_finite
                    .iter()
                    .map(|(name, count)| json!({ "name": name, "count": count }))
                    .collect::<Vec<_>>(),
                "seconds": report.seconds,
            }))?;
        } else {
            context.out.line(sentence(&report))?;
            if self.weights.has_guessed_stages() {
                let word = context.out.paint(Tone::Warning, "warning");
                context
                    .out
                    .line(format!("{word}: {}", guessed(&self.weights.path)))?;
            }
            if let Some(text) = not_finite(&report.not_finite) {
                let word = context.out.paint(Tone::Warning, "warning");
                context.out.line(format!("{word}: {text}"))?;
            }
        }
        Ok(())
    }

    /// What would be written.
    fn describe(&self, conversion: &Conversion, context: &Context) -> Outcome {
        let files: Vec<(&str, u64)> = conversion.files().collect();
        if self.writing.json {
            let files = files
                .iter()
                .map(|(name, bytes)| json!({ "name": name, "bytes": bytes }));
            let tensors = conversion.tensors().map(|(name, shape, dtype)| {
                json!({ "name": name, "shape": shape, "dtype": dtype.name() })
            });
            context.out.json(&json!({
                "path": self.output,
                "bytes": conversion.bytes(),
                "files": files.collect::<Vec<_>>(),
                "tensors": tensors.collect::<Vec<_>>(),
            }))?;
            return Ok(());
        }
        let mut text = String::new();
        let heading = format!(
            "{} of {} ({}) into {}",
            self.name,
            self.weights.path.display(),
            self.weights.format.name(),
            self.output.display()
        );
        let _ = writeln!(text, "{}", context.out.paint(Tone::Heading, heading));
        let width = files.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, bytes) in &files {
            let _ = writeln!(text, "  {name:width$}  {:>10}", Bytes(*bytes).to_string());
        }
        let _ = writeln!(
            text,
            "{} tensors in {} files, {}",
            conversion.tensors().count(),
            files.len(),
            Bytes(conversion.bytes())
        );
        context.out.write(text)?;
        Ok(())
    }
}

/// That nothing says which layers the stages of rank files hold.
pub(super) fn guessed(path: &Path) -> String {
    format!(
        "{} has no layout.json, so each stage was taken to hold a run of layers",
        path.display()
    )
}

/// Tensors with values that are no numbers, in a sentence; none if there are none.
pub(super) fn not_finite(tensors: &[(String, u64)]) -> Option<String> {
    let shown: Vec<String> = tensors
        .iter()
        .take(3)
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    let more = match tensors.len() {
        0 => return None,
        n @ 1..=3 => {
            return Some(format!(
                "NaN or infinite values in {n} tensors: {}",
                shown.join(", ")
            ));
        }
        n => n - shown.len(),
    };
    Some(format!(
        "NaN or infinite values in {} tensors: {} and {more} more",
        tensors.len(),
        shown.join(", ")
    ))
}

fn sentence(report: &Report) -> String {
    let written = report.bytes.saturating_sub(report.resumed);
    let rate = written as f64 / report.seconds.max(1e-3);
    let kept = match report.resumed {
        0 => String::new(),
        resumed => format!(", {} of them from before", Bytes(resumed)),
    };
    format!(
        "{}: {} tensors in {} files, {}{kept}, {:.1} s, {}/s",
        report.path.display(),
        report.tensors,
        report.files,
        Bytes(report.bytes),
        report.seconds,
        Bytes(rate as u64)
    )
}

/// A checkpoint error with its exit code and hint.
pub(super) fn failure(error: CheckpointError) -> Failure {
    let exit = match &error {
        CheckpointError::Exists { .. }
        | CheckpointError::Foreign { .. }
        | CheckpointError::OtherConversion { .. }
        | CheckpointError::Cancelled
        | CheckpointError::Busy { .. }
        | CheckpointError::Space { .. } => Exit::Failure,
        CheckpointError::Io { action, .. } if *action != "read" => Exit::Failure,
        _ => Exit::Data,
    };
    let hint = error.hint();
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
